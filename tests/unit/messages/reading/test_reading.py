"""DESIGN: a payload is a reading, or it is rejected with a reason; its key does not depend on the time of arrival."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorsync.messages.reading import (
    MAX_ID,
    MAX_NESTING,
    MAX_TOPIC,
    MAX_UNIT,
    MAX_VALUE_TEXT,
    REJECTION_REASONS,
    Reading,
    ReadingDecoder,
    ReadingRules,
    Rejected,
)
from sensorsync.messages.reading.fields import PAYLOAD_ID, STRING_ID

EVENT = "0193a5f2-7c1e-7abc-8def-0123456789ab"
GOOD = {
    "event_id": EVENT,
    "device_id": "boiler-7",
    "metric": "temperature",
    "ts": "2026-01-02T03:04:05.123456Z",
    "value": 21.5,
}
ABSENT = object()


def payload(**changes: object) -> bytes:
    message = {**GOOD, **changes}
    return json.dumps(
        {key: value for key, value in message.items() if value is not ABSENT}, ensure_ascii=False
    ).encode()


def decode(raw: bytes, topic: str = "sensors/live/x", received_at: float = 1.5, **rules: object) -> Reading | Rejected:
    return ReadingDecoder(ReadingRules(**rules)).decode(raw, topic, received_at)  # type: ignore[arg-type]


def reading(raw: bytes, topic: str = "sensors/live/x", received_at: float = 1.5, **rules: object) -> Reading:
    result = decode(raw, topic, received_at, **rules)
    assert isinstance(result, Reading), result
    return result


def reason(raw: bytes, topic: str = "sensors/live/x", received_at: float = 1.5, **rules: object) -> str:
    result = decode(raw, topic, received_at, **rules)
    assert isinstance(result, Rejected), result
    assert result.reason in REJECTION_REASONS
    assert result.message
    return result.reason


def key(found: Reading | Rejected) -> object:
    return found if isinstance(found, Rejected) else (found.device_id, found.metric, found.ts, found.event_id)


def test_an_ordinary_reading_becomes_a_row_with_its_whole_text() -> None:
    raw = payload(unit="°C", firmware="1.2")
    assert reading(raw, "a/b", 7.25) == Reading(
        event_id=uuid.UUID(EVENT).bytes,
        device_id="boiler-7",
        metric="temperature",
        ts="2026-01-02 03:04:05.123456",
        value=21.5,
        value_text=None,
        unit="°C",
        topic="a/b",
        received_at=7.25,
        payload=raw.decode(),
    )


# -- what is no reading ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", "json"),
        (b" \n", "json"),
        (b"hello", "json"),
        (b'{"a":1', "json"),
        (b'{"a":1} x', "json"),
        (b'{"a":1}\x00', "json"),
        (b"{'a':1}", "json"),
        (b'{"a":"\\ud800"}', "json"),
        (b'\xef\xbb\xbf{"a":1}', "json"),
        (b"\xff\xfe", "encoding"),
        (b'{"a":"\xff"}', "encoding"),
        (b'{"a":"\xed\xa0\x80"}', "encoding"),
        (b'{"value":NaN}', "nan"),
        (b'{"value":Infinity}', "nan"),
        (b'{"value":-Infinity}', "nan"),
        (b'{"value":1e400}', "nan"),
        (b'{"value":-1e400}', "nan"),
        (b"[]", "type"),
        (b"null", "type"),
        (b"17", "type"),
        (b"true", "type"),
        (b'"text"', "type"),
    ],
)
def test_a_payload_that_is_not_a_json_object_is_rejected_with_its_reason(raw: bytes, expected: str) -> None:
    assert reason(raw) == expected


def test_a_payload_larger_than_the_bound_is_rejected_before_it_is_parsed() -> None:
    assert reason(payload(note="x" * 2**20)) == "too_large"
    assert reason(payload(), max_payload=10) == "too_large"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"device_id": ABSENT}, "device_id"),
        ({"device_id": None}, "device_id"),
        ({"device_id": ""}, "device_id"),
        ({"device_id": 17}, "device_id"),
        ({"device_id": ["a"]}, "device_id"),
        ({"device_id": {}}, "device_id"),
        ({"device_id": "x" * 300}, "device_id"),
        ({"device_id": " boiler"}, "device_id"),
        ({"device_id": "boiler "}, "device_id"),
        ({"device_id": "boiler\u00a0"}, "device_id"),
        ({"device_id": "boi\0ler"}, "device_id"),
        ({"device_id": "boi\nler"}, "device_id"),
        ({"metric": ABSENT}, "metric"),
        ({"metric": True}, "metric"),
        ({"metric": "x" * (MAX_ID + 1)}, "metric"),
        ({"metric": "t "}, "metric"),
        ({"event_id": ABSENT}, "event_id"),
        ({"event_id": None}, "event_id"),
        ({"event_id": ""}, "event_id"),
        ({"event_id": "  "}, "event_id"),
        ({"event_id": 12}, "event_id"),
        ({"ts": 1767323045}, "ts"),
        ({"ts": True}, "ts"),
        ({"ts": ""}, "ts"),
        ({"value": ABSENT}, "value"),
        ({"value": []}, "value"),
        ({"value": {"a": 1}}, "value"),
        ({"value": "x" * 2**17}, "value"),
        ({"value": "x" * (MAX_VALUE_TEXT + 1)}, "value"),
        ({"value": "op\0en"}, "value"),
        ({"unit": 1}, "unit"),
        ({"unit": "x" * (MAX_UNIT + 1)}, "unit"),
        ({"unit": "m\0"}, "unit"),
    ],
)
def test_a_field_that_breaks_its_rule_is_named_as_the_reason(changes: dict[str, object], expected: str) -> None:
    assert reason(payload(**changes)) == expected


def test_a_name_that_was_refused_once_is_refused_again() -> None:
    decoder = ReadingDecoder()
    for _ in range(2):
        assert isinstance(decoder.decode(payload(device_id="x "), "t", 0.0), Rejected)
        assert isinstance(decoder.decode(payload(device_id="x"), "t", 0.0), Reading)


def test_the_memory_of_good_names_is_bounded() -> None:
    decoder = ReadingDecoder()
    for number in range(10_000):
        decoder.decode(payload(device_id=f"d{number}"), "t", 0.0)
    assert len(decoder._valid_names) <= 4096


def test_names_of_the_full_length_and_with_any_letters_are_taken() -> None:
    name = "Kessel 7 " + "ü" * (MAX_ID - 10) + "🔥"
    assert reading(payload(device_id=name)).device_id == name


def test_a_topic_longer_than_its_column_is_rejected() -> None:
    assert reading(payload(), "t" * MAX_TOPIC).topic
    assert reason(payload(), "t" * (MAX_TOPIC + 1)) == "topic"


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_nesting_is_taken_as_deep_as_the_databases_take_it(opening: str, closing: str) -> None:
    def nested(levels: int) -> bytes:
        return payload().replace(b"21.5", b'1,"x":' + (opening * levels + "1" + closing * levels).encode())

    assert reading(nested(MAX_NESTING - 1)).value == 1
    assert reason(nested(MAX_NESTING)) == "nesting"
    assert reason(nested(2000)) == "nesting"


def test_brackets_in_texts_do_not_count_as_nesting() -> None:
    assert reading(payload(note="[{" * 100)).value == 21.5


# -- identity ----------------------------------------------------------------------------------------------------------


def test_a_uuid_in_either_case_is_the_same_event() -> None:
    assert reading(payload(event_id=EVENT.upper())).event_id == uuid.UUID(EVENT).bytes


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "Ü-17",
        EVENT.replace("-", ""),
        "{" + EVENT + "}",
        "0193a5f2-7c1e-7abc-8def-0123456789 b",
        "x193a5f2-7c1e-7abc-8def-0123456789ab",
    ],
)
def test_any_other_string_becomes_the_uuid5_of_device_and_string(text: str) -> None:
    expected = uuid.uuid5(uuid.UUID(bytes=STRING_ID), f"boiler-7\0{text}")
    assert reading(payload(event_id=text)).event_id == expected.bytes
    assert reading(payload(event_id=text, device_id="boiler-8")).event_id != expected.bytes


def test_a_missing_event_id_is_the_uuid5_of_topic_and_payload_where_configured() -> None:
    raw = payload(event_id=ABSENT)
    found = reading(raw, "a/ü", missing_id="payload")
    assert found.event_id == uuid.uuid5(uuid.UUID(bytes=PAYLOAD_ID), "a/ü\0" + raw.decode()).bytes
    assert reading(raw, "a/v", missing_id="payload").event_id != found.event_id


def test_the_namespaces_differ_so_that_no_text_can_pose_as_a_payload() -> None:
    assert len({STRING_ID, PAYLOAD_ID}) == 2
    assert len(STRING_ID) == len(PAYLOAD_ID) == 16


def test_device_and_metric_come_from_topic_levels_and_the_topic_wins() -> None:
    found = reading(payload(), "plant/boiler-9/pressure", device_id_level=1, metric_level=2)
    assert (found.device_id, found.metric) == ("boiler-9", "pressure")
    assert reading(payload(device_id=ABSENT), "plant/x", device_id_level=1).device_id == "x"
    assert reading(payload(), "plant/x", device_id_level=1).metric == "temperature"
    assert reason(payload(), "plant", device_id_level=1) == "device_id"
    assert reason(payload(), "plant//x", device_id_level=1) == "device_id"
    assert reason(payload(), "plant/x ", metric_level=1) == "metric"


# -- time --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ts", "stored"),
    [
        ("2026-01-02T03:04:05Z", "2026-01-02 03:04:05.000000"),
        ("2026-01-02T03:04:05.1Z", "2026-01-02 03:04:05.100000"),
        ("2026-01-02T03:04:05.123Z", "2026-01-02 03:04:05.123000"),
        ("2026-01-02T03:04:05.1234567Z", "2026-01-02 03:04:05.123456"),
        ("2026-01-02T03:04:05.999999999999Z", "2026-01-02 03:04:05.999999"),
        ("2026-01-02t03:04:05.5z", "2026-01-02 03:04:05.500000"),
        ("2026-01-02 03:04:05Z", "2026-01-02 03:04:05.000000"),
        ("2026-01-02T03:04:05+02:00", "2026-01-02 01:04:05.000000"),
        ("2026-01-02T03:04:05.123456-03:30", "2026-01-02 06:34:05.123456"),
        ("2026-01-02T03:04:05-00:00", "2026-01-02 03:04:05.000000"),
        ("2026-01-02T03:04:05+23:59", "2026-01-01 03:05:05.000000"),
        ("2024-02-29T23:59:59.999999Z", "2024-02-29 23:59:59.999999"),
        ("1000-01-01T00:00:00Z", "1000-01-01 00:00:00.000000"),
        ("0999-12-31T23:30:00-01:00", "1000-01-01 00:30:00.000000"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31 23:59:59.999999"),
    ],
)
def test_rfc_3339_becomes_utc_with_six_digits(ts: str, stored: str) -> None:
    assert reading(payload(ts=ts)).ts == stored


@pytest.mark.parametrize(
    "ts",
    [
        "2026-01-02T03:04:05",
        "2026-01-02T03:04:05.123456",
        "2026-01-02",
        "2026-W01-1T03:04:05Z",
        "20260102T030405Z",
        "2026-01-02x03:04:05Z",
        "2026-01-02T03:04Z",
        "2026-01-02T24:00:00Z",
        "2026-01-02T24:00:00.000000Z",
        "2026-01-02T23:59:60Z",
        "2026-01-02T03:60:00.000000Z",
        "2026-02-30T03:04:05Z",
        "2026-02-30T03:04:05.000000Z",
        "2026-00-10T03:04:05.000000Z",
        "2026-01-02T03:04:05.Z",
        "2026-01-02T03:04:05,5Z",
        "2026-01-02T03:04:05 Z",
        "2026-01-02T03:04:05.12345 Z",
        "2026-01-02T03:04:05+0200",
        "2026-01-02T03:04:05+02",
        "2026-01-02T03:04:05+24:00",
        "2026-01-02T03:04:05+02:60",
        "2026-01-02T03:04:05+02:00:30",
        "0000-01-01T00:00:00Z",
        "0999-12-31T23:59:59.999999Z",
        "1000-01-01T00:00:00+00:01",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-00:01",
        "10000-01-01T00:00:00Z",
        " 2026-01-02T03:04:05Z",
        "2026-01-02T03:04:05Z\n",
        "٢٠٢٦-01-02T03:04:05Z",
        "2026-01-02T03:04:05.12345²Z",
        "yesterday" * 100,
    ],
)
def test_a_time_that_is_not_rfc_3339_with_a_zone_within_datetime_is_rejected(ts: str) -> None:
    assert reason(payload(ts=ts)) == "ts"


@given(st.datetimes(min_value=datetime(1000, 1, 1), max_value=datetime(9999, 12, 31)), st.integers(-1439, 1439))  # noqa: DTZ001
def test_any_time_in_any_zone_is_stored_as_the_same_moment(moment: datetime, minutes: int) -> None:
    shift = timedelta(minutes=minutes)
    try:
        local = moment + shift
    except OverflowError:
        return
    sign = "-" if minutes < 0 else "+"
    ts = f"{local.isoformat('T', 'microseconds')}{sign}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"
    assert reading(payload(ts=ts)).ts == moment.isoformat(" ", "microseconds")


def test_a_missing_time_is_taken_from_a_uuid7() -> None:
    milliseconds = int(datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC).timestamp() * 1000)
    event = f"{milliseconds:012x}70008000000000000001"
    event = f"{event[:8]}-{event[8:12]}-{event[12:16]}-{event[16:20]}-{event[20:]}"
    for missing_ts in ("park", "epoch", "arrival"):
        assert reading(payload(event_id=event, ts=ABSENT), missing_ts=missing_ts).ts == "2026-01-02 03:04:05.678000"
    assert reading(payload(event_id=event, ts=None)).ts == "2026-01-02 03:04:05.678000"
    assert reason(payload(event_id="ffffffff-ffff-7000-8000-000000000001", ts=ABSENT)) == "ts"


def test_a_missing_time_without_a_uuid7_is_parked_or_as_configured() -> None:
    raw = payload(event_id="fcd0c4a2-9d3e-4b0e-8f57-0123456789ab", ts=ABSENT)
    assert reason(raw) == "ts"
    assert reading(raw, missing_ts="epoch").ts == "1970-01-01 00:00:00.000000"
    assert reading(raw, received_at=86400.25, missing_ts="arrival").ts == "1970-01-02 00:00:00.250000"
    assert reason(payload(event_id="a string", ts=ABSENT)) == "ts"


def test_a_reading_older_than_the_age_bound_when_it_arrived_is_rejected() -> None:
    arrival = datetime(2026, 1, 2, 3, 5, 5, tzinfo=UTC).timestamp()
    assert reading(payload(), received_at=arrival, max_age=60).value == 21.5
    assert reason(payload(), received_at=arrival + 1, max_age=60) == "age"
    assert reading(payload(ts="9999-12-31T23:59:59Z"), received_at=arrival, max_age=60).value == 21.5


# -- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (21.5, (21.5, None)),
        (0, (0.0, None)),
        (-7, (-7.0, None)),
        (True, (1.0, None)),
        (False, (0.0, None)),
        (None, (None, None)),
        ("open", (None, "open")),
        ("", (None, "")),
        (2**63, (2.0**63, None)),
        (2**64 - 1, (2.0**64, None)),
        (10**30, (1e30, None)),
    ],
)
def test_a_value_is_a_number_or_a_text_or_nothing(value: object, stored: tuple[float | None, str | None]) -> None:
    found = reading(payload(value=value))
    assert (found.value, found.value_text) == stored
    assert found.value is None or type(found.value) is float


def test_the_digits_of_a_huge_integer_are_kept_in_the_payload() -> None:
    assert "123456789012345678901234567890" in reading(payload(value=123456789012345678901234567890)).payload


def test_of_a_name_that_occurs_twice_the_last_one_counts() -> None:
    assert reading(payload()[:-1] + b',"value":1}').value == 1


# -- for all -----------------------------------------------------------------------------------------------------------

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([EVENT, "boiler", "2026-01-02T03:04:05Z"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
nearly = st.fixed_dictionaries(
    {}, optional={**dict.fromkeys(["event_id", "device_id", "metric", "ts", "value", "unit", "x"], values)}
)
rules = st.builds(
    ReadingRules,
    missing_ts=st.sampled_from(["park", "epoch"]),
    missing_id=st.sampled_from(["park", "payload"]),
    device_id_level=st.none() | st.integers(0, 3),
    metric_level=st.none() | st.integers(0, 3),
)


@given(st.binary(), st.text(max_size=20))
def test_no_bytes_at_all_make_it_raise(raw: bytes, topic: str) -> None:
    assert isinstance(ReadingDecoder().decode(raw, topic, 0.0), Rejected | Reading)


@given(nearly, st.text(max_size=20), rules)
def test_a_payload_close_to_a_reading_never_makes_it_raise_and_never_breaks_a_bound(
    message: dict[str, object], topic: str, chosen: ReadingRules
) -> None:
    found = ReadingDecoder(chosen).decode(json.dumps({**GOOD, **message}).encode(), topic, 0.0)
    if isinstance(found, Rejected):
        assert found.reason in REJECTION_REASONS
    else:
        assert len(found.event_id) == 16
        assert 0 < len(found.device_id) <= MAX_ID
        assert 0 < len(found.metric) <= MAX_ID
        assert len(found.ts) == 26
        assert (found.value is None) or (found.value_text is None)
        found.payload.encode()


@given(nearly, st.floats(0, 4e9), st.floats(0, 4e9), rules)
def test_a_redelivery_has_the_same_key_whenever_it_arrives(
    message: dict[str, object], first: float, second: float, chosen: ReadingRules
) -> None:
    raw = json.dumps({**GOOD, **message}).encode()
    assert key(ReadingDecoder(chosen).decode(raw, "a/b/c", first)) == key(
        ReadingDecoder(chosen).decode(raw, "a/b/c", second)
    )
