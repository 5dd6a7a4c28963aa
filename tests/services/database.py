"""A private MariaDB or MySQL."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import pymysql
import pymysql.cursors

from sensorsync.commands import init_db
from sensorsync.config import DatabaseSettings, Settings
from tests.services.certificates import Certificates
from tests.services.process import REAL_MYSQL, Server, which


class DatabaseServer(Server):
    """A MariaDB server from the PATH, or the Oracle MySQL of the real-mysql folder that SENSORSYNC_TEST_MYSQLD names.

    Durable as by default. Account `root` has no password; `prepare` makes the accounts of `sensorsync init-db --grants`, all of them
    with `password`, and the tables. `options` go to the server as they are. With `tls` it offers these certificates.
    """

    user = "sensorsync_subscriber"
    """The account of `subscribe`: what is not about administration works with it."""
    password = "sesame"
    name = "sensorsync"

    def __init__(self, *, tls: Certificates | None = None, options: Sequence[str] = ()) -> None:
        super().__init__()
        self.data = self.folder / "data"
        self.socket = self.folder / "sock"
        self.options = [*options]
        if tls:
            self.options += [f"--ssl-ca={tls.authority}", f"--ssl-cert={tls.server}", f"--ssl-key={tls.server_key}"]

    @staticmethod
    def missing() -> str | None:
        """What to install, or None when it can be started."""
        if is_oracle_mysql() or (which("mariadbd") and which("mariadb-install-db")):
            return None
        return "mariadbd is not on the PATH (Debian: apt-get install mariadb-server)"

    def command(self) -> Sequence[str]:
        return [
            *_database_words(self.data),
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            f"--socket={self.socket}",
            f"--pid-file={self.folder / 'pid'}",
            *self.options,
        ]

    def start(self) -> Self:
        if self.data.exists():
            return super().start()
        shutil.copytree(_database_template(), self.data)
        super().start()
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE `{self.name}`")
        return self

    def settings(self, role: str = "subscriber", name: str | None = None, **changes: Any) -> DatabaseSettings:
        """Settings of the account `role` for the database `name`, by default its own."""
        words: dict[str, Any] = {
            "host": self.host,
            "port": self.port,
            "user": f"sensorsync_{role}",
            "password": self.password,
            "name": name or self.name,
        }
        return DatabaseSettings(**{**words, **changes})

    def environment(self, role: str = "subscriber", name: str | None = None) -> dict[str, str]:
        """The same as environment variables."""
        return {
            "DB_HOST": self.host,
            "DB_PORT": str(self.port),
            "DB_USER": f"sensorsync_{role}",
            "DB_PASSWORD": self.password,
            "DB_NAME": name or self.name,
        }

    def allow(self, *roles: str, name: str | None = None, **changes: Any) -> None:
        """Make the accounts of these roles, as root, by the statements that `sensorsync init-db --grants` prints."""
        flavor = "mysql" if is_oracle_mysql() else "mariadb"
        printed = init_db.grants(Settings(database=self.settings(name=name, **changes)), flavor=flavor).data["accounts"]
        with self.connect() as connection, connection.cursor() as cursor:
            for account in printed:
                for statement in account["statements"] if account["role"] in roles else ():
                    cursor.execute(statement.replace(account["password"], f"'{self.password}'"))

    def prepare(self, name: str | None = None, **changes: Any) -> None:
        """What a careful administrator does: the accounts, and the tables made by their owner. `changes` are settings."""
        self.allow("owner", name=name, **changes)
        assert not init_db.run(Settings(database=self.settings("owner", name, **changes))).problems
        self.allow("subscriber", "replayer", "tuner", name=name, **changes)

    def answers(self) -> bool:
        try:
            self.connect(connect_timeout=1, read_timeout=5).close()
        except pymysql.Error:
            return False
        return True

    def connect(self, **changes: Any) -> pymysql.connections.Connection[pymysql.cursors.Cursor]:
        """A connection over TCP as root, autocommit on; `changes` go to `pymysql.connect`."""
        words: dict[str, Any] = {
            "host": self.host,
            "port": self.port,
            "user": "root",
            "charset": "utf8mb4",
            "autocommit": True,
        }
        return pymysql.connect(**{**words, **changes})


def is_oracle_mysql() -> bool:
    """Whether database tests run against Oracle MySQL."""
    return bool(os.environ.get("SENSORSYNC_TEST_MYSQLD"))


def _database_words(data: Path) -> list[str]:
    # Each has its own: a server that starts removes the temporary tables of the others in a folder that they share.
    more = [f"--tmpdir={data.parent}", *(["--user=root"] if os.geteuid() == 0 else [])]
    if folder := os.environ.get("SENSORSYNC_TEST_MYSQLD"):
        root = Path(folder).resolve() / "root"
        words = [str(REAL_MYSQL), "exec", folder, "mysqld", "--no-defaults", f"--basedir={root / 'usr'}"]
        return [
            *words,
            "--mysqlx=OFF",
            "--performance-schema=OFF",
            "--secure-file-priv=NULL",
            f"--datadir={data}",
            *more,
        ]
    return [which("mariadbd") or "mariadbd", "--no-defaults", f"--datadir={data}", *_blackhole_words(), *more]


def _blackhole_words() -> list[str]:
    """Load MariaDB's storage engine BLACKHOLE where it is installed, or where tests/run.sh put it."""
    words = ["--plugin-load-add=ha_blackhole"]
    if Path("/usr/lib/mysql/plugin/ha_blackhole.so").exists():
        return words
    own = Path(sys.prefix) / "mariadb-plugins"
    return [f"--plugin-dir={own}", *words] if own.exists() else []


@functools.cache
def _database_template() -> Path:
    """A freshly initialised data folder, made once per test session: copying it takes a tenth of the time."""
    folder = Path(tempfile.mkdtemp(prefix="ss-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    data = folder / "data"
    if is_oracle_mysql():
        words = [*_database_words(data), "--initialize-insecure"]
    else:
        # Without --user, also as root: with it the script changes the owner of a file in the system's plugin folder.
        words = [
            which("mariadb-install-db") or "mariadb-install-db",
            "--no-defaults",
            f"--datadir={data}",
            "--skip-test-db",
        ]
        words += ["--auth-root-authentication-method=normal"]
    environment = {**os.environ, "TMPDIR": str(folder)}
    done = subprocess.run(words, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"cannot initialise a database folder:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return data
