"""Devices that attack: SQL in every text, bombs, topics that act on terminals. With `subscribe` as a process and a real database."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.bad_input import GOOD, GOOD_READING
from tests.commands import Commands, Finished
from tests.conftest import Database
from tests.fakes import FakeBroker, InThread
from tests.letters import in_box

pytestmark = [pytest.mark.timeout(360), pytest.mark.database]

INJECTIONS = [
    "'; DROP TABLE sensor_readings; -- x",
    "\\'; DROP TABLE sensor_readings; -- x",
    "\\\\'; DELETE FROM canary; -- x",
    "'),('a','b','2026-01-02',X'00',1,NULL,NULL,'t','2026-01-02','{}');DELETE FROM canary;-- x",
    "' ON DUPLICATE KEY UPDATE value=SLEEP(100)-- x",
    "x' OR '1'='1",
    "'/**/OR/**/1=1#",
    "/*!50000 '; DROP TABLE canary */ --",
    "' UNION SELECT LOAD_FILE('/etc/passwd') -- x",
    "'; SET GLOBAL read_only=ON; -- x",
    "ends with a backslash\\",
    "\\",
    "''",
    '"; DROP TABLE canary; -- x',
    "`; DROP TABLE canary; -- x",
    "\u02bc\u2019\uff07; DROP TABLE canary; -- x",
    "\u00bf\u005c'; DROP TABLE canary; -- x",
    "%s %(value)s %d %% {0} {} ${x} $(reboot) `reboot`",
]
FIELDS = ("device_id", "metric", "unit", "event_id", "value", "topic", "name of a member", "member")


def evil_readings() -> list[tuple[str, dict[str, Any]]]:
    """(topic, reading): each injection in each field alone, then in all of them."""
    made = []
    for number, injection in enumerate(INJECTIONS):
        for field in (*FIELDS, "all"):
            chosen = FIELDS if field == "all" else (field,)
            reading = {**GOOD, "event_id": f"{number}-{field}", "test": f"{number}-{field}"}
            reading |= {"unit": injection[:32]} if "unit" in chosen else {}
            reading |= {name: injection for name in chosen if name in {"device_id", "metric", "value"}}
            reading |= {"event_id": f"{injection} {number}-{field}"} if "event_id" in chosen else {}
            reading |= {injection: injection} if "name of a member" in chosen else {}
            reading |= {"member": {"list": [injection]}} if "member" in chosen else {}
            made.append((f"t/{injection.replace('#', '')}" if "topic" in chosen else "t/x", reading))
    return made


def subscribed_to(
    broker: InThread[FakeBroker], database: Database, folder: Path, messages: Iterable[tuple[str, bytes]]
) -> Finished:
    """Have `subscribe` take all of these messages, as a process, in the least room that a log level leaves."""
    messages = list(messages)
    commands = Commands(
        {
            "MQTT_BROKER": f"127.0.0.1:{broker.port}",
            **database.environment(),
            "SENSORSYNC_MQTT__TOPICS": "t/#",
            "SENSORSYNC_MQTT__CONNECTIONS": "1",
            "SENSORSYNC_STATE_DIR": str(folder / "state"),
        }
    )
    words = ("--log-level", "DEBUG", "subscribe", "--max-messages", str(len(messages)))
    with commands.start(folder / "subscribe.log", *words) as process:
        process.logged("link(s)")
        for topic, payload in messages:
            broker.do(partial(publish, topic=topic, payload=payload))
        return process.finish(60)


async def publish(broker: FakeBroker, topic: str, payload: bytes) -> None:
    await broker.publish(topic, payload)


def rows(database: Database, query: str) -> list[tuple[Any, ...]]:
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute(query)
        return list(cursor.fetchall())


def test_sql_in_any_field_is_a_text_like_any_other(database: Database, tmp_path: Path) -> None:
    database.prepare()
    rows(database, "CREATE TABLE canary (alive INT)")
    with database.connect() as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO canary VALUES (1)")
        connection.commit()
    tables = rows(database, "SHOW TABLES")
    sent = evil_readings()

    with InThread(FakeBroker()) as broker:
        ended = subscribed_to(
            broker, database, tmp_path, ((topic, json.dumps(reading).encode()) for topic, reading in sent)
        )

    assert ended.exit_code == 0, ended.err
    assert in_box(tmp_path / "state" / "dead-letters.sqlite") == []
    found = {
        json.loads(row[5])["test"]: row
        for row in rows(database, "SELECT device_id, metric, unit, value_text, topic, payload FROM sensor_readings")
    }
    assert len(found) == len(sent)
    for topic, reading in sent:
        device_id, metric, unit, text, stored_topic, payload = found[reading["test"]]
        assert (device_id, metric, unit, stored_topic) == (
            reading["device_id"],
            reading["metric"],
            reading.get("unit"),
            topic,
        )
        assert text == (reading["value"] if isinstance(reading["value"], str) else None)
        assert json.loads(payload) == reading
    assert rows(database, "SHOW TABLES") == tables
    assert rows(database, "SELECT alive FROM canary") == [(1,)]


BOMBS = {
    "deep arrays": (b"[" * 100_000 + b"]" * 100_000, "nesting"),
    "deep objects": (b'{"a":' * 40_000 + b"1" + b"}" * 40_000, "nesting"),
    "deep and unfinished": (b'{"a":' * 50_000, "nesting"),
    "wide": (GOOD_READING[:-1] + b"".join(b',"%d":[]' % n for n in range(20_000)) + b"}", None),
    "the same name over and over": (GOOD_READING[:-1] + b',"x":1' * 40_000 + b"}", None),
    "two devices": (GOOD_READING[:-1] + b',"device_id":"other"}', None),
    "an integer of 5000 digits": (GOOD_READING.replace(b"21.5", b"9" * 5000), "nan"),
    "a fraction of 5000 digits": (GOOD_READING.replace(b"21.5", b"0." + b"1" * 5000), None),
    "1e999": (GOOD_READING.replace(b"21.5", b"1e999"), "nan"),
    "-1e999": (GOOD_READING.replace(b"21.5", b"-1e999"), "nan"),
    "1e-999": (GOOD_READING.replace(b"21.5", b"1e-999"), None),
    "an exponent of 20 digits": (GOOD_READING.replace(b"21.5", b"1e99999999999999999999"), "nan"),
    "a huge number in a member": (GOOD_READING[:-1] + b',"x":1e999}', "nan"),
    "NaN": (GOOD_READING.replace(b"21.5", b"NaN"), "nan"),
    "-Infinity": (GOOD_READING.replace(b"21.5", b"-Infinity"), "nan"),
    "a lone surrogate": (GOOD_READING[:-1] + b',"x":"\\udc00"}', "json"),
    "a lone surrogate as a name": (GOOD_READING[:-1] + b',"\\ud800":1}', "json"),
    "surrogates in UTF-8": (GOOD_READING[:-1] + b',"x":"\xed\xa0\x80"}', "encoding"),
    "UTF-16": (GOOD_READING.decode().encode("utf-16"), "encoding"),
    "a byte order mark": (b"\xef\xbb\xbf" + GOOD_READING, "json"),
    "a NUL in a text": (GOOD_READING.replace(b"21.5", b'"\\u0000"'), "value"),
    "a NUL in a name": (GOOD_READING.replace(b"boiler-1", b"\\u0000"), "device_id"),
    "too large": (GOOD_READING + b" " * 300_000, "too_large"),
    "a year of 5 digits": (GOOD_READING.replace(b"2026-", b"99999-"), "ts"),
    "a time of 200,000 digits": (GOOD_READING.replace(b".678901", b"." + b"1" * 200_000), None),
    "nothing": (b"", "json"),
    "zeros": (bytes(1000), "json"),
}


def test_no_bomb_stops_the_subscriber_and_each_has_its_outcome(database: Database, tmp_path: Path) -> None:
    database.prepare()
    evil = "\x1b]0;owned\x07\x1b[2J\r\n2026-01-02 00:00:00 ERROR forged\u202e\u2028%s{}"

    with InThread(FakeBroker()) as broker:
        ended = subscribed_to(
            broker,
            database,
            tmp_path,
            [
                *((f"t/{name}", payload) for name, (payload, _) in BOMBS.items()),
                (f"t/{evil}", b"a topic that acts"),
                ("t/after", GOOD_READING),
            ],
        )

    assert ended.exit_code == 0, ended.err
    letters = {letter.topic: letter.reason for letter in in_box(tmp_path / "state" / "dead-letters.sqlite")}
    assert letters == {f"t/{evil}": "json"} | {f"t/{name}": reason for name, (_, reason) in BOMBS.items() if reason}
    devices = {row[0] for row in rows(database, "SELECT device_id FROM sensor_readings")}
    assert devices == {"boiler-1", "other"}
    assert not [line for line in ended.err.splitlines() if not line.isprintable()]
    assert "Traceback" not in ended.err


def test_only_the_user_can_look_into_the_state_folder_and_read_dead_letters(database: Database, tmp_path: Path) -> None:
    database.prepare()

    with InThread(FakeBroker()) as broker:
        assert subscribed_to(broker, database, tmp_path, [("t/x", b"no reading")]).exit_code == 0

    state = tmp_path / "state"
    letters = list(state.glob("dead-letters*"))
    assert letters
    assert {path.stat().st_mode & 0o777 for path in letters} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (state, state / "sessions")} == {0o700}
