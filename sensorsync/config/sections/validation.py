"""Issues that a section finds in itself. They are reported together, each with its place inside the section."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from sensorsync.runtime.key_text import hide_private_key

Location = tuple[str | int, ...]
"""A key, or a place inside its value: `("security", "keys", 0, "secret")`."""

EXPRESSION_ERROR_TYPE = "expression"
"""Type of pydantic's error about a text that is not a JMESPath expression. Its context has the `column`, from 0, or None."""

ValidationIssue = tuple[Location, str]
"""A place, counted from the section that reports the issue, and a sentence. `()` is the section itself."""


def raise_for_issues(section: BaseModel, issues: Iterable[ValidationIssue]) -> None:
    """Raise ValidationError with all issues, if there are any. A validator may let it pass on to pydantic."""
    found = [
        InitErrorDetails(type=PydanticCustomError("value_error", "{error}", {"error": sentence}), loc=place, input=None)
        for place, sentence in issues
    ]
    if found:
        raise ValidationError.from_exception_data(type(section).__name__, found, hide_input=True)


def format_location(location: Location) -> str:
    """Return a place in its written form: `mappings[0].readings[1].value`. A name that is a private key is not shown."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{hide_private_key(part)}"
    return text.removeprefix(".")
