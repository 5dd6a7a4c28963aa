"""Messages that are wrong, each in its own way, with what has to become of them: a letter, and the rows of their good parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.acceptance.mixed.stream import Message

POISON: Final = "ALTER TABLE sensor_readings ADD CONSTRAINT poison CHECK (metric <> 'mem.poison')"
"""With this the database refuses one field of a telegraf message."""
MENDED: Final = (
    "ALTER TABLE sensor_readings DROP CONSTRAINT poison",
    "ALTER TABLE machine_state MODIFY state VARCHAR(64) NOT NULL",
)
"""After these it refuses nothing any more."""


@dataclass(frozen=True)
class Garbage:
    message: Message
    reason: str
    bad: Sequence[int] | None
    """Indices of its rejected rows; None: it is no message of several rows."""
    recipe: str = ""
    good: Sequence[dict[str, Any]] = ()
    """The rows that are stored all the same."""
    later: Sequence[dict[str, Any]] = ()
    """Those that are stored once the database is mended."""


def garbage(number: int) -> Garbage:
    """The `number`-th piece; all are distinct, and all kinds come in turn."""
    return _KINDS[number % len(_KINDS)](number // len(_KINDS))


def _cut_off(n: int) -> Garbage:
    return Garbage(Message(f"tele/g{n}/SENSOR", b'{"Time": "2026-01-15T08:30:00", "BME280": {"Temp'), "json", None)


def _no_utf8(n: int) -> Garbage:
    return Garbage(Message("zigbee2mqtt/garbage", b'{"note": "\xff%d"}' % n), "encoding", None)


def _no_time(n: int) -> Garbage:
    return Garbage(Message(f"zigbee2mqtt/g{n}", b'{"battery": 90, "linkquality": 7}'), "ts", [0, 1])


def _nothing_in_it(n: int) -> Garbage:
    status = (
        b'{"src": "g%d", "method": "NotifyStatus", "params": {"ts": 1772345760.5, "script:1": {"running": false}}}' % n
    )
    return Garbage(Message("garbage/events/rpc", status), "empty", None)


def _one_record_without_a_time(n: int) -> Garbage:
    records = (
        b'[{"n": "g:%d:a", "t": 1772345760, "v": 1}, {"n": "g:%d:b", "v": 2}, {"n": "g:%d:c", "t": 1772345760, "v": 3}]'
    )
    good = [_row(f"g:{n}:{name}", "value", "2026-03-01 06:16:00.000000", value) for name, value in (("a", 1), ("c", 3))]
    return Garbage(Message("senml/garbage", records % (n, n, n)), "ts", [1], "senml", good)


def _one_line_without_a_number(n: int) -> Garbage:
    lines = b"01.03.2026 07:00:00;1;50;ok\n01.03.2026 07:10:00;-;51;ok\n01.03.2026 07:20:00;3;?;ok\n"
    times = [f"2026-03-01 06:{minute}:00.000000" for minute in ("00", "10", "20")]
    good = [
        *(_row(f"g{n}", "temperature", ts, value, "degC") for ts, value in ((times[0], 1), (times[2], 3))),
        *(_row(f"g{n}", "humidity", ts, value, "%") for ts, value in ((times[0], 50), (times[1], 51))),
        *(_row(f"g{n}", "status", ts, "ok") for ts in times),
    ]
    return Garbage(Message(f"logger/g{n}/csv", lines), "value", [3, 7], "csv", good)


def _one_field_that_the_database_refuses(n: int) -> Garbage:
    line = b"mem,host=g%d used=1,poison=2,free=3 1772345743000000000" % n
    rows = [
        _row(f"g{n}", f"mem.{name}", "2026-03-01 06:15:43.000000", value)
        for name, value in (("used", 1), ("poison", 2), ("free", 3))
    ]
    return Garbage(Message(f"telegraf/g{n}/mem", line), "database", [1], "influx", [rows[0], rows[2]], [rows[1]])


def _longer_than_its_column(n: int) -> Garbage:
    state = f"a state that is longer than its column is {n}"
    row = {"line": "g", "machine": f"g{n}", "measured_at": "2026-03-01 06:15:42.000000", "state": state, "speed": None}
    payload = b'{"at": "2026-03-01T06:15:42Z", "state": "%s"}' % state.encode()
    return Garbage(Message(f"plant/g/g{n}/state", payload), "database", None, "own-table", later=[row])


def _no_key(n: int) -> Garbage:
    return Garbage(Message(f"plant/g/g{n}/state", b'{"at": null, "state": "running"}'), "value", None)


def _unit_that_nobody_knows(n: int) -> Garbage:
    payload = b'{"Time": "2026-01-15T08:30:00", "SI7021": {"Temperature": 1, "Humidity": 2}, "TempUnit": "K%d"}' % n
    good = [_row("garbage", "SI7021.humidity", "2026-01-15 07:30:00.000000", 2, "%")]
    payload = payload.replace(b"08:30:00", b"08:%02d:%02d" % divmod(n, 60))
    ts = "2026-01-15 07:{:02}:{:02}.000000".format(*divmod(n, 60))
    return Garbage(Message("tele/garbage/SENSOR", payload), "unit", [0], "tasmota", [{**good[0], "ts": ts}])


def _neither_on_nor_off(n: int) -> Garbage:
    return Garbage(Message(f"garbage/switch/g{n}/state", b"PERHAPS"), "value", None)


def _no_reading(n: int) -> Garbage:
    payload = b'{"event_id": "g%d", "metric": "temperature", "ts": "2026-03-01T06:15:42Z", "value": 1}' % n
    return Garbage(Message("plain", payload), "device_id", None)


_KINDS: Final = (
    _cut_off,
    _no_utf8,
    _no_time,
    _nothing_in_it,
    _one_record_without_a_time,
    _one_line_without_a_number,
    _one_field_that_the_database_refuses,
    _longer_than_its_column,
    _no_key,
    _unit_that_nobody_knows,
    _neither_on_nor_off,
    _no_reading,
)


def _row(device: str, metric: str, ts: str, value: float | str, unit: str | None = None) -> dict[str, Any]:
    return {"device_id": device, "metric": metric, "ts": ts, "value": value, "unit": unit}
