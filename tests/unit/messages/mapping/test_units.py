"""Units become a factor and an offset, or are refused with a sentence."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal

import pytest

from sensorsync.messages.mapping import units
from sensorsync.messages.mapping.units import unit_conversion


@pytest.mark.parametrize(
    ("from_unit", "to_unit", "value", "expected"),
    [
        ("degF", "degC", 212.0, 100.0),
        ("degC", "K", 0.0, 273.15),
        ("kWh", "J", 1.0, 3_600_000.0),
        ("m/s", "km/h", 10.0, 36.0),
        ("mbar", "hPa", 1013.25, 1013.25),
        ("percent", "dimensionless", 50.0, 0.5),
    ],
)
def test_a_value_is_converted_by_a_factor_and_an_offset(
    from_unit: str, to_unit: str, value: float, expected: float
) -> None:
    scale, offset = unit_conversion(from_unit, to_unit)
    assert float(Decimal(value) * scale + offset) == expected


@pytest.mark.parametrize(
    ("from_unit", "to_unit", "said"),
    [
        ("degC", "m", "cannot be converted"),
        ("foo", "m", "'foo' is no unit"),
        ("m", "2 m", "'2 m' is no unit"),
        ("1+", "m", "is no unit"),
        ("", "m", "a unit is empty"),
        ("__import__('os')", "m", "is no unit"),
        ("dBm", "mW", "dBm"),
    ],
)
def test_an_impossible_conversion_is_reported_in_a_sentence(from_unit: str, to_unit: str, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        unit_conversion(from_unit, to_unit)
    assert said in str(caught.value)


def test_units_that_differ_by_a_curve_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "_converted", lambda number, *_: Decimal(number) ** 2)
    with pytest.raises(ValueError, match="more than a factor and an offset"):
        unit_conversion("a", "b")


def test_pint_is_not_loaded_without_a_conversion() -> None:
    code = "import sys, sensorsync.messages.mapping.mappings; sys.exit('pint' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
