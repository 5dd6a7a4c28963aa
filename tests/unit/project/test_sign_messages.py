"""docs/how-to/sign-messages.md: its programs are run as they stand there, and its configuration opens what they make."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sensorsync.commands import keys
from sensorsync.config import SecuritySettings, load
from sensorsync.config.loading import yaml_file
from sensorsync.wiring import envelope
from tests.conftest import not_installed

PAGE = Path(__file__).parents[3] / "docs/how-to/sign-messages.md"
PROGRAMS = dict(re.findall(r"<!-- program: (\S+) -->\n\n```\w+\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
MESSAGE = '{"event_id":"e1","device_id":"Kühlraum 7","metric":"m","ts":"2026-01-02T03:04:05Z","value":21.5}'.encode()
SIGNING = ("hs256.py", "eddsa.py", "hs256.mjs", "eddsa.mjs")
ENCRYPTING = ("encrypt.py", "encrypt.mjs")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page's keys and programs, in one folder."""
    folder = tmp_path_factory.mktemp("device")
    for key_id, algorithm in (("2026-a", "HS256"), ("gateway-7", "EdDSA"), ("content-2026", "A256GCM")):
        keys.generate(key_id, algorithm, folder)
    for name, text in PROGRAMS.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def security(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SecuritySettings:
    """The page's configuration."""
    monkeypatch.setattr(yaml_file, "SYSTEM_FILE", tmp_path / "none")
    return load(folder / "sensorsync.yaml", {}, {}, tmp_path).settings.security


def made(folder: Path, program: str, message: bytes) -> bytes:
    """What a program of the page makes of a message."""
    runtime = {".py": sys.executable, ".mjs": shutil.which("node")}[Path(program).suffix]
    if runtime is None:
        not_installed("node is not on the PATH (Debian: apt-get install nodejs)")
    done = subprocess.run([runtime, program], cwd=folder, input=message, capture_output=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.mark.parametrize("program", SIGNING)
def test_what_the_page_signs_is_verified(folder: Path, security: SecuritySettings, program: str) -> None:
    assert security.signatures == "required"
    assert envelope(security).verify_and_decrypt(made(folder, program, MESSAGE)) == MESSAGE


@pytest.mark.parametrize("program", ENCRYPTING)
def test_what_the_page_encrypts_is_decrypted(folder: Path, security: SecuritySettings, program: str) -> None:
    token = made(folder, program, made(folder, "eddsa.py", MESSAGE))
    strict = security.model_copy(update={"encryption": "required"})
    assert envelope(strict).verify_and_decrypt(token) == MESSAGE
    assert token != made(folder, program, made(folder, "eddsa.py", MESSAGE))


def test_what_the_page_signs_in_c_is_verified(folder: Path, security: SecuritySettings) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        not_installed("there is no C compiler (Debian: apt-get install gcc libc6-dev)")
    words = [compiler, "-Wall", "-Wextra", "-Werror", "-O2", "-o", "hs256", "hs256.c", "-lmbedcrypto"]
    built = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    if "mbedtls/" in built.stderr and "No such file" in built.stderr:
        not_installed("the headers of Mbed TLS are missing (Debian: apt-get install libmbedtls-dev)")
    assert built.returncode == 0, built.stderr
    for message in (MESSAGE, MESSAGE + b" ", MESSAGE + b"  "):
        done = subprocess.run(
            [folder / "hs256"], cwd=folder, input=message, capture_output=True, check=True, timeout=30
        )
        assert envelope(security).verify_and_decrypt(done.stdout) == message


def test_every_program_of_the_page_is_run_by_a_test() -> None:
    assert set(PROGRAMS) == {*SIGNING, *ENCRYPTING, "hs256.c", "sensorsync.yaml"}
    assert PAGE.read_text(encoding="utf-8").count("```") == 2 * (
        len(PROGRAMS) + 1
    )  # and the commands that make the keys
