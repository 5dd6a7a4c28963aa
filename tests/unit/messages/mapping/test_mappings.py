"""Mappings: any message goes to the first one that is for it."""

from __future__ import annotations

import json
import math
import threading
import time
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorsync.messages.mapping import FormatSpec, Mappings, MappingSpec, ReadingSpec, Source
from sensorsync.messages.mapping.formats import json_text
from sensorsync.messages.mapping.model import MAX_ROWS, FormatName
from sensorsync.messages.reading import REJECTION_REASONS, FanOut, Reading, Rejected, TableRow
from tests.unit.messages.mapping.specs import (
    OF_MESSAGE,
    RECEIVED_AT,
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
    table,
)

# -- which mapping ---------------------------------------------------------------------------------------------------------


def named(name: str, **changes: Any) -> MappingSpec:
    return single(constant(name), name=name, **changes)


def test_a_message_without_a_mapping_is_for_the_plain_decoder() -> None:
    assert decode(single(), message(), "other/topic") is None
    assert decode([], message()) is None
    assert decode(named("a", when="type == 'up'"), message()) is None


def test_the_first_mapping_of_the_list_that_is_for_it_takes_it() -> None:
    listed = [
        named("other", topic="x/{device}"),
        named("up", when="type == 'up'"),
        named("any"),
        named("never"),
    ]
    assert one(listed, message(type="up")).value_text == "up"
    assert one(listed, message(type="join")).value_text == "any"


def test_a_message_is_parsed_once_for_all_mappings_of_its_format(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []
    parse = json_text.JsonFormat.parse

    def counted(self: json_text.JsonFormat, payload: bytes) -> Any:
        parsed.append(payload)
        return parse(self, payload)

    monkeypatch.setattr(json_text.JsonFormat, "parse", counted)
    listed = [named(name, when=f"type == '{name}'") for name in ("a", "b", "c")]
    bare = single(path("@"), name="bare", when="@ == 'x'", format=FormatSpec("value"))
    assert one([listed[0], bare, *listed[1:]], message(type="c")).value_text == "c"
    assert len(parsed) == 1


def test_a_payload_of_another_format_is_for_the_next_mapping_where_there_is_a_condition() -> None:
    bare = single(path("@"), name="bare", format=FormatSpec("value"), missing_id="payload", missing_ts="epoch")
    assert one([single(when="type"), bare], b"231.7").value == 231.7
    assert refused([single(), bare], b"on")[0] == "json"


def test_the_first_decode_error_is_reported_when_no_mapping_matches() -> None:
    failing = single(when="starts_with(type, 'x')")
    assert refused([failing, named("b", when="type == 'up'")], message())[0] == "mapping"
    assert refused([failing, named("b", when="type == 'up'")], b"{")[0] == "json"
    assert one([failing, named("b")], message()).value_text == "b"


def test_the_truth_of_a_condition_is_that_of_jmespath() -> None:
    for value, taken in (
        (0, True),
        ("x", True),
        ({"a": 1}, True),
        ("", False),
        ([], False),
        (None, False),
        (False, False),
    ):
        assert (decode(single(when="flag"), message(flag=value)) is not None) == taken


def test_the_memory_of_topics_and_names_is_bounded() -> None:
    mappings = Mappings([single()])
    payload = json.dumps(message()).encode()
    for number in range(5000):
        mappings.decode(payload, f"home/kitchen/d{number}/state", None, 0.0)
        mappings.decode(payload, f"elsewhere/{number}", None, 0.0)
    assert len(mappings._routes) <= 4096
    mappings.decode(payload, f"home/{'x' * 2000}/d/state", None, 0.0)
    assert not any(len(topic) > 1024 for topic in mappings._routes)


def test_threads_may_share_the_mappings() -> None:
    mappings = Mappings([single(), named("all", topic="home/{device}/#")])
    wrong: list[object] = []

    def work(first: int) -> None:
        for number in range(first, first + 3000):
            found = mappings.decode(
                json.dumps(message(value=number)).encode(), f"home/k/d{number}/state", None, RECEIVED_AT
            )
            if not isinstance(found, Reading) or (found.device_id, found.value) != (f"d{number}", number):
                wrong.append(found)

    threads = [threading.Thread(target=work, args=(number * 1000,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# -- whatever the bytes ----------------------------------------------------------------------------------------------------

_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["2026-01-02T03:04:05Z", "1e999", "nan", "9" * 500, "on", "x" * 1100])
)
_names = st.sampled_from(["id", "ts", "value", "items", "t", "name", "type", "b"]) | st.text(max_size=3)
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_names, inner, max_size=4), max_leaves=12
)
_payloads = (
    st.binary(max_size=60)
    | _values.map(lambda value: json.dumps(value).encode())
    | st.dictionaries(_names, _values, max_size=6).map(lambda value: json.dumps(value).encode())
)
_everything = ReadingSpec(path("name"), path("value", from_unit="degF", to_unit="degC"), path("type"), optional=True)
_NO_ID: dict[str, Any] = {"missing_id": "payload", "missing_ts": "epoch"}
_COLUMNS = {
    "a": path("id", type="id"),
    "b": path("value"),
    "c": path("t", type="integer"),
    "d": Source(root="@", type="json"),
    "e": path("ts", type="time", format="unix_ms"),
    "f": path("name", values={"on": "1", "null": "0"}),
}


def _records(name: FormatName, metric: Source, value: Source, **changes: Any) -> MappingSpec:
    return spec(format=FormatSpec(name), readings=(ReadingSpec(metric, value),), **_NO_ID, **changes)


_SPECS = [
    single(),
    single(path("@"), format=FormatSpec("value"), **_NO_ID),
    spec(readings=(reading("a", path("value", type="boolean"), optional=True), _everything), missing_ts="arrival"),
    spec(each="items", where="@ != `null`", readings=(reading("a", path("t", type="text")), _everything), **_NO_ID),
    spec(each="*", readings=(ReadingSpec(path("to_string(name)"), path("to_number(@)")),), **_NO_ID),
    spec(each="@", readings=(ReadingSpec(path("key"), path("value")),), event_id=(path("key"), Source(root="id"))),
    spec(each="@", readings=(ReadingSpec(path("key"), path("value")),), keep="message", **_NO_ID),
    spec(each="[{v: @}, items]", readings=(reading("a", Source(root="sum(items)")),), **_NO_ID),
    spec(when="length(items) > `1`", each="reverse(items)", readings=(reading("a", "@"),), **OF_MESSAGE),
    _records("csv", constant("a"), path("b", type="number")),
    _records("senml", path("n"), path("v"), ts=path("t", format="senml")),
    _records("influx", path("field"), path("value"), ts=path("time", format="unix_ns")),
    table(_COLUMNS, ("a",), each="@"),
    table({"k": path("items[0].value"), "p": Source(field="payload")}, ("k",), device_id=Source(topic="{device}")),
]
_BUILT = [Mappings([one]) for one in _SPECS]


def check(part: Reading | TableRow | Rejected) -> None:
    if isinstance(part, Rejected):
        assert part.reason in REJECTION_REASONS
        assert part.message.startswith("m: ")
        part.message.encode()
    elif isinstance(part, TableRow):
        assert len(part.values) == len(part.table.columns)
        assert all(part.values[place] is not None for place in part.table.key_places)
        for value in part.values:
            assert value is None or isinstance(value, bool | str | bytes | int | float)
            assert not isinstance(value, float) or math.isfinite(value)
            assert not isinstance(value, int) or -(2**63) <= value < 2**64
    else:
        assert len(part.event_id) == 16
        assert 0 < len(part.device_id) <= 128
        assert 0 < len(part.metric) <= 128
        assert len(part.ts) == 26
        assert part.value is None or math.isfinite(part.value)
        assert part.value is not None or part.value_text is not None
        assert part.value_text is None or len(part.value_text) <= 1024
        assert part.unit is None or len(part.unit) <= 32
        part.payload.encode()
        orjson.loads(part.payload)


@given(st.sampled_from(range(len(_BUILT))), _payloads)
def test_any_bytes_have_one_outcome_and_twice_the_same(which: int, payload: bytes) -> None:
    found = _BUILT[which].decode(payload, TOPIC, None, RECEIVED_AT)
    assert found == _BUILT[which].decode(payload, TOPIC, None, RECEIVED_AT)
    if isinstance(found, FanOut):
        assert found.parts
        for part in found.parts:
            check(part)
        ids = [part.event_id for part in found.parts if isinstance(part, Reading)]
        assert len(set(ids)) == len(ids)
    elif found is not None:
        check(found)


@given(st.lists(st.none() | st.integers(0, 3) | st.just([]), max_size=20))
def test_no_part_is_lost(items: list[Any]) -> None:
    """An element always gives `a`, and `b` where it is not null. An array is not a value, but is a part too."""
    both = spec(each="items", readings=(reading("a", constant("1")), reading("b", "@", optional=True)), **OF_MESSAGE)
    expected = len(items) + sum(item is not None for item in items)
    if not expected:
        assert refused(both, message(items=items))[0] == "empty"
        return
    found = parts(both, message(items=items))
    assert len(found) == expected
    assert sum(isinstance(part, Rejected) for part in found) == sum(item == [] for item in items)
    keys = {(part.device_id, part.metric, part.ts, part.event_id) for part in found if isinstance(part, Reading)}
    assert len(keys) == sum(isinstance(part, Reading) for part in found)


@pytest.mark.parametrize(
    "mapping",
    [
        spec(each="items", readings=(reading("a", Source(root="sum(items)")),), **OF_MESSAGE),
        spec(each="items", readings=(reading("a", Source(root="join('', items)")),), **OF_MESSAGE),
        spec(each="items", readings=(reading("a", "@"),), missing_id="payload", event_id=(), ts=Source(root="ts")),
        spec(each="items", readings=(reading("a", "@"),), event_id=(Source(root="padding"),), ts=Source(root="ts")),
        spec(each="items", readings=(reading("a", Source(root="padding", type="number")),), **OF_MESSAGE),
        spec(each="items", readings=(reading("a", Source(root="@", values={"a": "b"})),), **OF_MESSAGE),
        table({"k": path("@"), "all": Source(root="@", type="json")}, ("k",), each="items"),
    ],
    ids=["root", "failing root", "payload id", "long id", "long number", "look-up", "json"],
)
def test_a_large_message_of_many_elements_takes_time_in_proportion(mapping: MappingSpec) -> None:
    large = message(items=[1] * MAX_ROWS, padding="9" * 200_000)
    began = time.process_time()
    found = decode(mapping, large)
    assert time.process_time() - began < 2  # quadratic work takes minutes
    assert found is not None


def test_a_mapping_of_one_message_may_give_the_most_rows() -> None:
    most = spec(each="items", readings=(reading("a", "@"),), **OF_MESSAGE)
    assert len({part.event_id for part in readings(most, message(items=[1] * MAX_ROWS))}) == MAX_ROWS
