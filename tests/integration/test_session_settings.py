"""A proxy that answers SET with OK and does not pass it on: no setting of a server turns data into SQL, or changes what is stored."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from itertools import product

import pytest

from sensorsync.pipeline.contract import (
    BatchRejected,
    Reading,
    SinkMisconfigured,
    SinkUnavailable,
    SinkVerificationFailed,
)
from sensorsync.storage.mysql import session
from sensorsync.storage.mysql.connect import ConnectionPool
from sensorsync.storage.mysql.sink import MySqlSink
from sensorsync.storage.mysql.store import MySqlStore
from tests.conftest import Database
from tests.fakes import InThread, MySqlProxy
from tests.integration.mysql_bench import PLAIN, run_as_root, settings_for
from tests.integration.test_hostile_messages import INJECTIONS
from tests.rows import reading, readings

pytestmark = pytest.mark.database

STRICT = "STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
RIGHT = (
    f"SET NAMES utf8mb4 COLLATE utf8mb4_bin, SESSION sql_mode = '{STRICT}', SESSION time_zone = '+00:00',"
    " SESSION {isolation} = 'READ-COMMITTED'"
)
MODES = (
    "",
    "NO_BACKSLASH_ESCAPES",
    "ANSI_QUOTES,PIPES_AS_CONCAT",
    "NO_BACKSLASH_ESCAPES,ANSI_QUOTES,HIGH_NOT_PRECEDENCE,IGNORE_SPACE",
    f"{STRICT},PAD_CHAR_TO_FULL_LENGTH,NO_BACKSLASH_ESCAPES",
)
CHARSETS = ("utf8mb4", "utf8mb3", "latin1", "gbk", "big5", "sjis", "cp932")
SETTINGS = [
    f"SET character_set_client = {charset}, character_set_connection = {charset}, character_set_results = {charset},"
    f" sql_mode = '{mode}', time_zone = '-05:00'"
    for mode, charset in product(MODES, CHARSETS)
]
# A lead byte of gbk, big5 and sjis before a quote or a backslash can make one character of the two, or free the quote.
TEXTS = INJECTIONS + [
    before + after
    for before, after in product(
        ("", "\u00bf", "\u00e9", "\u8868", "\u30bd", "\U0001f321", "\ufffd", "\x1a", "\0", "\x7f"),
        ("'", "\\", "\\'", "',X'00',1)-- ", "\"'\\\n\r\t"),
    )
]  # fmt: skip


def nasty_reading(number: int, text: str) -> Reading:
    payload = json.dumps({"text": text, text: 1}, ensure_ascii=False)
    return reading(number, device_id=text, value_text=text, topic=text, unit=text[:64], payload=payload)


@pytest.fixture
def proxy(database: Database) -> Iterator[InThread[MySqlProxy]]:
    database.prepare()
    with InThread(MySqlProxy(database.port)) as running:
        yield running


def swallow(proxy: InThread[MySqlProxy], replacement: str | None) -> None:
    """Let no SET of ours reach the server, and this one instead; None: let them pass."""

    def change(running: MySqlProxy) -> None:
        running.set_replacement = replacement

    proxy.do(change)


def store_behind(database: Database, proxy: InThread[MySqlProxy]) -> MySqlStore:
    return MySqlStore(settings_for(database.server, database.name, port=proxy.port, tls=PLAIN))


def session_of(database: Database, **changes: str) -> str:
    """The statement of a session that is right but for these variables."""
    mysql_only = run_as_root(database.server, "SHOW VARIABLES LIKE 'tx_isolation'") == []
    right = RIGHT.format(isolation="transaction_isolation" if mysql_only else "tx_isolation")
    return ", ".join([right, *(f"SESSION {name} = '{value}'" for name, value in changes.items())])


def stored(database: Database) -> dict[bytes, tuple[str, str, str, str, object]]:
    query = "SELECT event_id, device_id, value_text, topic, unit, payload FROM sensor_readings"
    rows = run_as_root(database.server, query, database=database.name)
    return {row[0]: (*row[1:5], json.loads(row[5])) for row in rows}


def expected(row: Reading) -> tuple[str, str | None, str, str | None, object]:
    return row.device_id, row.value_text, row.topic, row.unit, json.loads(row.payload)


def test_there_are_as_many_texts_and_settings_as_the_field_had() -> None:
    assert (len(TEXTS), len(set(SETTINGS))) == (68, 35)


@pytest.mark.timeout(300)
def test_whatever_the_session_is_instead_every_row_is_kept(database: Database, proxy: InThread[MySqlProxy]) -> None:
    rows = [nasty_reading(number, text) for number, text in enumerate(TEXTS)]
    for settings in SETTINGS:
        swallow(proxy, settings)
        with contextlib.closing(store_behind(database, proxy)) as store:
            with pytest.raises(SinkMisconfigured, match="the session's sql_mode is"):
                store.check_schema()
            sink = store.create_sink(0)
            with pytest.raises(SinkVerificationFailed):
                sink.write(rows)
            sink.close()
    assert stored(database) == {}


@pytest.mark.timeout(300)
def test_the_literals_alone_are_right_under_every_setting(
    database: Database, proxy: InThread[MySqlProxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second line of defence: behind a proxy that changes the session after it was read back.

    Only a text that has neither quote nor backslash, but characters beyond ASCII, comes out as another one there.
    """
    monkeypatch.setattr(session, "session_differences", lambda _: [])
    texts = [text for text in TEXTS if text.isascii() or set("'\\\0").intersection(text)]
    assert len(texts) == 67
    rows = [nasty_reading(number, text) for number, text in enumerate(texts)]
    for settings in SETTINGS:
        swallow(proxy, settings)
        sink = MySqlSink(ConnectionPool(settings_for(database.server, database.name, port=proxy.port, tls=PLAIN)))
        assert sink.write(rows) == len(rows), settings
        assert stored(database) == {row.event_id: expected(row) for row in rows}, settings
        sink.close()
        run_as_root(database.server, "DELETE FROM sensor_readings", database=database.name)


WRONG = [
    ({"sql_mode": ""}, "sql_mode is empty, not STRICT_ALL_TABLES"),
    ({"sql_mode": f"{STRICT},NO_BACKSLASH_ESCAPES"}, "sql_mode is .*NO_BACKSLASH_ESCAPES"),
    ({"time_zone": "-05:00"}, r"time_zone is -05:00, not \+00:00"),
    ({"character_set_client": "latin1"}, "character_set_client is latin1, not utf8mb4"),
    ({"character_set_connection": "gbk"}, "character_set_connection is gbk, not utf8mb4"),
    ({"character_set_results": "latin1"}, "character_set_results is latin1, not utf8mb4"),
    ({"collation_connection": "utf8mb4_general_ci"}, "collation_connection is utf8mb4_general_ci, not utf8mb4_bin"),
    ({"isolation": "REPEATABLE-READ"}, "transaction isolation is REPEATABLE-READ, not READ-COMMITTED"),
]


@pytest.mark.parametrize(("changes", "words"), WRONG, ids=[next(iter(changes)) for changes, _ in WRONG])
def test_a_setting_that_is_not_in_effect_is_named_with_the_likely_cause(
    database: Database, proxy: InThread[MySqlProxy], changes: dict[str, str], words: str
) -> None:
    if "isolation" in changes:
        name = session_of(database).rpartition("SESSION ")[2].partition(" ")[0]
        changes = {name: changes["isolation"]}
    swallow(proxy, session_of(database, **changes))
    with (
        contextlib.closing(store_behind(database, proxy)) as store,
        pytest.raises(SinkMisconfigured, match=words) as refused,
    ):
        store.check_schema()
    assert "mysql_query_rules" in (refused.value.hint or "")


def test_a_session_that_is_right_is_taken_whoever_has_set_it(database: Database, proxy: InThread[MySqlProxy]) -> None:
    swallow(proxy, session_of(database))
    with contextlib.closing(store_behind(database, proxy)) as store:
        store.check_schema()
        assert store.create_sink(0).write(readings(3)) == 3


def test_each_set_has_one_variable(database: Database, proxy: InThread[MySqlProxy]) -> None:
    """Of several in one statement ProxySQL applies those that it knows, drops the others and answers OK."""
    with contextlib.closing(store_behind(database, proxy)) as store:
        store.check_schema()
    sets = [query for query in proxy.do(lambda p: list(p.queries)) if query.startswith("SET ")]
    assert len(sets) >= 6
    assert all(query.count("=") <= 1 for query in sets)


def test_a_writer_keeps_its_batch_while_a_reconnect_finds_another_session_and_goes_on_by_itself(
    database: Database, proxy: InThread[MySqlProxy]
) -> None:
    with contextlib.closing(store_behind(database, proxy)) as store:
        sink = store.create_sink(0)
        assert sink.write(readings(2)) == 2
        # When
        swallow(proxy, session_of(database, sql_mode=""))
        proxy.do(lambda p: p.cut())
        errors: list[SinkUnavailable] = []
        for _ in range(3):
            with pytest.raises(SinkUnavailable) as refused:
                sink.write(readings(5))
            errors.append(refused.value)
        # Then
        assert all(isinstance(error, SinkVerificationFailed) for error in errors[1:])
        assert len(stored(database)) == 2
        swallow(proxy, None)
        assert sink.write(readings(5)) == 3
        sink.close()


def test_a_session_that_changes_under_a_connection_is_noticed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a proxy that shares connections, the next transaction can run in another session."""
    database.prepare()
    monkeypatch.setattr("sensorsync.storage.mysql.batch_verifier.SESSION_INTERVAL", 0.0)
    sink = MySqlSink(ConnectionPool(settings_for(database.server, database.name)))
    sink.write(readings(1))
    assert sink._lease is not None
    sink._lease.checks.clear()
    with sink._lease.connection.cursor() as cursor:
        cursor.execute("SET sql_mode = ''")
    with pytest.raises(SinkVerificationFailed, match="sql_mode is empty"):
        sink.write(readings(2))
    assert sink.write(readings(2)) == 1
    sink.close()


def test_what_no_character_set_has_is_refused_and_nothing_else(database: Database) -> None:
    database.prepare()
    sink = MySqlSink(ConnectionPool(settings_for(database.server, database.name)))
    for text in ("\ud800", "'\ud800"):
        with pytest.raises(BatchRejected):
            sink.write([reading(1, device_id=text)])
    assert sink.write(readings(2)) == 2
    sink.close()
