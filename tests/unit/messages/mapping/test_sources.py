"""Sources: a value is taken, looked up, converted to the type and to the unit, in this order. Impossible ones are refused at once."""

from __future__ import annotations

from typing import Any

import pytest
from jmespath.functions import Functions

from sensorsync.messages.mapping import Mapping, MappingError, ReadingSpec, Source
from sensorsync.messages.mapping.model import FormatSpec
from sensorsync.messages.reading import TargetTable
from tests.unit.messages.mapping.specs import (
    OF_MESSAGE,
    constant,
    decode,
    message,
    one,
    parts,
    path,
    reading,
    readings,
    refused,
    row,
    single,
    spec,
    table,
)

ANY: dict[str, Any] = {"missing_id": "payload", "missing_ts": "epoch"}


def value(source: Source, document: Any = None, **changes: Any) -> object:
    """Return the value of a column that has this source."""
    found = row(table({"k": constant("k"), "c": source}, ("k",)), {"v": document}, **changes)
    return found.values[1]


def why(source: Source, document: Any = None, **changes: Any) -> str:
    reason, said = refused(table({"k": constant("k"), "c": source}, ("k",)), {"v": document}, **changes)
    assert reason == "value"
    return said


def wrong(source: Source, **changes: Any) -> MappingError:
    """Return the mistake in the value of a reading that has this source."""
    with pytest.raises(MappingError) as caught:
        Mapping(single(source, **changes))
    return caught.value


# -- where it comes from ---------------------------------------------------------------------------------------------------


def test_a_value_comes_from_the_topic_a_constant_or_the_message() -> None:
    assert value(Source(topic="{room}/{device}")) == "kitchen/sensor"
    assert value(constant("x")) == "x"
    assert value(constant("")) == ""
    assert value(path("v.a"), {"a": 1}) == 1
    assert value(path("v[].a | [-1]"), [{"a": 1}, {"a": 2}]) == 2


def test_a_value_comes_from_a_property_of_the_packet() -> None:
    properties = {"user_properties": [["site", "north"], ["site", "south"]], "content_type": "application/json"}
    assert value(Source(property="site"), properties=properties) == "north"
    assert value(Source(property="other"), properties=properties) is None
    assert value(Source(content_type=True), properties=properties) == "application/json"
    assert value(Source(content_type=True), properties={"retain": True}) is None
    assert value(Source(property="site")) is None
    assert value(Source(content_type=True)) is None


def test_a_property_that_was_too_large_is_not_treated_as_absent() -> None:
    left_out = {"left_out": "the properties are more than the 8192 bytes that are kept"}
    assert why(Source(property="site"), properties=left_out).startswith("column c is not known: the properties")
    assert why(Source(content_type=True), properties=left_out).startswith("column c is not known: the properties")


def test_root_searches_the_whole_message_from_every_element() -> None:
    from_root = spec(
        each="items",
        device_id=Source(root="device"),
        readings=(ReadingSpec(Source(root="join('-', names)"), path("@")),),
        **OF_MESSAGE,
    )
    found = readings(from_root, message(device="d", names=["a", "b"], items=[1, 2]))
    assert [(part.device_id, part.metric) for part in found] == [("d", "a-b")] * 2


def test_root_that_fails_rejects_every_element_alike() -> None:
    failing = spec(each="items", readings=(ReadingSpec(Source(root="join('-', names)"), path("@")),), **OF_MESSAGE)
    first, second = parts(failing, message(names=[1], items=[1, 2]))
    assert first == second
    assert first[0] == "mapping"


def test_root_is_computed_once_for_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[object] = []
    length = Functions.FUNCTION_TABLE["length"]

    def counted(functions: Functions, value: Any) -> Any:
        searched.append(value)
        return length["function"](functions, value)

    monkeypatch.setitem(Functions.FUNCTION_TABLE, "length", {**length, "function": counted})
    counting = spec(each="items", readings=(reading("n", Source(root="length(items)")),), **OF_MESSAGE)
    assert [part.value for part in readings(counting, message(items=[1, 2, 3]))] == [3, 3, 3]
    assert len(searched) == 1


# -- look-up ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "expected"),
    [("ON", "1"), (True, "yes"), (5, "five"), (5.5, "more"), (None, "nothing")],
)
def test_values_are_looked_up_by_their_text_in_json(found: object, expected: str) -> None:
    values = {"ON": "1", "true": "yes", "5": "five", "5.5": "more", "null": "nothing"}
    assert value(path("v", values=values), found) == expected


def test_a_value_that_no_table_has_is_rejected() -> None:
    assert why(path("v", values={"ON": "1"}), "OFF") == "column c 'OFF' is not among the values of the mapping"
    assert why(path("v", values={"ON": "1"}), ["ON"]) == "column c is an array, which no table of values has"
    assert value(path("v", values={"ON": "1"}), None) is None


def test_the_look_up_comes_before_the_type_and_the_type_before_the_conversion() -> None:
    steps = path(
        "v", values={"LOW": "10", "HIGH": "20"}, type="number", from_unit="degC", to_unit="K", scale=2, offset=-1
    )
    assert value(steps, "HIGH") == (20 + 273.15) * 2 - 1


# -- types -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "found", "expected"),
    [
        ("number", 1, 1),
        ("number", 1.5, 1.5),
        ("number", True, 1),
        ("number", " 1.5e3 ", 1500.0),
        ("number", "-.5", -0.5),
        ("number", "+7", 7),
        ("number", "5.", 5.0),
        ("number", 2**63, float(2**63)),
        ("number", "9" * 30, 1e30),
        ("integer", 5, 5),
        ("integer", 5.0, 5),
        ("integer", "-12", -12),
        ("integer", True, 1),
        ("integer", -(2**63), -(2**63)),
        ("integer", 2**63, 2**63),  # BIGINT UNSIGNED
        ("integer", str(2**64 - 1), 2**64 - 1),
        ("boolean", True, True),
        ("boolean", 0, False),
        ("boolean", 1.0, True),
        ("boolean", " On ", True),
        ("boolean", "no", False),
        ("text", "x", "x"),
        ("text", 1.0, "1.0"),
        ("text", 10, "10"),
        ("text", True, "true"),
        ("json", {"a": [1, "ü"]}, '{"a":[1,"ü"]}'),
        ("json", "x", '"x"'),
        ("time", "2026-01-02T03:04:05+01:00", "2026-01-02 02:04:05.000000"),
        ("id", "0193a5f2-7c1e-4abc-8def-0123456789ab", bytes.fromhex("0193a5f27c1e4abc8def0123456789ab")),
        (None, "x", "x"),
        (None, True, True),
        (None, 2**64, float(2**64)),
    ],
)
def test_a_value_is_made_its_type(kind: Any, found: object, expected: object) -> None:
    made = value(path("v", type=kind), found)
    assert made == expected
    assert type(made) is type(expected)


@pytest.mark.parametrize("kind", ["number", "integer", "boolean", "text", "time", "json", "id", None])
def test_an_absent_value_stays_absent(kind: Any) -> None:
    assert value(path("v", type=kind), None) is None


@pytest.mark.parametrize(
    ("kind", "found", "said"),
    [
        ("number", "12 V", "column c is '12 V', not a number"),
        ("number", "", "column c is '', not a number"),
        ("number", "inf", "column c is 'inf', not a number"),
        ("number", "1_000", "column c is '1_000', not a number"),
        ("number", "٣", "column c is '٣', not a number"),
        ("number", "1e999", "column c is '1e999', not a number"),
        ("number", "9" * 500, None),
        ("number", [], "column c is an array, not a number"),
        ("integer", 5.5, "column c is 5.5, not an integer of 64 bits"),
        ("integer", 2**64, f"column c is {2.0**64}, not an integer of 64 bits"),
        ("boolean", 2, "column c is 2, not true or false"),
        ("boolean", "maybe", "column c is 'maybe', not true or false"),
        ("boolean", [], "column c is an array, not true or false"),
        ("text", {}, "column c is an object, not a text"),
        ("time", 5, "column c: ts is a number, not an RFC 3339 string"),
        ("id", 5.5, "column c: event_id is a number, not a string"),
        (None, [], "column c is an array; a number, a boolean or a text is expected"),
    ],
)
def test_a_value_that_cannot_be_converted_to_the_type_is_rejected(kind: Any, found: object, said: str | None) -> None:
    assert why(path("v", type=kind), found) == (said or f"column c is {'9' * 40!r}, not a number")


def test_a_number_that_an_expression_makes_is_finite() -> None:
    assert why(path("to_number(v)"), "nan") == "column c is nan; a number, a boolean or a text is expected"
    assert why(path("to_number(v)", type="number"), "1e999") == "column c is inf, not a number"
    assert (
        why(path("sum([to_number(v), to_number(v)])", type="number"), "9" * 4300)
        == "column c is a number, not a number"
    )
    assert refused(single(path("to_number(v)")), message(v="-inf"))[0] == "value"
    assert refused(single(path("to_number(v)")), message(v="9" * 400))[0] == "value"


def test_the_result_of_an_expression_is_stored_as_json_if_json_has_it() -> None:
    made = path("{a: to_number(v)}", type="json")
    assert value(made, "9" * 30) == f'{{"a":{"9" * 30}}}'
    assert value(made, "nan") == '{"a":null}'
    for no_json in (path("&a", type="json"), path("[to_number(v), to_number('inf')]", type="json")):
        reason, said = refused(table({"k": constant("k"), "c": no_json}, ("k",)), {"v": "9" * 30})
        assert reason == "mapping"
        assert said.startswith("what the mapping made is no JSON: ")


# -- conversions -----------------------------------------------------------------------------------------------------------


def test_units_come_before_scale_and_offset() -> None:
    assert value(path("v", from_unit="degF", to_unit="degC"), 212) == pytest.approx(100)
    assert value(path("v", scale=0.1, offset=-40), 650) == pytest.approx(25)
    assert value(path("v", scale=0.1), "650") == pytest.approx(65)
    assert one(single(path("value", scale=2)), message(value=True)).value == 2.0


@pytest.mark.parametrize(
    ("source", "given", "expected"),
    [
        (path("v", from_unit="degF", to_unit="degC"), 48.2, 9.0),
        (path("v", from_unit="degF", to_unit="degC"), 32.18, 0.1),
        (path("v", from_unit="K", to_unit="degC"), 273.25, 0.1),
        (path("v", from_unit="kWh", to_unit="J"), 0.1, 360_000.0),
        (path("v", scale=0.1), 3, 0.3),
        (path("v", scale=0.1, offset=-40), 401, 0.1),
        (path("v", scale=10), 21.299999237060547, 212.99999237060547),
        (path("v", scale=2), 2**62, 2.0**63),
    ],
)
def test_a_conversion_gives_the_number_that_a_person_would_write(source: Source, given: float, expected: float) -> None:
    assert value(source, given) == expected
    assert value(source, str(given)) == expected


def test_a_conversion_never_makes_an_infinite_number() -> None:
    assert why(path("v", scale=1e300), 1e300) == "column c is beyond the range of a double after its conversion"
    assert why(path("v", scale=2), "warm") == "column c is 'warm', not a number"


# -- what is refused when the mapping is built -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "key", "said"),
    [
        (Source(), "readings[0].value", "exactly one of path, root"),
        (Source(path="a", root="b"), "readings[0].value", "not path and root"),
        (path("a[", type="number"), "readings[0].value.path", "too early"),
        (Source(root="a["), "readings[0].value.root", "too early"),
        (Source(topic="{rom}"), "readings[0].value.topic", "no level {rom}"),
        (Source(field="ts"), "readings[0].value.field", "columns of an own table"),
        (constant("\ud800"), "readings[0].value.constant", "surrogate"),
        (constant("warm", type="number"), "readings[0].value", "'warm', not a number"),
        (path("a", type="id"), "readings[0].value.type", "id is not possible here"),
        (path("a", type="integer", scale=2), "readings[0].value.type", "make it a number, not integer"),
        (path("a", from_unit="degF"), "readings[0].value", "both or not at all"),
        (path("a", from_unit="degF", to_unit="m"), "readings[0].value.from_unit", "cannot be converted"),
        (path("a", scale=0), "readings[0].value.scale", "not 0"),
        (path("a", offset=float("inf")), "readings[0].value.scale", "finite"),
        (path("a", format="unix"), "readings[0].value", "for times"),
        (path("a", zone="UTC"), "readings[0].value", "for times"),
        (path("a", type="time", format="iso"), "readings[0].value.format", "no time format"),
        (path("a", type="time", zone="Mars"), "readings[0].value.zone", "no time zone"),
        (path("a", type="time", format="%Y-%m-%d"), "readings[0].value.format", "says no zone"),
    ],
)
def test_a_source_that_cannot_work_is_refused_with_its_place(source: Source, key: str, said: str) -> None:
    found = wrong(source)
    assert found.key == key
    assert said in found.message
    assert str(found) == f"{key}: {found.message}"


def test_a_wrong_expression_is_reported_with_its_column() -> None:
    assert wrong(path("a..b")).column == 2
    assert wrong(constant("x", type="number")).column is None


@pytest.mark.parametrize(
    ("changes", "key", "said"),
    [
        ({"topic": "a/{b"}, "topic", "named level"),
        ({"when": "a["}, "when", "too early"),
        ({"each": "a["}, "each", "too early"),
        ({"where": "a["}, "where", "too early"),
        ({"device_id": None}, "device_id", "missing"),
        ({"device_id": constant("")}, "device_id", "device_id is empty"),
        ({"device_id": path("d", scale=2)}, "device_id", "this is none"),
        ({"device_id": path("d", type="json")}, "device_id.type", "json is not possible"),
        ({"event_id": ()}, "event_id", "missing"),
        ({"event_id": (path("a"), path("b["))}, "event_id[1].path", "too early"),
        ({"ts": path("t", type="number")}, "ts.type", "number is not possible here, only time"),
        ({"ts": path("t", scale=2)}, "ts", "this is none"),
        ({"ts": path("t", format="x")}, "ts.format", "no time format"),
        ({"ts": None, "event_id": (), "missing_id": "payload"}, "ts", "missing"),
        ({"readings": ()}, "readings", "at least one"),
        ({"readings": (reading("a", "a"), reading("a", "b"))}, "readings[1].metric", "two readings are 'a'"),
        ({"readings": (reading("a ", "a"),)}, "readings[0].metric", "blanks"),
        ({"readings": (reading("a", "a", "x" * 33),)}, "readings[0].unit", "33 characters"),
        ({"table": TargetTable("t", (), ())}, "table", "not both"),
    ],
)
def test_a_mapping_that_cannot_work_is_refused_with_the_place(changes: dict[str, Any], key: str, said: str) -> None:
    with pytest.raises(MappingError) as caught:
        Mapping(spec(**{"readings": (reading("a", "a"),), **changes}))
    assert caught.value.key == key
    assert said in caught.value.message


def test_a_mapping_may_take_the_time_from_the_id_or_the_clock() -> None:
    assert Mapping(single(ts=None)).name == "m"
    assert Mapping(single(ts=None, event_id=(), missing_id="payload", missing_ts="arrival")).name == "m"


def test_the_value_format_has_no_members() -> None:
    bare = single(path("@", type="number"), format=FormatSpec("value"), **ANY)
    assert one(bare, b"231.7").value == 231.7
    assert decode(single(path("v"), format=FormatSpec("value"), **ANY), b"231.7")[0] == "value"  # type: ignore[index]


@pytest.mark.parametrize(
    ("payload", "expected"),
    [(b" 1.10\n", "1.10"), (b"12345678901234567890123", "12345678901234567890123"), (b'"on"', "on"), (b"ON", "ON")],
)
def test_a_bare_number_stays_as_it_was_written_where_a_text_is_needed(payload: bytes, expected: str) -> None:
    for source in (path("@", type="text"), Source(root="@", type="text")):
        assert one(single(source, format=FormatSpec("value"), **ANY), payload).value_text == expected
