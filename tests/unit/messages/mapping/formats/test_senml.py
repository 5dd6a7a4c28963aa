"""`senml`: RFC 8428 in JSON, by its own examples."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sensorsync.messages.mapping.model import MAX_ROWS, FormatSpec
from sensorsync.messages.reading import Rejected
from tests.unit.messages.mapping.formats.parsing import parse, rejected

SENML = FormatSpec("senml")
DEVICE = "urn:dev:ow:10e2073a01080063"


def resolved(pack: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = parse(SENML, json.dumps(pack))
    assert not isinstance(found, Rejected), found
    return found


def fault(*pack: Any) -> str:
    found = rejected(SENML, json.dumps(pack))
    assert found.reason == "format"
    return found.message


# -- the RFC's examples ------------------------------------------------------------------------------------------------


def test_a_single_data_point() -> None:  # 5.1.1
    assert resolved([{"n": DEVICE, "u": "Cel", "v": 23.1}]) == [
        {"name": DEVICE, "n": DEVICE, "u": "Cel", "t": 0, "v": 23.1, "value": 23.1}
    ]


def test_a_base_name_is_put_before_the_names_that_follow() -> None:  # 5.1.2, the first
    assert resolved(
        [{"bn": f"{DEVICE}:", "n": "voltage", "u": "V", "v": 120.1}, {"n": "current", "u": "A", "v": 1.2}]
    ) == [
        {"name": f"{DEVICE}:voltage", "bn": f"{DEVICE}:", "n": "voltage", "u": "V", "t": 0, "v": 120.1, "value": 120.1},
        {"name": f"{DEVICE}:current", "bn": f"{DEVICE}:", "n": "current", "u": "A", "t": 0, "v": 1.2, "value": 1.2},
    ]


def test_times_count_from_the_base_time_and_units_default_to_the_base_unit() -> None:  # 5.1.2, the second
    base = "urn:dev:ow:10e2073a0108006:"
    pack: list[dict[str, Any]] = [
        {"bn": base, "bt": 1.276020076001e09, "bu": "A", "bver": 5, "n": "voltage", "u": "V", "v": 120.1},
        {"n": "current", "t": -5, "v": 1.2},
        {"n": "current", "t": -4, "v": 1.3},
        {"n": "current", "t": -3, "v": 1.4},
        {"n": "current", "t": -2, "v": 1.5},
        {"n": "current", "t": -1, "v": 1.6},
        {"n": "current", "v": 1.7},
    ]

    assert [(each["name"], each["u"], each["t"], each["value"], each["bver"]) for each in resolved(pack)] == [
        (f"{base}voltage", "V", 1276020076.001, 120.1, 5),
        (f"{base}current", "A", 1276020071.001, 1.2, 5),
        (f"{base}current", "A", 1276020072.001, 1.3, 5),
        (f"{base}current", "A", 1276020073.001, 1.4, 5),
        (f"{base}current", "A", 1276020074.001, 1.5, 5),
        (f"{base}current", "A", 1276020075.001, 1.6, 5),
        (f"{base}current", "A", 1276020076.001, 1.7, 5),
    ]


def test_a_record_may_have_no_name_of_its_own() -> None:  # 5.1.2, the third, which the RFC cuts off
    values = [21.2, 21.3, 21.4, 21.4, 21.5, 21.5, 21.5, 21.6, 21.7]
    pack = [{"v": value} | ({"t": 10 * place} if place else {}) for place, value in enumerate(values)]
    pack[0] |= {"bn": DEVICE, "bt": 1.320067464e09, "bu": "%RH"}  # type: ignore[dict-item]

    assert resolved(pack) == [
        {"name": DEVICE, "bn": DEVICE, "u": "%RH", "t": 1320067464.0 + 10 * place, "v": value, "value": value}
        for place, value in enumerate(values)
    ]


def test_multiple_measurements_resolve_as_in_the_rfc() -> None:  # 5.1.3 and 5.1.4
    pack: list[dict[str, Any]] = [
        {"bn": DEVICE, "bt": 1.320067464e09, "bu": "%RH", "v": 20},
        {"u": "lon", "v": 24.30621},
        {"u": "lat", "v": 60.07965},
        {"t": 60, "v": 20.3},
        {"u": "lon", "t": 60, "v": 24.30622},
        {"u": "lat", "t": 60, "v": 60.07965},
        {"t": 120, "v": 20.7},
        {"u": "lon", "t": 120, "v": 24.30623},
        {"u": "lat", "t": 120, "v": 60.07966},
        {"u": "%EL", "t": 150, "v": 98},
        {"t": 180, "v": 21.2},
        {"u": "lon", "t": 180, "v": 24.30628},
        {"u": "lat", "t": 180, "v": 60.07967},
    ]
    expected = [
        ("%RH", 1.320067464e09, 20), ("lon", 1.320067464e09, 24.30621), ("lat", 1.320067464e09, 60.07965),
        ("%RH", 1.320067524e09, 20.3), ("lon", 1.320067524e09, 24.30622), ("lat", 1.320067524e09, 60.07965),
        ("%RH", 1.320067584e09, 20.7), ("lon", 1.320067584e09, 24.30623), ("lat", 1.320067584e09, 60.07966),
        ("%EL", 1.320067614e09, 98),
        ("%RH", 1.320067644e09, 21.2), ("lon", 1.320067644e09, 24.30628), ("lat", 1.320067644e09, 60.07967),
    ]  # fmt: skip

    assert [(each["name"], each["u"], each["t"], each["v"]) for each in resolved(pack)] == [
        (DEVICE, *each) for each in expected
    ]


def test_a_resolved_pack_resolves_to_itself() -> None:  # 5.1.4
    pack = [
        {"n": DEVICE, "u": "%RH", "t": 1.320067464e09, "v": 20},
        {"n": DEVICE, "u": "lon", "t": 1.320067464e09, "v": 24.30621},
    ]

    assert [{label: each[label] for label in "nutv"} for each in resolved(pack)] == pack


def test_multiple_data_types() -> None:  # 5.1.5
    found = resolved(
        [
            {"bn": f"{DEVICE}:", "n": "temp", "u": "Cel", "v": 23.1},
            {"n": "label", "vs": "Machine Room"},
            {"n": "open", "vb": False},
            {"n": "nfv-reader", "vd": "aGkgCg"},
        ]
    )

    assert [each["value"] for each in found] == [23.1, "Machine Room", False, "aGkgCg"]
    assert [each.keys() & {"v", "vs", "vb", "vd"} for each in found] == [{"v"}, {"vs"}, {"vb"}, {"vd"}]


def test_a_later_base_name_leaves_the_base_time_in_force() -> None:  # 5.1.6
    found = resolved(
        [
            {"bn": "2001:db8::2/", "bt": 1.320078429e09, "n": "temperature", "u": "Cel", "v": 25.2},
            {"n": "humidity", "u": "%RH", "v": 30},
            {"bn": "2001:db8::1/", "n": "temperature", "u": "Cel", "v": 12.3},
            {"n": "humidity", "u": "%RH", "v": 67},
        ]
    )

    assert [(each["name"], each["t"], each["value"]) for each in found] == [
        ("2001:db8::2/temperature", 1.320078429e09, 25.2),
        ("2001:db8::2/humidity", 1.320078429e09, 30),
        ("2001:db8::1/temperature", 1.320078429e09, 12.3),
        ("2001:db8::1/humidity", 1.320078429e09, 67),
    ]


def test_a_record_of_base_fields_alone_gives_no_record() -> None:  # 5.1.7
    found = resolved([{"bn": f"{DEVICE}:"}, {"n": "temp", "u": "Cel", "v": 23.1}, {"n": "heat", "u": "/", "v": 1}])

    assert [each["name"] for each in found] == [f"{DEVICE}:temp", f"{DEVICE}:heat"]


# -- the rules ---------------------------------------------------------------------------------------------------------


def test_the_base_value_is_added_to_numbers_alone() -> None:
    found = resolved([{"bn": "a", "bv": 20, "v": 0.5}, {"v": -1}, {"vs": "x"}, {"bv": 0, "v": 3}])

    assert [each["value"] for each in found] == [20.5, 19, "x", 3]


def test_the_base_sum_is_added_to_sums_and_is_the_sum_of_records_without() -> None:
    found = resolved([{"n": "a", "s": 5, "v": 1}, {"n": "a", "bs": 100, "s": 5}, {"n": "a", "v": 2}, {"n": "a"}])

    assert [(each.get("s"), each.get("value")) for each in found] == [(5, 1), (105, None), (100, 2), (100, None)]
    assert "value" not in found[1]


def test_a_time_that_counts_from_the_arrival_stays_one() -> None:
    assert [each["t"] for each in resolved([{"n": "a", "v": 1, "t": -2.5}, {"n": "a", "v": 1}])] == [-2.5, 0]


def test_an_update_time_is_kept() -> None:
    assert resolved([{"n": "a", "v": 1, "ut": 60}])[0]["ut"] == 60


def test_fields_that_are_not_known_are_left_out() -> None:
    assert resolved([{"n": "a", "v": 1, "x": {"deep": [1]}, "bx": 5}]) == [
        {"name": "a", "n": "a", "t": 0, "v": 1, "value": 1}
    ]


def test_a_field_that_must_be_understood_is_refused() -> None:
    assert fault({"n": "a", "v": 1}, {"n": "a", "v": 1, "ct_": "60"}) == (
        "record 1 (counted from 0): 'ct_' ends in _, so it must be understood, and is not"
    )


@pytest.mark.parametrize("version", [1, 10, 26])
def test_versions_that_are_understood_are_taken(version: int) -> None:
    assert resolved([{"bver": version, "n": "a", "v": 1}])[0].get("bver", 10) == version


@pytest.mark.parametrize("version", [-1, 0, 11, 27, 42])
def test_other_versions_are_refused(version: int) -> None:
    assert f"bver is {version};" in fault({"bver": version, "n": "a", "v": 1})


def test_a_pack_has_one_version() -> None:
    assert "a pack has one version" in fault({"n": "a", "v": 1}, {"bver": 9, "n": "a", "v": 1})


@pytest.mark.parametrize("name", ["a", "9", "A-Z:a.z/0_9"])
def test_names_of_the_allowed_characters_are_taken(name: str) -> None:
    assert resolved([{"n": name, "v": 1}])[0]["name"] == name


@pytest.mark.parametrize("name", ["", "_a", "-a", "a b", "a\n", "grün", "a#", "٣"])
def test_other_names_are_refused(name: str) -> None:
    assert "is not made of" in fault({"n": name, "v": 1})


def test_a_record_without_any_name_is_refused() -> None:
    assert "the name ''" in fault({"v": 1})


def test_the_name_that_counts_is_the_one_put_together() -> None:
    assert resolved([{"bn": "a", "n": "_b", "v": 1}])[0]["name"] == "a_b"


def test_a_long_base_name_cannot_be_multiplied() -> None:
    assert resolved([{"bn": "a" * 1000, "n": "b" * 24, "v": 1}])[0]["name"] == "a" * 1000 + "b" * 24
    assert "the name has 1025 characters" in fault({"bn": "a" * 1000, "n": "b" * 25, "v": 1})


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"n": "a", "v": "1"}, "v is a string, not a number"),
        ({"n": "a", "v": True}, "v is a boolean, not a number"),
        ({"n": "a", "v": None}, "v is null, not a number"),
        ({"n": "a", "vs": 1}, "vs is a number, not a string"),
        ({"n": "a", "vb": 0}, "vb is a number, not a boolean"),
        ({"n": 1, "v": 1}, "n is a number, not a string"),
        ({"n": "a", "v": 1, "bver": 10.0}, "bver is a number, not an integer"),
        ({"n": "a", "v": 1, "t": "now"}, "t is a string, not a number"),
        ({"n": "a", "v": 1, "vs": "x"}, "it has more than one value: v and vs"),
        ({"n": "a", "u": "V"}, "it has neither a value nor a sum"),
        ([], "it is an array, not an object"),
        (1, "it is a number, not an object"),
    ],
)
def test_an_invalid_record_is_refused_and_its_place_is_named(record: Any, message: str) -> None:
    assert fault({"n": "a", "v": 1}, record) == f"record 1 (counted from 0): {message}"


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ("[]", "the pack has no record with a value"),
        ('[{"bn": "a"}]', "the pack has no record with a value"),
        ('{"n": "a", "v": 1}', "a SenML pack is an array of records, not an object"),
        ("1", "a SenML pack is an array of records, not a number"),
    ],
)
def test_an_invalid_pack_is_refused(payload: str, message: str) -> None:
    assert rejected(SENML, payload) == ("format", message)


def test_a_sum_beyond_a_double_is_refused() -> None:
    assert rejected(SENML, '[{"n": "a", "bv": 1e308, "v": 1e308}]') == (
        "nan",
        "record 0 (counted from 0): bv + v is no finite number",
    )


def test_a_sum_beyond_64_bits_becomes_the_nearest_double() -> None:
    found = parse(SENML, f'[{{"n": "a", "bv": {2**63}, "v": {2**63}}}]')

    assert found[0]["value"] == 2.0**64
    assert type(found[0]["value"]) is float


@pytest.mark.parametrize(
    ("payload", "reason"), [("", "json"), ("[{]", "json"), ("[NaN]", "nan"), ("[" * 40 + "]" * 40, "nesting")]
)
def test_json_is_as_strict_as_elsewhere(payload: str, reason: str) -> None:
    assert rejected(SENML, payload).reason == reason


def test_there_are_as_many_records_as_a_message_may_have_and_no_more() -> None:
    record = {"n": "a", "v": 1}

    assert len(resolved([record] * MAX_ROWS)) == MAX_ROWS
    assert rejected(SENML, json.dumps([record] * (MAX_ROWS + 1))).reason == "too_large"
