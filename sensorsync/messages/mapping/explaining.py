"""Which mapping a message is for, and why the others are not: what `sensorsync map` tells people. Not for the hot path."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from sensorsync.messages.mapping.expressions import Expression
from sensorsync.messages.mapping.mapping import Mapping
from sensorsync.messages.mapping.mappings import Mappings
from sensorsync.messages.reading import fields
from sensorsync.messages.reading.model import DecodeError

_MAX_NAMED_MEMBERS = 12
"""Members of a document that are named."""
_LONGEST_NAME = 40


class PassedOver(NamedTuple):
    """A mapping that a message is not for."""

    mapping: str
    """Its name."""
    reason: Literal["topic", "format", "when"]
    """Its topic is another, the payload is not of its format, its condition does not hold or fails."""
    message: str
    """A sentence for people."""


class Explanation(NamedTuple):
    """Who decides about a message."""

    mapping: str | None
    """Name of the mapping that takes it, or rejects it for all; None: none does, and the rules of plain readings decide."""
    passed_over: tuple[PassedOver, ...]
    """The mappings that were asked before, in their order."""


def explain_choice(mappings: Mappings, payload: bytes, topic: str) -> Explanation:
    """Who decides about a message, as `Mappings.decode` has it. Raises nothing."""
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
    """Why a mapping does not take a message of its topic, and whether that is a fault of the message; None: it takes it."""
    try:
        document = mapping.format.parse(payload)
    except DecodeError as fault:
        return PassedOver(mapping.name, "format", f"{fault}; its format is {mapping.spec.format.name}"), True
    try:
        if mapping.condition_holds(document):
            return None
    except DecodeError as fault:
        return PassedOver(mapping.name, "when", f"its condition fails: {fault}"), True
    return PassedOver(mapping.name, "when", _false_condition_message(mapping.spec.when or "", document)), False


def _false_condition_message(when: str, document: Any) -> str:
    value = Expression(when).search(document)
    found = "null" if value is None else "false" if value is False else "empty"
    return f"its condition is {found}, when: {when}; {_describe_document(document)}"


def _describe_document(document: Any) -> str:
    """What a condition can ask for."""
    if isinstance(document, dict) and document:
        names = [name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..." for name in document]
        more = f" and {len(names) - _MAX_NAMED_MEMBERS} more" if len(names) > _MAX_NAMED_MEMBERS else ""
        return f"the message has {', '.join(names[:_MAX_NAMED_MEMBERS])}{more}"
    return f"the message is {fields.json_type_name(document)}"
