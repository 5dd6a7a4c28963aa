"""Conversions between units, as a factor and an offset. They are computed once, when the mapping is built."""

from __future__ import annotations

import math
from decimal import Decimal
from functools import cache
from typing import Any


def unit_conversion(from_unit: str, to_unit: str) -> tuple[Decimal, Decimal]:
    """Return (scale, offset). A value in `to_unit` is value * scale + offset.

    Raises ValueError with a sentence for a unit that pint does not know, and for two units that measure different things.
    """
    zero, one, many = (_converted(number, from_unit, to_unit) for number in (0, 1, 1000))
    scale = one - zero
    if not math.isclose(many - zero, scale * 1000, rel_tol=1e-12):
        raise ValueError(f"{from_unit} and {to_unit} differ by more than a factor and an offset")
    return scale, zero


def _converted(number: int, from_unit: str, to_unit: str) -> Decimal:
    for unit in (from_unit, to_unit):
        _check(unit)
    try:
        return Decimal(_registry().Quantity(Decimal(number), from_unit).to(to_unit).magnitude)
    except Exception as error:  # noqa: BLE001 - pint raises many types for texts that a person wrote
        raise ValueError(f"{from_unit} cannot be converted to {to_unit}: {error}") from None


def _check(unit: str) -> None:
    if not unit.strip():  # pint takes it for a number without a unit
        raise ValueError("a unit is empty")
    try:
        _registry().Unit(unit)
    except Exception as error:  # noqa: BLE001 - see above; pint evaluates the text
        raise ValueError(f"{unit!r} is no unit that pint knows, such as degF, kWh or m/s ({error})") from None


@cache
def _registry() -> Any:
    """Return the registry of units, which is made for the first unit.

    Reading pint's definitions takes half a second, and most starts do not need them. The registry uses decimals, because a difference
    of two doubles is not 5/9 to the last digit.
    """
    import pint  # noqa: PLC0415 - see above

    return pint.UnitRegistry(non_int_type=Decimal)
