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
"""Bytes of a socket path, at most. A longer one does not fit into sockaddr_un (108 bytes on Linux, 104 on macOS)."""
INIT_TIMEOUT_SECONDS = 180.0


class MysqlServer(Service):
    """A server that listens on a Unix socket alone, in a folder that only we can enter. So `root` needs no password.

    It has its default durability. Raises ConfigurationError when there is no server on the PATH.
    """

    name = "database"
    error_class = DatabaseError
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
        self._socket_folder: tempfile.TemporaryDirectory[str] | None = None
        self.data_dir = folder / "data"
        self.socket_path = folder / "mysql.sock"
        if len(str(self.socket_path)) > MAX_SOCKET_PATH:
            self._socket_folder = tempfile.TemporaryDirectory(prefix="ss-", dir="/tmp")  # with mode 0700
            self.socket_path = Path(self._socket_folder.name) / "mysql.sock"

    @property
    def label(self) -> str:
        """The name of the product, for people."""
        return "MariaDB" if self._is_mariadb else "MySQL"

    @property
    def _is_mariadb(self) -> bool:
        return "MariaDB" in self._version

    async def prepare(self) -> Sequence[str]:
        self.folder.chmod(0o700)
        self._version = (
            await self._run_to_end([self._program, "--no-defaults", "--version"], "asking for its version")
        ).output
        if not self.data_dir.exists():
            await self._run_to_end(self._init_command(), "initializing its folder")
        words = [
            self._program,
            "--no-defaults",
            f"--datadir={self.data_dir}",
            f"--socket={self.socket_path}",
            "--skip-networking",
        ]
        words += [f"--pid-file={self.folder / 'mysqld.pid'}", *self._root_options()]
        return words if self._is_mariadb else [*words, "--mysqlx=OFF", "--secure-file-priv=NULL"]

    def is_ready(self) -> bool:
        """Return True when the server sends its greeting (protocol version 10)."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(1.0)
                connection.connect(str(self.socket_path))
                return connection.recv(5)[4:] == b"\x0a"
        except OSError:
            return False

    async def stop(self) -> None:
        await super().stop()
        if self._socket_folder is not None:
            self._socket_folder.cleanup()

    def _init_command(self) -> list[str]:
        if not self._is_mariadb:
            return [
                self._program,
                "--no-defaults",
                "--initialize-insecure",
                f"--datadir={self.data_dir}",
                *self._root_options(),
            ]
        script = find_program("mariadb-install-db", "mysql_install_db")
        if script is None:
            raise ConfigurationError(
                "mariadb-install-db, which belongs to the MariaDB server, is not on the PATH.",
                hint="Install the whole server (Debian: apt-get install mariadb-server).",
            )
        # There is no --user, not even as root: with it the script changes the owner of a file in the system's plugin
        # folder.
        words = [script, "--no-defaults", f"--datadir={self.data_dir}", "--skip-test-db"]
        return [*words, "--auth-root-authentication-method=normal"]

    @staticmethod
    def _root_options() -> list[str]:
        return ["--user=root"] if os.geteuid() == 0 else []

    async def _run_to_end(self, argv: Sequence[str], action: str) -> Child:
        child = Child(self.name, argv, folder=self.folder, log_file=self.folder / "init.log")
        await child.start()
        code: int | None
        try:
            async with asyncio.timeout(INIT_TIMEOUT_SECONDS):
                code = await child.wait()
        except TimeoutError:
            code = await child.kill()
        except asyncio.CancelledError:
            await child.kill()
            raise
        if code:
            lines = " | ".join(child.last_log_lines[-4:] or child.output.splitlines()[-4:])
            raise DatabaseError(f"{argv[0]} failed with {code} while {action}: {lines}")
        return child
