"""Target tables: every element is a row, whose key never depends on the time of arrival."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from sensorsync.messages.mapping import Mapping, MappingError, Source
from sensorsync.messages.reading import Column, Rejected, TableRow, TargetTable
from sensorsync.messages.reading.fields import STRING_ID
from tests.unit.messages.mapping.specs import (
    EVENT,
    OF_MESSAGE,
    STORED_TS,
    TOPIC,
    constant,
    message,
    parts,
    path,
    refused,
    row,
    spec,
    table,
)

MACHINE = Source(topic="{device}")
AT = path("ts", type="time")
EVENT_BYTES = uuid.UUID(EVENT).bytes


def field(name: Any, **changes: Any) -> Source:
    return Source(field=name, **changes)


def test_a_message_becomes_a_row_of_the_table() -> None:
    mapped = table(
        {"machine": MACHINE, "at": AT, "celsius": path("value", type="number"), "note": path("x")}, ("machine", "at")
    )
    found = row(mapped, message())
    assert found == TableRow(mapped.table, ("sensor", STORED_TS, 21.5, None), None)  # type: ignore[arg-type]


def test_a_column_may_have_a_field_of_the_mapping() -> None:
    names = ("event_id", "device_id", "ts", "topic", "received_at", "payload")
    mapped = table(
        {name: field(name) for name in names},
        ("event_id",),
        device_id=MACHINE,
        event_id=(path("id"),),
        ts=path("ts"),
        keep="nothing",
    )
    found = row(mapped, message())
    assert found.values == (EVENT_BYTES, "sensor", STORED_TS, TOPIC, "2027-01-15 08:00:00.250000", "{}")
    assert found.ts == STORED_TS


def test_a_row_has_the_time_of_the_mapping_whether_a_column_has_it_or_not() -> None:
    columns = {"machine": MACHINE}
    assert row(table(columns, ("machine",)), message()).ts is None
    assert row(table(columns, ("machine",), ts=path("ts")), message()).ts == STORED_TS
    assert refused(table(columns, ("machine",), ts=path("ts")), message(ts=None))[0] == "ts"
    assert refused(table(columns, ("machine",), ts=path("ts")), message(), max_age=1.0)[0] == "age"
    assert row(table(columns, ("machine",)), message(), max_age=1.0).ts is None


def test_the_time_may_be_that_of_the_id() -> None:
    mapped = table({"at": field("ts")}, ("at",), event_id=(path("id"),))
    assert row(mapped, message(id="0193a5f2-7c1e-7abc-8def-0123456789ab")).values == ("2024-12-08 11:05:52.414000",)
    assert refused(mapped, message())[0] == "ts"


def test_an_id_is_a_uuid_or_made_of_the_device_and_the_text() -> None:
    columns = {"id": path("id", type="id")}
    assert row(table(columns, ("id",)), message()).values == (EVENT_BYTES,)
    made = uuid.uuid5(uuid.UUID(bytes=STRING_ID), "sensor\0x").bytes
    assert row(table(columns, ("id",), device_id=MACHINE), message(id="x")).values == (made,)
    without = uuid.uuid5(uuid.UUID(bytes=STRING_ID), "\0x").bytes
    assert row(table(columns, ("id",)), message(id="x")).values == (without,)


def test_a_row_without_its_key_is_rejected() -> None:
    mapped = table({"machine": MACHINE, "at": AT}, ("machine", "at"))
    assert refused(mapped, message(ts=None)) == (
        "value",
        "column at is missing, and belongs to the key of machine_state",
    )


def test_each_element_is_a_row_even_with_the_key_of_another() -> None:
    mapped = table(
        {"id": field("event_id"), "machine": path("m"), "t": path("t", type="number")},
        ("machine",),
        each="items",
        **OF_MESSAGE,
    )
    first, second, third = parts(mapped, message(items=[{"m": "a", "t": 1}, {"m": "b", "t": "x"}, {"m": "a", "t": 2}]))
    assert isinstance(first, TableRow)
    assert second == Rejected("value", "m: column t is 'x', not a number")
    assert isinstance(third, TableRow)
    assert (first.values[1:], third.values[1:]) == (("a", 1), ("a", 2))
    assert first.values[0] == uuid.uuid5(uuid.UUID(EVENT), "0").bytes
    assert third.values[0] == uuid.uuid5(uuid.UUID(EVENT), "2").bytes


def test_columns_that_repeat_the_message_in_every_row_have_a_bound() -> None:
    mapped = table({"n": path("@"), "all": Source(root="@", type="json")}, ("n",), each="items")
    reason, _ = refused(mapped, {"items": list(range(100)), "padding": "x" * 20_000})
    assert reason == "too_large"
    assert len(parts(mapped, {"items": list(range(100)), "padding": "x" * 8_000})) == 100


def test_short_texts_do_not_count() -> None:
    mapped = table({"n": path("@"), "text": constant("x" * 128)}, ("n",), each="@")
    assert len(parts(mapped, list(range(10_000)))) == 10_000


@pytest.mark.parametrize(
    ("columns", "key", "changes", "place", "said"),
    [
        ({"a": path("a")}, (), {}, "table.key", "needs a key"),
        ({"a": path("a")}, ("b",), {}, "table.key", "b is none of the columns"),
        ({"a": field("received_at")}, ("a",), {}, "table.key", "time of arrival"),
        ({"a": field("device_id")}, ("a",), {}, "table.columns.a.field", "no device_id"),
        ({"a": field("event_id")}, ("a",), {}, "table.columns.a.field", "no event_id"),
        ({"a": field("ts")}, ("a",), {}, "table.columns.a.field", "no ts"),
        ({"a": field("topic", type="number")}, ("a",), {}, "table.columns.a.type", "the field topic is text"),
        ({"a": path("a[")}, ("a",), {}, "table.columns.a.path", "too early"),
        ({"a": path("a", from_unit="degF", to_unit="m")}, ("a",), {}, "table.columns.a.from_unit", "converted"),
    ],
)
def test_a_table_that_cannot_work_is_refused_with_the_place(
    columns: dict[str, Source], key: tuple[str, ...], changes: dict[str, Any], place: str, said: str
) -> None:
    with pytest.raises(MappingError) as caught:
        Mapping(table(columns, key, **changes))
    assert caught.value.key == place
    assert said in caught.value.message


def test_every_column_has_one_source() -> None:
    columns = (Column("a", None), Column("a", None))
    for sources, place in (
        ((path("a"),), "table.columns"),
        ((path("a"), path("b")), "table.columns.a"),
        ((), "table.columns"),
    ):
        with pytest.raises(MappingError) as caught:
            Mapping(
                spec(table=TargetTable("t", columns, ("a",)), columns=sources, device_id=None, event_id=(), ts=None)
            )
        assert caught.value.key == place


@pytest.mark.parametrize("machine", ["a ", "a  ", " "])
def test_a_key_with_a_blank_at_its_end_is_rejected_because_a_padding_collation_would_merge_two(machine: str) -> None:
    mapped = table({"machine": path("machine"), "note": path("note")}, ("machine",))
    assert refused(mapped, message(machine=machine)) == (
        "value",
        "column machine has a blank at its end, and belongs to the key of machine_state",
    )
    assert row(mapped, message(machine=" a", note="b ")).values == (" a", "b ")


@pytest.mark.parametrize("digits", [89490200001234567890, -(2**63) - 1])
def test_a_number_that_lost_digits_is_not_a_text_because_two_would_be_the_same(digits: int) -> None:
    mapped = table({"sim": path("sim", type="text"), "note": path("note")}, ("sim",))
    reason, said = refused(mapped, message(sim=digits))
    assert reason == "value"
    assert "column sim is a number beyond 64 bits" in said
    assert row(mapped, message(sim=2**63 - 1)).values[0] == str(2**63 - 1)
    assert row(mapped, message(sim=21.5)).values[0] == "21.5"
