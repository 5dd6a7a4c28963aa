"""What a section finds wrong with itself: several sentences at once, each with its place inside the section."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

Place = tuple[str | int, ...]
"""A key, or a place inside its value: `("security", "keys", 0, "secret")`."""

EXPRESSION = "expression"
"""The type of pydantic's error about a text that is no JMESPath expression; its context has the `column`, from 0, or None."""

Fault = tuple[Place, str]
"""What is wrong where, from the section that says so; `()` is the section itself."""


def refuse(section: BaseModel, faults: Iterable[Fault]) -> None:
    """Return when there is no fault. Raises ValidationError with all of them, which a validator may let pass on to pydantic."""
    found = [
        InitErrorDetails(type=PydanticCustomError("value_error", "{error}", {"error": sentence}), loc=place, input=None)
        for place, sentence in faults
    ]
    if found:
        raise ValidationError.from_exception_data(type(section).__name__, found, hide_input=True)


def dotted(place: Place) -> str:
    """A place as people write it: `mappings[0].readings[1].value`."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")
