"""Explanation of the choice of a mapping for a message, which `sensorsync map` shows. It is not for the hot path."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from sensorsync.messages.mapping.expressions import Expression
from sensorsync.messages.mapping.mapping import Mapping
from sensorsync.messages.mapping.mappings import Mappings
from sensorsync.messages.reading import fields
from sensorsync.messages.reading.model import DecodeError

_MAX_NAMED_MEMBERS = 12
"""Members of a document that an explanation names at most."""
_LONGEST_NAME = 40


class PassedOver(NamedTuple):
    """A mapping that was not chosen for a message."""

    mapping: str
    """Name of the mapping."""
    reason: Literal["topic", "format", "when"]
    """`topic`: its topic is another. `format`: the payload is not of its format. `when`: its condition is false or fails."""
    message: str
    """A sentence for people."""


class Explanation(NamedTuple):
    """The mapping that decides about a message."""

    mapping: str | None
    """Name of the mapping that takes the message, or rejects it for all. None when the rules of plain readings decide."""
    passed_over: tuple[PassedOver, ...]
    """The mappings that were tried before, in their order."""


def explain_choice(mappings: Mappings, payload: bytes, topic: str) -> Explanation:
    """Explain which mapping decides about a message in `Mappings.decode`. Raises nothing."""
    passed: list[PassedOver] = []
    failing: str | None = None
    for mapping in mappings.mappings:
        if mapping.match_topic(topic) is None:
            passed.append(PassedOver(mapping.name, "topic", f"its topic is {mapping.spec.topic}"))
            continue
        why = _mismatch(mapping, payload) if len(payload) <= mappings.max_payload else None
        if why is None:
            return Explanation(mapping.name, tuple(passed))
        passed_over, failed = why
        if failed:
            failing = failing or mapping.name
        if mapping.has_condition or failing != mapping.name:
            passed.append(passed_over)
        if not mapping.has_condition:
            break
    return Explanation(failing, tuple(passed))


def _mismatch(mapping: Mapping, payload: bytes) -> tuple[PassedOver, bool] | None:
    """Return the reason why a mapping does not take a message of its topic, or None when it takes it.

    The second value is True when the message caused an error, and False when the condition is false.
    """
    try:
        document = mapping.format.parse(payload)
    except DecodeError as error:
        return PassedOver(mapping.name, "format", f"{error}; its format is {mapping.spec.format.name}"), True
    try:
        if mapping.condition_holds(document):
            return None
    except DecodeError as error:
        return PassedOver(mapping.name, "when", f"its condition fails: {error}"), True
    return PassedOver(mapping.name, "when", _false_condition_message(mapping.spec.when or "", document)), False


def _false_condition_message(when: str, document: Any) -> str:
    value = Expression(when).search(document)
    found = "null" if value is None else "false" if value is False else "empty"
    return f"its condition is {found}, when: {when}; {_describe_document(document)}"


def _describe_document(document: Any) -> str:
    """Return a phrase about the members that a condition can use."""
    if isinstance(document, dict) and document:
        names = [name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..." for name in document]
        more = f" and {len(names) - _MAX_NAMED_MEMBERS} more" if len(names) > _MAX_NAMED_MEMBERS else ""
        return f"the message has {', '.join(names[:_MAX_NAMED_MEMBERS])}{more}"
    return f"the message is {fields.json_type_name(document)}"
