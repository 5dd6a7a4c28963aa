"""One message on its way through a mapping, and the type of the functions that take values from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Message(NamedTuple):
    """The input of a mapping's sources, besides the element that a row is made of."""

    document: Any
    payload: bytes
    topic: str
    template_texts: tuple[str, ...]
    """Texts of the mapping's templates for this topic."""
    properties: Mapping[str, object] | None
    """As in `Delivery.properties`."""
    received_at: float
    """Seconds since 1970."""
    cache: dict[str, Any]
    """Values that are computed once for the whole message."""


ValueGetter = Callable[[Any, Message], Any]
"""Function (element, message) -> value, or None when there is none. It raises DecodeError."""

EMPTY_MESSAGE = Message(None, b"", "", (), None, 0.0, {})
"""Message for values that are known before any message, which are constants."""
