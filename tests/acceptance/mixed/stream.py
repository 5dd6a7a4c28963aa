"""A stream of all recipes: their sample messages, each varied so that no two are the same, and the rows that each has to become.

What a sample becomes is written down beside it (`samples/*.expected.json`), by people; how many rows each message gives, stands here.
A variation changes the text of the message (device, day, ids, a value) and the expected rows alike, and knows nothing of mappings.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import yaml

from sensorsync.commands.map_samples import Sample, read_samples

FOLDER: Final = Path(__file__).parents[3] / "examples/mappings"

# ESPHome comes last: its topics are of any first level.
ROWS: Final[Mapping[str, Sequence[int]]] = {
    "zigbee2mqtt": (6, 4, 4, 6, 2),
    "tasmota": (3, 2, 3, 3, 2, 3, 4),
    "shelly-gen2": (2, 1, 4, 5, 2, 2),
    "shelly-gen2-status": (6, 1),
    "home-assistant": (1, 1, 1, 1, 1, 1),
    "chirpstack": (6, 2, 2, 1),
    "the-things-stack": (6, 2, 1),
    "senml": (7, 3, 1, 4),
    "influx": (4, 2, 1, 3),
    "csv": (5, 3),
    "own-table": (1, 0, 1, 1),
    "esphome": (1, 1, 1, 1, 1, 1, 1),
}
"""Recipe -> how many rows each of its samples gives; 0: the next sample corrects it, and is not sent."""
BY_ARRIVAL: Final = {"esphome", "home-assistant", "shelly-gen2-status"}
"""Recipes of messages without a time: its key has the time of arrival in it, so a redelivery may be a row more."""
_DAYS: Final = 14
"""Days over which a device is varied: so few that no sample comes into another month, or out of daylight saving time."""


@dataclass(frozen=True)
class Message:
    topic: str
    payload: bytes


@dataclass
class Expected:
    """Rows by what makes them this row."""

    readings: dict[str, tuple[float | str, str | None]] = field(default_factory=dict)
    """device|metric|ts -> (value, unit)."""
    by_arrival: dict[str, tuple[float | str, str | None]] = field(default_factory=dict)
    """device|metric -> the same."""
    states: dict[str, tuple[str, int | None]] = field(default_factory=dict)
    """Of the own table: line|machine|time -> (state, speed)."""

    def __len__(self) -> int:
        return len(self.readings) + len(self.by_arrival) + len(self.states)


def configuration() -> dict[str, Any]:
    """All recipes as one configuration."""
    mappings: list[Any] = []
    for recipe in ROWS:
        mappings += yaml.safe_load((FOLDER / f"{recipe}.yaml").read_text(encoding="utf-8"))["mappings"]
    # One filter for all of them: a message that two filters of a shared subscription match comes twice.
    return {"mqtt": {"topics": ["#"]}, "mappings": mappings}


def target_table() -> str:
    """The statement that makes the own table, in its recipe's words."""
    found = re.search(r"CREATE TABLE .*?;", (FOLDER / "own-table.yaml").read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return found[0].replace("\n#", "\n").rstrip(";")


@dataclass(frozen=True)
class Template:
    """One sample, and the rows that it becomes."""

    recipe: str
    place: int
    """Which of the recipe's samples."""
    message: Message
    rows: Sequence[Mapping[str, Any]]

    @property
    def device(self) -> str:
        """What is varied: as it stands in the message."""
        first = self.rows[0]
        name: str = first.get("machine") or first["device_id"]
        if self.recipe == "senml":
            return "0024befffe" if "0024befffe" in name else "10e2073a0108"
        return name.partition(".")[2] if self.recipe == "home-assistant" else name

    def vary(self, number: int) -> tuple[Message, list[dict[str, Any]]]:
        """The `number`-th variation: message and rows."""
        index, days = (number, 0) if self.recipe in BY_ARRIVAL else divmod(number, _DAYS)
        other = f"{index:0{len(self.device)}x}" if self.recipe == "senml" else f"{self.device}-{self.place}-{index}"
        payload = _later(self.message.payload.replace(self.device.encode(), other.encode()), days)
        payload = re.sub(rb'("deduplicationId":")[0-9a-f]{8}', rb"\g<1>%08x" % number, payload)
        rows = [
            {
                name: value.replace(self.device, other)
                if name in {"device_id", "machine"}
                else _shifted(value, name, days)
                for name, value in row.items()
            }
            for row in self.rows
        ]
        return Message(self.message.topic.replace(self.device, other), self._with_value(payload, rows, number)), rows

    def _with_value(self, payload: bytes, rows: Sequence[dict[str, Any]], number: int) -> bytes:
        """Another value in the first row, where its text stands in the message exactly once."""
        name = "speed" if self.recipe == "own-table" else "value"
        value = rows[0][name]
        if isinstance(value, str) or value in (0, 1):
            return payload
        changed, count = re.subn(
            rb"(?<![\w.-])%s(?![\d.])" % re.escape(str(value).encode()), b"%d" % (2 + number), payload
        )
        if count != 1:
            return payload
        rows[0][name] = 2 + number
        return changed


def templates() -> list[Template]:
    """One for each sample that is sent."""
    found: list[Template] = []
    for recipe, counts in ROWS.items():
        with (FOLDER / f"samples/{recipe}.jsonl").open("rb") as stream:
            samples = [one.delivery for one in read_samples(stream) if isinstance(one, Sample)]
        rows = json.loads((FOLDER / f"samples/{recipe}.expected.json").read_text(encoding="utf-8"))
        assert (len(samples), len(rows)) == (len(counts), sum(counts)), f"ROWS[{recipe!r}] is not what its samples give"
        for place, (sample, count) in enumerate(zip(samples, counts, strict=True)):
            if count:
                found.append(Template(recipe, place, Message(sample.topic, sample.payload), rows[:count]))
                rows = rows[count:]
    return found


def stream(count: int) -> Iterator[tuple[str, Message, list[dict[str, Any]]]]:
    """So many messages, all recipes in turn, each with its recipe and its rows."""
    found = templates()
    for number in range(count):
        template = found[number % len(found)]
        yield template.recipe, *template.vary(number // len(found))


def take(expected: Expected, recipe: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Expect these rows, too."""
    for row in rows:
        if recipe == "own-table":
            expected.states[f"{row['line']}|{row['machine']}|{row['measured_at']}"] = row["state"], row["speed"]
        elif recipe in BY_ARRIVAL:
            expected.by_arrival[f"{row['device_id']}|{row['metric']}"] = row["value"], row["unit"]
        else:
            expected.readings[f"{row['device_id']}|{row['metric']}|{row['ts']}"] = row["value"], row["unit"]


def _shifted(value: Any, name: str, days: int) -> Any:
    if name not in {"ts", "measured_at"}:
        return value
    return f"{datetime.fromisoformat(value) + timedelta(days=days):%Y-%m-%d %H:%M:%S.%f}"


def _later(payload: bytes, days: int) -> bytes:
    """All times of this spring and summer so many days later, however they are written."""
    payload = re.sub(rb"(2026-\d\d-)(\d\d)(?=T)", lambda found: b"%s%02d" % (found[1], int(found[2]) + days), payload)
    payload = re.sub(rb"(\d\d)(?=\.\d\d\.2026 )", lambda found: b"%02d" % (int(found[1]) + days), payload)
    payload = re.sub(rb"(?<!\d)17723\d{5}", lambda found: b"%d" % (int(found[0]) + days * 86_400), payload)
    double = re.search(rb"\xfb(\x41\xda......)", payload, re.DOTALL)  # CBOR: a time as a double
    if double:
        (seconds,) = struct.unpack(">d", double[1])
        payload = payload.replace(double[1], struct.pack(">d", seconds + days * 86_400))
    return payload
