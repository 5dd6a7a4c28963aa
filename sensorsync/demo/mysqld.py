"""A private MariaDB or MySQL server from the PATH."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sensorsync.demo.child import Child
from sensorsync.demo.service import Service, find_program
from sensorsync.errors import ConfigurationError, DatabaseError

MAX_SOCKET_PATH = 100
"""A longer path does not fit into sockaddr_un (108 bytes on Linux, 104 on macOS)."""
INIT_SECONDS = 180.0


class MysqlServer(Service):
    """A server that listens on a Unix socket alone, in a folder that only we can enter: so `root` needs no password.

    As durable as by default. Raises ConfigurationError when there is no server on the PATH.
    """

    name = "database"
    error = DatabaseError
    user = "root"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        program = find_program("mariadbd", "mysqld")
        if program is None:
            raise ConfigurationError(
                "There is no MariaDB or MySQL server (mariadbd, mysqld) on the PATH.",
                hint="Install one (Debian: apt-get install mariadb-server), or leave out --mysql to use SQLite.",
            )
        self._program = program
        self._version = ""
        self._elsewhere: tempfile.TemporaryDirectory[str] | None = None
        self.data = folder / "data"
        self.socket = folder / "mysql.sock"
        if len(str(self.socket)) > MAX_SOCKET_PATH:
            self._elsewhere = tempfile.TemporaryDirectory(prefix="ss-", dir="/tmp")  # with mode 0700
            self.socket = Path(self._elsewhere.name) / "mysql.sock"

    @property
    def label(self) -> str:
        """What it is, for people."""
        return "MariaDB" if self._is_mariadb else "MySQL"

    @property
    def _is_mariadb(self) -> bool:
        return "MariaDB" in self._version

    async def prepare(self) -> Sequence[str]:
        self.folder.chmod(0o700)
        self._version = (
            await self._run([self._program, "--no-defaults", "--version"], "asking for its version")
        ).output
        if not self.data.exists():
            await self._run(self._init_words(), "initializing its folder")
        words = [
            self._program,
            "--no-defaults",
            f"--datadir={self.data}",
            f"--socket={self.socket}",
            "--skip-networking",
        ]
        words += [f"--pid-file={self.folder / 'mysqld.pid'}", *self._as_root()]
        return words if self._is_mariadb else [*words, "--mysqlx=OFF", "--secure-file-priv=NULL"]

    def answers(self) -> bool:
        """Whether it sends its greeting (protocol version 10)."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(1.0)
                connection.connect(str(self.socket))
                return connection.recv(5)[4:] == b"\x0a"
        except OSError:
            return False

    async def stop(self) -> None:
        await super().stop()
        if self._elsewhere is not None:
            self._elsewhere.cleanup()

    def _init_words(self) -> list[str]:
        if not self._is_mariadb:
            return [self._program, "--no-defaults", "--initialize-insecure", f"--datadir={self.data}", *self._as_root()]
        script = find_program("mariadb-install-db", "mysql_install_db")
        if script is None:
            raise ConfigurationError(
                "mariadb-install-db, which belongs to the MariaDB server, is not on the PATH.",
                hint="Install the whole server (Debian: apt-get install mariadb-server).",
            )
        # Without --user, also as root: with it the script changes the owner of a file in the system's plugin folder.
        words = [script, "--no-defaults", f"--datadir={self.data}", "--skip-test-db"]
        return [*words, "--auth-root-authentication-method=normal"]

    @staticmethod
    def _as_root() -> list[str]:
        return ["--user=root"] if os.geteuid() == 0 else []

    async def _run(self, words: Sequence[str], doing: str) -> Child:
        child = Child(self.name, words, folder=self.folder, log=self.folder / "init.log")
        await child.start()
        code: int | None
        try:
            async with asyncio.timeout(INIT_SECONDS):
                code = await child.wait()
        except TimeoutError:
            code = await child.kill()
        except asyncio.CancelledError:
            await child.kill()
            raise
        if code:
            lines = " | ".join(child.last_lines[-4:] or child.output.splitlines()[-4:])
            raise DatabaseError(f"{words[0]} failed with {code} while {doing}: {lines}")
        return child
