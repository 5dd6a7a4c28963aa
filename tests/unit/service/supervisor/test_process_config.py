"""The configuration of a child process: it gets the settings of its supervisor by a pipe, and exits when the pipe is closed."""

from __future__ import annotations

import os
import subprocess
import sys
from io import BytesIO

import pytest

from sensorsync.config import Settings
from sensorsync.config.sections.mappings import EXAMPLE_MAPPINGS
from sensorsync.errors import UsageError
from sensorsync.service.supervisor import ProcessConfig, receive_config
from sensorsync.service.supervisor.process_config import parse_config
from tests.services import eventually

EVERYTHING = {
    "mqtt": {
        "host": "broker",
        "username": "u",
        "password": "swordfish",
        "tls": {"ca_file": "/ca.pem", "key_password": "k", "cert_file": "/c.pem", "key_file": "/k.pem"},
        "topics": ["a/#", "b/+"],
        "connections": 7,
        "keep_alive": "1500ms",
    },
    "database": {"password": "sesame", "tls": {"mode": "verify-ca"}, "unix_socket": "/s"},
    "security": {
        "signatures": "required",
        "keys": [{"id": "one", "secret": "x" * 32}, {"id": "two", "secret_file": "/key"}],
        "max_age": "1h",
    },
    "dead_letters": {"max_size": "2GiB"},
    "state_dir": "/state",
    "mappings": EXAMPLE_MAPPINGS,
}

CHILD = """
import sys, threading
from sensorsync.service.supervisor import receive_config
handover = receive_config(sys.stdin.buffer)
print(handover.settings.mqtt.password.get_secret_value(), handover.until_idle, flush=True)
threading.Event().wait(60)
"""


@pytest.mark.parametrize("document", [{}, EVERYTHING])
def test_the_settings_are_received_unchanged_including_secrets(document: dict[str, object]) -> None:
    settings = Settings.model_validate(document)
    line = ProcessConfig(settings, 17, 2.5).to_json_line()
    assert line.count(b"\n") == 1
    assert parse_config(line) == ProcessConfig(settings, 17, 2.5)


@pytest.mark.parametrize("line", [b"", b"hello\n", b"[]\n", b"{}\n", b'{"settings": {"mqtt": 3}, "parent": 1}\n'])
def test_any_other_standard_input_is_a_usage_error(line: bytes) -> None:
    with pytest.raises(UsageError, match="not for people"):
        receive_config(BytesIO(line))


def test_the_process_exits_when_the_pipe_is_closed() -> None:
    """Test the systems without a parent-death signal: here the parent continues to run."""
    with subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(ProcessConfig(Settings.model_validate(EVERYTHING), os.getpid()).to_json_line())
        process.stdin.flush()
        assert process.stdout.readline() == b"swordfish None\n"
        assert process.poll() is None
        process.stdin.close()
        eventually(lambda: process.poll() is not None, "its end")
