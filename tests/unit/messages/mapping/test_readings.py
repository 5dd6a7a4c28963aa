"""A mapping makes readings of any message: the same values, the same identity and the same bounds as a plain reading has."""

from __future__ import annotations

import json
import uuid

import pytest

from sensorsync.messages.mapping import FormatSpec, Mappings, ReadingSpec, Source
from sensorsync.messages.mapping.model import MAX_PAYLOAD_COLUMN_BYTES, MAX_ROWS
from sensorsync.messages.reading import FanOut, Reading, ReadingDecoder, Rejected
from sensorsync.messages.reading.fields import STRING_ID, event_id_from_payload
from tests.unit.messages.mapping.specs import (
    EVENT,
    OF_MESSAGE,
    RECEIVED_AT,
    STORED_TS,
    TOPIC,
    constant,
    decode,
    message,
    one,
    parts,
    path,
    reading,
    readings,
    refused,
    single,
    spec,
)

EVENT_BYTES = uuid.UUID(EVENT).bytes
UUID7 = "0193a5f2-7c1e-7abc-8def-0123456789ab"
UUID7_TS = "2024-12-08 11:05:52.414000"
CLIMATE = (
    reading("temperature", "temperature", "C", optional=True),
    reading("humidity", "humidity", "%", optional=True),
)


def uuid5(namespace: bytes, name: str) -> bytes:
    return uuid.uuid5(uuid.UUID(bytes=namespace), name).bytes


# -- one reading -----------------------------------------------------------------------------------------------------------


def test_a_message_with_one_reading_becomes_a_row_under_its_own_id() -> None:
    document = message(more=[1, 2])
    found = one(single(), document)
    assert found == Reading(
        event_id=EVENT_BYTES,
        device_id="sensor",
        metric="temperature",
        ts=STORED_TS,
        value=21.5,
        value_text=None,
        unit=None,
        topic=TOPIC,
        received_at=RECEIVED_AT,
        payload=json.dumps(document),
    )


@pytest.mark.parametrize("event_id", [EVENT, UUID7, "any text"])
def test_a_mapping_of_our_own_format_gives_the_result_of_the_plain_decoder(event_id: str) -> None:
    document = {"event_id": event_id, "device_id": "d", "metric": "m", "ts": "2026-01-02T03:04:05+01:00", "value": 7}
    ours = spec(
        event_id=(path("event_id"),),
        device_id=path("device_id"),
        readings=(ReadingSpec(path("metric"), path("value"), path("unit")),),
        single=True,
    )
    payload = json.dumps(document).encode()
    assert one(ours, payload) == ReadingDecoder().decode(payload, TOPIC, RECEIVED_AT)


@pytest.mark.parametrize(
    ("value", "number", "text"),
    [
        (21, 21.0, None),
        (True, 1.0, None),
        (False, 0.0, None),
        ("on", None, "on"),
        (2**64 + 1, float(2**64), None),
        (0, 0.0, None),
    ],
)
def test_numbers_booleans_and_texts_are_stored_as_in_a_plain_reading(
    value: object, number: float | None, text: str | None
) -> None:
    found = one(single(), message(value=value))
    assert (found.value, found.value_text) == (number, text)


def test_a_digit_that_the_value_loses_stays_in_the_payload() -> None:
    raw = b'{"id": "%s", "ts": "2026-01-02T03:04:05Z", "value": 123456789012345678901234567890}' % EVENT.encode()
    assert "123456789012345678901234567890" in one(single(), raw).payload


@pytest.mark.parametrize(
    ("document", "reason", "said"),
    [
        (message(value=None), "value", "value is missing or null"),
        ({"id": EVENT, "ts": "2026-01-02T03:04:05Z"}, "value", "value is missing or null"),
        (message(value=[1]), "value", "value is an array; a number, a boolean or a string is expected"),
        (message(value="x" * 1025), "value", "value has 1025 characters; at most 1024 are stored"),
        (message(value="a\0"), "value", "value has a NUL in it"),
        (message(id=None), "event_id", "event_id is missing, and missing_id is park"),
        (message(id=" "), "event_id", "event_id is empty"),
        (message(id=[]), "event_id", "event_id is an array, not a string"),
        (message(id=True), "event_id", "event_id is a boolean, not a string"),
        (message(id="x" * 1025), "event_id", "event_id has 1025 characters; at most 1024 are taken"),
        (
            message(ts="yesterday"),
            "ts",
            "ts 'yesterday' is no RFC 3339 time with a zone, such as 2026-01-02T03:04:05.678Z",
        ),
        (message(ts=5), "ts", "ts is a number, not an RFC 3339 string"),
        (b"{", "json", None),
        (b"\xff", "encoding", None),
        (b'{"value": NaN}', "nan", None),
        (b"[" * 40 + b"]" * 40, "nesting", None),
        (b"[1]", "event_id", "event_id is missing, and missing_id is park"),
    ],
)
def test_a_rejection_names_the_mapping(document: object, reason: str, said: str | None) -> None:
    found, sentence = refused(single(), document)
    assert found == reason
    assert said is None or sentence == said


@pytest.mark.parametrize(
    ("topic", "reason", "said"),
    [
        ("home/kitchen//state", "device_id", "device_id is empty"),
        ("home/kitchen/ x/state", "device_id", "device_id ' x' has blanks at its ends"),
        (f"home/kitchen/{'x' * 129}/state", "device_id", "device_id has 129 characters; at most 128 are stored"),
        (f"home/{'x' * 1024}/d/state", "topic", "the topic has 1037 characters; at most 1024 are stored"),
    ],
)
def test_names_from_the_topic_have_the_bounds_of_a_plain_reading(topic: str, reason: str, said: str) -> None:
    assert refused(single(), message(), topic) == (reason, said)


def test_a_name_that_was_refused_once_is_refused_again() -> None:
    mappings = Mappings([single(device_id=path("d"))])
    for _ in range(2):
        assert isinstance(mappings.decode(json.dumps(message(d="x ")).encode(), TOPIC, None, 0.0), Rejected)
        assert isinstance(mappings.decode(json.dumps(message(d="x")).encode(), TOPIC, None, 0.0), Reading)


def test_an_integer_that_names_something_counts_as_its_digits() -> None:
    numbered = spec(device_id=path("node"), readings=(ReadingSpec(path("channel"), path("value")),), single=True)
    found = one(numbered, message(node=17, channel=3, id=2**63))
    assert (found.device_id, found.metric) == ("17", "3")
    assert found.event_id == uuid5(STRING_ID, f"17\0{2**63}")
    assert refused(numbered, message(node=17.5, channel=3)) == ("device_id", "device_id is a number, not a string")


def test_a_unit_may_come_from_the_message() -> None:
    from_message = spec(readings=(ReadingSpec(constant("t"), path("value"), path("unit")),), single=True)
    assert one(from_message, message(unit="C")).unit == "C"
    assert one(from_message, message()).unit is None
    assert refused(from_message, message(unit="x" * 33))[0] == "unit"
    assert refused(from_message, message(unit=1))[0] == "unit"


def test_a_payload_larger_than_the_bound_is_rejected_before_it_is_parsed() -> None:
    assert refused(single(), b"[" * (256 * 1024 + 1))[0] == "too_large"
    assert refused(single(), message(), max_payload=10)[0] == "too_large"


# -- identity --------------------------------------------------------------------------------------------------------------


def test_several_sources_make_one_id_that_no_other_values_have() -> None:
    several = single(event_id=(path("a"), path("b"), Source(topic="{room}")))
    found = one(several, message(a="x", b=7))
    assert found.event_id == uuid5(STRING_ID, 'sensor\0["x",7,"kitchen"]')
    assert found.event_id != one(several, message(a="x", b="7")).event_id
    assert refused(several, message(a="x"))[0] == "event_id"
    assert refused(several, message(a="x", b=[1]))[0] == "event_id"
    assert refused(several, message(a="x", b=2**64 + 1)) == (
        "event_id",
        "a part of event_id is a number beyond 64 bits, whose digits are not kept: let the device send it as a text",
    )


def test_a_missing_id_may_be_made_of_topic_and_payload() -> None:
    lenient = single(missing_id="payload")
    payload = json.dumps(message(id=None)).encode()
    assert one(lenient, payload).event_id == event_id_from_payload(TOPIC, payload)
    assert one(lenient, message()).event_id == EVENT_BYTES


def test_a_missing_time_is_that_of_a_uuid7_and_else_decided_by_the_mapping() -> None:
    assert one(single(), message(ts=None, id=UUID7)).ts == UUID7_TS
    assert one(single(ts=None), message(id=UUID7)).ts == UUID7_TS
    assert refused(single(), message(ts=None))[0] == "ts"
    assert one(single(missing_ts="epoch"), message(ts=None)).ts == "1970-01-01 00:00:00.000000"
    assert one(single(missing_ts="arrival"), message(ts=None)).ts == "2027-01-15 08:00:00.250000"


def test_a_relative_time_is_missing_unless_arrival_decides() -> None:
    ts = path("t", format="senml")
    assert refused(single(ts=ts), message(t=-5))[0] == "ts"
    assert one(single(ts=ts, missing_ts="epoch"), message(t=-5)).ts == "1970-01-01 00:00:00.000000"
    assert one(single(ts=ts, missing_ts="arrival"), message(t=-5)).ts == "2027-01-15 07:59:55.250000"


def test_a_reading_that_was_too_old_when_it_arrived_is_rejected() -> None:
    old = message(ts="2027-01-15T07:59:00Z")
    assert refused(single(), old, max_age=60.0)[0] == "age"
    assert one(single(), old, max_age=61.0).value == 21.5


def test_only_a_mapping_with_arrival_depends_on_the_clock() -> None:
    for changes in ({}, {"missing_ts": "epoch"}):
        first, second = (
            one(single(**changes, missing_id="payload"), message(id=None), received_at=at) for at in (1.0e9, 1.1e9)
        )
        assert first._replace(received_at=0) == second._replace(received_at=0)


# -- several readings ------------------------------------------------------------------------------------------------------


def test_each_reading_of_a_message_has_an_id_of_its_own() -> None:
    document = {"id": EVENT, "ts": "2026-01-02T03:04:05Z", "temperature": 21.5, "humidity": 40}
    temperature, humidity = readings(spec(readings=CLIMATE), document)
    assert (temperature.metric, temperature.value, temperature.unit) == ("temperature", 21.5, "C")
    assert (humidity.metric, humidity.value, humidity.unit) == ("humidity", 40.0, "%")
    assert temperature.event_id == uuid5(EVENT_BYTES, "0/temperature")
    assert humidity.event_id == uuid5(EVENT_BYTES, "0/humidity")
    assert temperature.payload == humidity.payload == json.dumps(document)


def test_an_absent_or_null_optional_reading_is_not_rejected() -> None:
    document = {"id": EVENT, "ts": "2026-01-02T03:04:05Z", "temperature": None, "humidity": 40}
    (humidity,) = readings(spec(readings=CLIMATE), document)
    assert humidity.event_id == uuid5(EVENT_BYTES, "0/humidity")


def test_a_message_that_gives_nothing_at_all_is_rejected() -> None:
    assert refused(spec(readings=CLIMATE), message())[0] == "empty"
    assert refused(spec(readings=CLIMATE, each="items"), message())[0] == "empty"
    assert refused(spec(readings=CLIMATE, each="items"), message(items=[]))[0] == "empty"
    assert refused(spec(readings=CLIMATE, each="items", where="`false`"), message(items=[1]))[0] == "empty"
    assert refused(single(where="up"), message())[0] == "empty"
    optional = spec(readings=(reading("t", "v", optional=True),), single=True)
    assert refused(optional, message()) == ("empty", "the message gives no reading")


def test_a_missing_identity_rejects_only_readings_that_are_there() -> None:
    found = parts(spec(readings=CLIMATE), {"id": EVENT, "humidity": 40})
    assert found == (
        Rejected(
            "ts", "m: humidity: ts is missing, event_id is no UUIDv7 that has a time in it, and missing_ts is park"
        ),
    )
    assert refused(spec(readings=CLIMATE), {"id": EVENT})[0] == "empty"


def test_a_rejected_part_does_not_affect_the_others() -> None:
    listed = spec(each="items", readings=(ReadingSpec(path("name"), path("v")),), **OF_MESSAGE)
    first, second, third = parts(
        listed, message(items=[{"name": "a", "v": 1}, {"name": "b", "v": [1]}, {"name": "c", "v": "x"}])
    )
    assert isinstance(first, Reading)
    assert second == Rejected("value", "m: b: value is an array; a number, a boolean or a string is expected")
    assert isinstance(third, Reading)
    assert third.event_id == uuid5(EVENT_BYTES, "2/c")


def test_a_part_is_named_by_its_metric_or_by_its_place_where_that_is_unknown() -> None:
    listed = spec(each="items", readings=(ReadingSpec(path("name"), path("v"), path("u")),), **OF_MESSAGE)
    first, second = parts(listed, message(items=[{"name": "a", "v": 1, "u": 5}, {"name": [], "v": 1, "u": 5}]))
    assert isinstance(first, Rejected)
    assert first.message.startswith("m: a: unit ")
    assert isinstance(second, Rejected)
    assert second.message.startswith("m: readings[0]: metric ")


def test_two_readings_of_one_element_never_become_one_row() -> None:
    same = spec(readings=(ReadingSpec(path("a"), path("v")), ReadingSpec(path("b"), path("w"))))
    first, second = parts(same, message(a="x", b="x", v=1, w=2))
    assert isinstance(first, Reading)
    assert second == Rejected("metric", "m: readings[1]: another reading of the same element is 'x', too")


# -- elements --------------------------------------------------------------------------------------------------------------


def each(text: str, value: str = "@", **changes: object) -> list[Reading]:
    elements = spec(each=text, readings=(reading("t", value),), **OF_MESSAGE, **changes)
    return readings(elements, message(items=[1, 2, 3], members={"a": 1, "b": 2}))


def test_an_array_gives_its_elements_and_an_object_its_members() -> None:
    assert [found.value for found in each("items")] == [1, 2, 3]
    members = each("members", "value")
    assert [found.value for found in members] == [1, 2]
    assert [json.loads(found.payload) for found in members] == [{"key": "a", "value": 1}, {"key": "b", "value": 2}]


def test_the_result_of_each_must_have_elements() -> None:
    elements = spec(each="value", readings=CLIMATE)
    assert refused(elements, message()) == ("mapping", "each: value is a number, not an array or an object")


def test_where_skips_elements_and_changes_no_id() -> None:
    assert each("items", where="@ > `1`") == each("items")[1:]


def test_a_path_that_fails_rejects_its_part_alone() -> None:
    (first, second) = parts(
        spec(each="items", where="length(@) > `1`", readings=(reading("t", "[0]"),), **OF_MESSAGE),
        message(items=[[1, 2], 5]),
    )
    assert isinstance(first, Reading)
    assert isinstance(second, Rejected)
    assert second.reason == "mapping"


def test_every_record_of_a_format_of_records_is_an_element() -> None:
    csv = spec(
        format=FormatSpec("csv"), readings=(reading("t", path("t", type="number")),), single=True, missing_id="payload"
    )
    found = readings(csv, b"ts,t\n2026-01-02T03:04:05Z,1\n2026-01-02T03:04:06Z,2.5\n")
    assert [(row.value, row.ts[-9:]) for row in found] == [(1, "05.000000"), (2.5, "06.000000")]
    assert len({row.event_id for row in found}) == 2
    assert json.loads(found[0].payload) == {"ts": "2026-01-02T03:04:05Z", "t": "1"}


def test_one_record_of_a_format_of_records_is_a_fan_out_too() -> None:
    csv = spec(format=FormatSpec("csv"), readings=(reading("t", "t"),), single=True, missing_id="payload")
    assert isinstance(decode(csv, b"ts,t\n2026-01-02T03:04:05Z,1\n"), FanOut)


# -- what is kept ----------------------------------------------------------------------------------------------------------


def test_payload_has_the_element_the_message_or_nothing() -> None:
    document = message(items=[{"temperature": 1}])
    kept = {
        keep: readings(spec(each="items", keep=keep, readings=CLIMATE, **OF_MESSAGE), document)[0].payload
        for keep in ("element", "message", "nothing")
    }
    assert kept == {"element": '{"temperature":1}', "message": json.dumps(document), "nothing": "{}"}


def test_a_payload_of_another_format_is_stored_as_json() -> None:
    bare = single(path("@"), format=FormatSpec("value"), missing_id="payload", missing_ts="epoch")
    assert one(bare, b"231.7").payload == "231.7"
    assert one(bare, b"on").payload == '"on"'


def test_a_message_of_another_format_is_stored_whole_with_each_row() -> None:
    csv = spec(format=FormatSpec("csv"), readings=(reading("t", "t"),), missing_id="payload", keep="message")
    found = readings(csv, b"ts,t\n2026-01-02T03:04:05Z,1\n2026-01-02T03:04:06Z,2\n")
    assert found[0].payload == found[1].payload
    assert [record["t"] for record in json.loads(found[0].payload)] == ["1", "2"]


def test_an_element_nested_too_deep_by_each_is_rejected() -> None:
    deep: object = 1
    for _ in range(30):
        deep = [deep]
    nesting = spec(each="[{v: {v: {v: @}}}]", readings=(reading("t", constant("1")),), **OF_MESSAGE)
    (found,) = parts(nesting, message(d=deep))
    assert isinstance(found, Rejected)
    assert found.reason == "nesting"


def test_too_many_rows_reject_the_whole_message() -> None:
    elements = spec(
        each="items",
        readings=(reading("a", "@"), reading("b", "@", optional=True)),
        **OF_MESSAGE,
    )
    assert refused(elements, message(items=[1] * (MAX_ROWS + 1)))[0] == "too_large"
    assert refused(elements, message(items=[1] * (MAX_ROWS // 2 + 1)))[0] == "too_large"
    assert len(readings(elements, message(items=[1] * (MAX_ROWS // 2)))) == MAX_ROWS


def test_too_large_payload_columns_reject_the_whole_message() -> None:
    elements = spec(each="items", readings=(reading("a", "@"),), keep="message", **OF_MESSAGE)
    padded = message(items=[1] * 100, padding="x" * (MAX_PAYLOAD_COLUMN_BYTES // 100))
    reason, said = refused(elements, padded)
    assert reason == "too_large"
    assert "keep" in said
    assert len(readings(elements, message(items=[1] * 99, padding="x" * (MAX_PAYLOAD_COLUMN_BYTES // 110)))) == 99
