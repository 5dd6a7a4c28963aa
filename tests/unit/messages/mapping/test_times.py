"""Times as devices write them: exact to the microsecond, in UTC, and of a known zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorsync.messages.mapping.times import time_parser
from sensorsync.messages.reading.model import DecodeError

NOW = 1_800_000_000.5
_moments = st.datetimes(datetime(1000, 1, 1), datetime(9999, 12, 31))  # noqa: DTZ001 - in UTC


@pytest.mark.parametrize(
    ("form", "zone", "value", "expected"),
    [
        ("rfc3339", None, "2026-01-02T03:04:05Z", "2026-01-02 03:04:05.000000"),
        ("rfc3339", "Europe/Berlin", "2026-07-02T03:04:05", "2026-07-02 01:04:05.000000"),
        ("rfc3339", "Europe/Berlin", "2026-01-02 03:04:05.1234567", "2026-01-02 02:04:05.123456"),
        ("rfc3339", "Europe/Berlin", "2026-07-02T03:04:05.5+00:00", "2026-07-02 03:04:05.500000"),
        ("rfc3339", "Europe/Berlin", "2026-10-25T02:30:00", "2026-10-25 00:30:00.000000"),
        ("unix", None, 1_700_000_000, "2023-11-14 22:13:20.000000"),
        ("unix", None, 0, "1970-01-01 00:00:00.000000"),
        ("unix", None, -1, "1969-12-31 23:59:59.000000"),
        ("unix", None, 1_700_000_000.123456, "2023-11-14 22:13:20.123456"),
        ("unix", None, "1700000000", "2023-11-14 22:13:20.000000"),
        ("unix", None, "1700000000.1234569", "2023-11-14 22:13:20.123456"),
        ("unix", None, "-0.5", "1969-12-31 23:59:59.500000"),
        ("unix_ms", None, 1_700_000_000_123, "2023-11-14 22:13:20.123000"),
        ("unix_ms", None, "1700000000123.5", "2023-11-14 22:13:20.123500"),
        ("unix_us", None, 1_700_000_000_123_456, "2023-11-14 22:13:20.123456"),
        ("unix_ns", None, 1_700_000_000_123_456_789, "2023-11-14 22:13:20.123456"),
        ("unix_ns", None, "1700000000123456789", "2023-11-14 22:13:20.123456"),
        ("unix_ns", None, 1.7e18, "2023-11-14 22:13:20.000000"),
        ("senml", None, 1_320_067_464, "2011-10-31 13:24:24.000000"),
        ("%Y%m%d%H%M%S", "UTC", 20260102030405, "2026-01-02 03:04:05.000000"),
        ("%d.%m.%Y %H:%M:%S.%f", "Europe/Berlin", "02.07.2026 05:04:01.5", "2026-07-02 03:04:01.500000"),
        ("%Y-%m-%dT%H:%M:%S%z", None, "2026-01-02T03:04:05+0100", "2026-01-02 02:04:05.000000"),
        ("%d/%m/%y %%z", "UTC", "02/01/26 %z", "2026-01-02 00:00:00.000000"),
    ],
)
def test_a_time_becomes_utc_of_26_characters(form: str, zone: str | None, value: object, expected: str) -> None:
    assert time_parser(form, zone)(value, NOW) == expected


@pytest.mark.parametrize(
    ("form", "zone", "value"),
    [
        ("rfc3339", None, "2026-01-02T03:04:05"),
        ("rfc3339", "Europe/Berlin", "2026-02-30T03:04:05"),
        ("rfc3339", "Europe/Berlin", 17),
        ("rfc3339", "Europe/Berlin", "0999-02-01T03:04:05"),
        ("unix", None, True),
        ("unix", None, "now"),
        ("unix", None, "1e9"),
        ("unix", None, ""),
        ("unix", None, None),
        ("unix", None, [1]),
        ("unix", None, 1e300),
        ("unix", None, float("inf")),
        ("unix", None, float("nan")),
        ("unix", None, 10**30),
        ("unix", None, "9" * 21),
        ("unix", None, 253_402_300_800),
        ("unix", None, -30_610_224_001),
        ("unix_ns", None, float("inf")),
        ("senml", None, "x"),
        ("%Y-%m-%d", "UTC", "2026-13-01"),
        ("%Y-%m-%d", "UTC", "2026-01-01 "),
        ("%Y-%m-%d", "UTC", 1.5),
        ("%Y-%m-%d", "UTC", "0999-01-01"),
        ("%Y-%m-%d", "Asia/Tokyo", "0001-01-01"),
    ],
)
def test_an_invalid_time_is_a_decode_error(form: str, zone: str | None, value: object) -> None:
    with pytest.raises(DecodeError) as caught:
        time_parser(form, zone)(value, NOW)
    assert caught.value.rejection.reason == "ts"


def test_a_time_of_any_length_is_rejected_quickly() -> None:
    with pytest.raises(DecodeError, match="too long"):
        time_parser("%Y-%m-%d", "UTC")("2" * 100_000, NOW)


def test_a_relative_time_of_senml_counts_from_the_arrival_or_is_none() -> None:
    assert time_parser("senml")(-5, NOW) is None
    assert time_parser("senml")(2**28 - 1, NOW) is None
    assert time_parser("senml")(2**28, NOW) == "1978-07-04 21:24:16.000000"
    assert time_parser("senml", relative_to_arrival=True)(-5, NOW) == "2027-01-15 07:59:55.500000"
    assert time_parser("senml", relative_to_arrival=True)(0.25, NOW) == "2027-01-15 08:00:00.750000"


@pytest.mark.parametrize(
    ("form", "zone", "said"),
    [
        ("iso", None, "no time format 'iso'"),
        ("unix", "UTC", "a zone has no use"),
        ("senml", "UTC", "a zone has no use"),
        ("rfc3339", "Mars/Base", "no time zone 'Mars/Base'"),
        ("rfc3339", "../etc", "no time zone"),
        ("%H:%M", "UTC", "has no year"),
        ("%%Y", "UTC", "has no year"),
        ("%Y-%m-%d", None, "says no zone"),
        ("%Y-%m-%d %%z", None, "says no zone"),
        ("%Y-%m-%dT%H:%M:%S%z", "UTC", "a zone has no use"),
        ("%Y-%m", "UTC", "whole date"),
        ("%Y-%Q", "UTC", "reads no time"),
        ("%G-%V", "UTC", "reads no time"),
    ],
)
def test_a_format_that_cannot_work_is_refused_at_once(form: str, zone: str | None, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        time_parser(form, zone)


@given(_moments)
def test_whole_numbers_are_exact(moment: datetime) -> None:
    text = moment.isoformat(" ", "microseconds")
    micros = (moment - datetime(1970, 1, 1)) // timedelta(microseconds=1)  # noqa: DTZ001 - in UTC
    assert time_parser("unix_us")(micros, NOW) == text
    assert time_parser("unix_ns")(micros * 1000 + 999, NOW) == text
    assert time_parser("unix_ns")(str(micros * 1000), NOW) == text
    assert time_parser("unix_ms")(micros // 1000, NOW) == text[:-3] + "000"


@given(
    _moments.filter(lambda moment: moment.year > 1000), st.sampled_from(["Europe/Berlin", "America/St_Johns", "UTC"])
)
def test_a_zone_gives_what_zoneinfo_gives(moment: datetime, zone: str) -> None:
    read = time_parser("%Y-%m-%d %H:%M:%S.%f", zone)
    text = moment.isoformat(" ", "microseconds")
    assert read(text, NOW) == time_parser("rfc3339", zone)(text, NOW)
    assert abs(datetime.fromisoformat(f"{read(text, NOW)}Z") - moment.replace(tzinfo=UTC)) < timedelta(hours=14)


@given(
    st.sampled_from(["rfc3339", "unix", "unix_ms", "unix_us", "unix_ns", "senml", "%Y-%m-%d %H:%M:%S%z"]),
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers(), max_size=2),
    st.booleans(),
)
def test_any_value_is_a_time_or_a_decode_error(form: str, value: object, arrival: bool) -> None:
    try:
        found = time_parser(form, relative_to_arrival=arrival)(value, NOW)
    except DecodeError:
        return
    assert found is None or ("1000" <= found <= "9999-12-31 23:59:59.999999" and len(found) == 26)
