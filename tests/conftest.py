"""Fixtures for everybody: a private broker, a private database, an environment that holds nothing of the user's."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import hypothesis
import pymysql
import pytest

from sensorsync.config import DatabaseSettings
from sensorsync.console.logs import ROOT_LOGGER, StderrHandler
from tests.services import Certificates, DatabaseServer, Mosquitto, Server

# `pytest --hypothesis-profile=fuzz` is the long run; a loaded machine is no failure, so there is no deadline.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.register_profile("fuzz", deadline=None, max_examples=100_000, print_blob=True)
hypothesis.settings.load_profile("suite")

_FIXTURE_MARKERS = {
    "mosquitto": "broker",
    "database_server": "database",
    "database": "database",
    "private_database_server": "database",
}

# The well-known names that the configuration takes as aliases.
_ALIASES = (
    "MQTT_BROKER_HOST", "MQTT_BROKER_PORT", "MQTT_BROKER", "MQTT_USERNAME", "MQTT_PASSWORD", "CA_CERT_PATH", "DB_HOST", "DB_PORT",
    "DB_USER", "DB_PASSWORD", "DB_NAME", "LOG_LEVEL", "WORKER_BATCH_SIZE", "CONNECTION_POOL_SIZE", "TOTAL_MESSAGES", "CONCURRENCY",
)  # fmt: skip


@dataclass(frozen=True)
class Database:
    """An empty database of one test, on a server that the tests share."""

    server: DatabaseServer
    name: str

    @property
    def host(self) -> str:
        return self.server.host

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def user(self) -> str:
        return self.server.user

    @property
    def password(self) -> str:
        return self.server.password

    def settings(self, role: str = "subscriber", **changes: Any) -> DatabaseSettings:
        """Settings of the account `role` for this database."""
        return self.server.settings(role, self.name, **changes)

    def environment(self, role: str = "subscriber") -> dict[str, str]:
        """The same as environment variables."""
        return self.server.environment(role, self.name)

    def allow(self, *roles: str) -> None:
        """Make the accounts of these roles."""
        self.server.allow(*roles, name=self.name)

    def prepare(self) -> None:
        """Make the accounts, and the tables by their owner."""
        self.server.prepare(self.name)

    def without_tables(self) -> None:
        """Make the accounts only."""
        self.prepare()
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute("DROP TABLE sensor_readings")

    def connect(self, **changes: Any) -> pymysql.connections.Connection[Any]:
        """A connection as root, in this database."""
        return self.server.connect(**{"database": self.name, **changes})


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the tests marked `long`, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark each test with the services that its fixtures start; leave out the long ones, unless asked for."""
    for item in items:
        for name in getattr(item, "fixturenames", ()):
            if marker := _FIXTURE_MARKERS.get(name):
                item.add_marker(marker)
    if not config.getoption("--long"):
        too_long = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=too_long)
        items[:] = [item for item in items if item not in too_long]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A worker of pytest-xdist sends its reports as UTF-8, which has no lone surrogates; what some tests log has."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


def need(service: type[Mosquitto | DatabaseServer]) -> None:
    """Skip the test where the service is not installed; fail it in CI, where it has to be."""
    if missing := service.missing():
        not_installed(missing)


def not_installed(what: str) -> NoReturn:
    """Skip the test, `what` being the reason; fail it in CI, where all has to be there."""
    if os.environ.get("CI", "").lower() not in {"", "0", "false"}:
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(autouse=True)
def private_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the user's reaches a test, and no test writes into the user's folders."""
    for name in (
        *_ALIASES,
        *(n for n in os.environ if n.startswith("SENSORSYNC_") and not n.startswith("SENSORSYNC_TEST_")),
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SENSORSYNC_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg-state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg-config"))


@pytest.fixture(autouse=True)
def private_logging() -> Iterator[None]:
    """A command that a test runs in its own process sets up the logging; the next test must not be deaf because of that."""
    root, ours = logging.getLogger(), logging.getLogger(ROOT_LOGGER)
    level = ours.level
    yield
    for handler in [handler for handler in root.handlers if isinstance(handler, StderrHandler)]:
        root.removeHandler(handler)
    ours.setLevel(level)
    logging.captureWarnings(capture=False)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates.issue(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def mosquitto() -> Iterator[Mosquitto]:
    """A fresh broker that queues without bound."""
    need(Mosquitto)
    with Mosquitto() as broker:
        yield broker


@pytest.fixture(scope="session")
def database_server() -> Iterator[DatabaseServer]:
    """The server that the tests share. A test that kills or reconfigures one takes `private_database_server`."""
    need(DatabaseServer)
    with DatabaseServer() as server:
        yield server


@pytest.fixture
def private_database_server() -> Iterator[DatabaseServer]:
    """A server of this test alone, to be killed, frozen and reconfigured."""
    need(DatabaseServer)
    with DatabaseServer() as server:
        yield server


@contextmanager
def empty_database(server: DatabaseServer) -> Iterator[Database]:
    """A new database on `server`, which no account but root may use before `prepare`."""
    name = f"{DatabaseServer.name}_{uuid.uuid4().hex[:12]}"
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE `{name}`")
    yield Database(server, name)
    with server.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"DROP DATABASE IF EXISTS `{name}`")


@pytest.fixture
def database(database_server: DatabaseServer) -> Iterator[Database]:
    """An empty database of this test alone."""
    with empty_database(database_server) as made:
        yield made


__all__ = ["Certificates", "Database", "DatabaseServer", "Mosquitto", "Server", "empty_database", "need"]
