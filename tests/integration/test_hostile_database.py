"""A server that poses as the database: it learns no password and no file of ours, and nothing that it says acts on a terminal."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pymysql
import pytest

from sensorsync.cli import main
from sensorsync.config import DatabaseSettings
from sensorsync.storage.mysql.clear_text import auth_plugin_arguments
from sensorsync.storage.mysql.connect import ConnectionFactory
from tests.unit.console.test_hostile_text import EVIL, harmless

PASSWORD = "marker-s3cret"
_OK = b"\x00\x00\x00\x02\x00\x00\x00"
_NATIVE = b"mysql_native_password\x00"
_CAPABILITIES = 0x0F8FF7DF & ~0x800
"""What a server of today can do, but for TLS."""


def greeting() -> bytes:
    """Protocol::HandshakeV10."""
    low, high = _CAPABILITIES & 0xFFFF, _CAPABILITIES >> 16
    return (
        b"\x0a8.0.99-evil\x00\x01\x00\x00\x00" + b"8 bytes." + b"\x00" + low.to_bytes(2, "little") + b"\x2d\x02\x00"
        + high.to_bytes(2, "little") + b"\x15" + bytes(10) + b"twelve bytes\x00" + _NATIVE
    )  # fmt: skip


def refusal(errno: int, text: str) -> bytes:
    return b"\xff" + errno.to_bytes(2, "little") + b"#HY000" + text.encode()


class Rogue:
    """Answers each packet of a client with the next one of its script, the last one again and again; a greeting comes first."""

    def __init__(self, *script: bytes) -> None:
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.received = b""

    @contextmanager
    def running(self) -> Iterator[Rogue]:
        thread = threading.Thread(target=self._serve, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            thread.join(5)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client, suppress(OSError):
                self._talk(client)

    def _talk(self, client: socket.socket) -> None:
        number = 0
        for answer in chain(self._script, repeat(self._script[-1])):
            client.sendall(len(answer).to_bytes(3, "little") + bytes([number]) + answer)
            data = client.recv(65536)
            if not data:
                return
            self.received += data
            number = data[3] + 1


def connector(rogue: Rogue, **tls: Any) -> ConnectionFactory:
    return ConnectionFactory(
        DatabaseSettings.model_validate(
            {"host": "127.0.0.1", "port": rogue.port, "password": PASSWORD, "tls": {"mode": "preferred", **tls}}
        )
    )


@pytest.mark.parametrize("plugin", [b"mysql_clear_password\x00", b"dialog\x00\x05Password: "])
@pytest.mark.parametrize("mode", ["disabled", "preferred"])
def test_a_server_that_nobody_checked_does_not_get_the_password_in_the_clear(plugin: bytes, mode: str) -> None:
    with Rogue(greeting(), b"\xfe" + plugin, _OK).running() as rogue:
        to = connector(rogue, mode=mode)
        with pytest.raises(pymysql.OperationalError, match="verify-identity") as refused:
            to.open(to.new_connection())

    assert refused.value.args[0] == 2061
    assert rogue.received
    assert PASSWORD.encode() not in rogue.received


def test_a_checked_server_and_one_on_this_machine_may_ask_for_it() -> None:
    for settings in (
        {"tls": {"mode": "verify-ca"}},
        {"tls": {"mode": "verify-identity"}},
        {"unix_socket": "/run/mysqld.sock"},
    ):
        assert auth_plugin_arguments(DatabaseSettings.model_validate(settings)) == {}
    for mode in ("disabled", "preferred", "required"):
        assert auth_plugin_arguments(DatabaseSettings.model_validate({"tls": {"mode": mode}}))


def test_a_server_that_asks_for_a_file_gets_none(tmp_path: Path) -> None:
    """LOAD DATA LOCAL is asked for by the server's answer, whatever the statement was."""
    file = tmp_path / "private"
    file.write_text("nobody else's")
    with Rogue(greeting(), _OK, b"\xfb" + bytes(file)).running() as rogue:
        to = connector(rogue)
        with pytest.raises(RuntimeError, match="LOAD_LOCAL"):
            to.open(to.new_connection())

    assert b"nobody else's" not in rogue.received


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("command", [["init-db", "--check"], ["audit", "run"], ["audit", "run", "--json"]])
@pytest.mark.parametrize(
    "script",
    [
        (refusal(1040, EVIL),),
        (refusal(9999, EVIL),),
        (greeting(), refusal(1045, EVIL)),
        (greeting(), _OK, refusal(1064, EVIL)),
    ],
    ids=["greeting", "unknown errno", "login", "statement"],
)
def test_no_error_text_of_a_server_acts_on_the_terminal(
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Any,
    form: str,
    command: list[str],
    script: tuple[bytes, ...],
) -> None:
    monkeypatch.chdir(tmp_path)
    with Rogue(*script).running() as rogue:
        monkeypatch.setenv("DB_HOST", "127.0.0.1")
        monkeypatch.setenv("DB_PORT", str(rogue.port))
        assert main(["--log-format", form, *command]) == 4

    shown = capfd.readouterr()
    assert harmless(shown.out + shown.err)
    assert "forged" in shown.out + shown.err
