"""What a section finds wrong with itself: several sentences at once, each with its place inside the section."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

Location = tuple[str | int, ...]
"""A key, or a place inside its value: `("security", "keys", 0, "secret")`."""

EXPRESSION_ERROR_TYPE = "expression"
"""The type of pydantic's error about a text that is no JMESPath expression; its context has the `column`, from 0, or None."""

ValidationIssue = tuple[Location, str]
"""What is wrong where, from the section that says so; `()` is the section itself."""


def raise_for_issues(section: BaseModel, issues: Iterable[ValidationIssue]) -> None:
    """Return when there is no fault. Raises ValidationError with all of them, which a validator may let pass on to pydantic."""
    found = [
        InitErrorDetails(type=PydanticCustomError("value_error", "{error}", {"error": sentence}), loc=place, input=None)
        for place, sentence in issues
    ]
    if found:
        raise ValidationError.from_exception_data(type(section).__name__, found, hide_input=True)


def format_location(location: Location) -> str:
    """A place as people write it: `mappings[0].readings[1].value`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")
