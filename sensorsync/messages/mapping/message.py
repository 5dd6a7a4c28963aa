"""One message on its way through a mapping, and what takes a value out of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Message(NamedTuple):
    """What the sources of a mapping see, besides the element that a row is made of."""

    document: Any
    payload: bytes
    topic: str
    template_texts: tuple[str, ...]
    """The mapping's templates for this topic."""
    properties: Mapping[str, object] | None
    """As in `Delivery.properties`."""
    received_at: float
    """Seconds since 1970."""
    cache: dict[str, Any]
    """What was computed once for the whole message."""


ValueGetter = Callable[[Any, Message], Any]
"""(element, message) -> value; None: there is none. Raises Fault."""

EMPTY_MESSAGE = Message(None, b"", "", (), None, 0.0, {})
"""For what is known before any message: constants."""
