"""What pydantic found, in sentences that name the key, its value's origin and the fix. Values of secrets are never among them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from sensorsync.config.loading.layers import Layers
from sensorsync.config.reference.keys import Key, key_at, keys
from sensorsync.config.sections.units import format_duration, format_size
from sensorsync.config.sections.validation import EXPRESSION, Place, dotted
from sensorsync.errors import ConfigurationError

_WORDS: Mapping[str, str] = {
    "missing": "is missing",
    "extra_forbidden": "is no key of the configuration",
    "string_type": "must be a text",
    "path_type": "must be a path",
    "model_type": "must be a section with keys below it",
    "tuple_type": "must be a list",
    "dict_type": "must be a section with names below it",
    "float_parsing": "must be a number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "too_short": "must have at least one entry",
}
_NAME = re.compile(r"[a-z_]+(?:\.[a-z_]+)+")
_LONGEST_VALUE = 60
_ABOUT_EXPRESSIONS = (
    "Expressions are in JMESPath: a text is in single quotes ('up'), a name with other characters than letters, digits and _ in "
    "double ones, in YAML '\"switch:0\".apower'. See docs/reference/mappings.md."
)
_TEMPLATE = re.compile(r"\{\w+\}")
_ABOUT_TEMPLATES = 'A level of the topic is taken with `topic`, such as {topic: "{device}"}.'


def explain(error: ValidationError, layers: Layers) -> list[ConfigurationError]:
    """One error for each key, or for each rule between keys, in the order of the models."""
    by_place: dict[Place, list[Any]] = {}
    for detail in error.errors(include_url=False):
        place = _place(detail["loc"], layers)
        if not _follows(detail["type"], place, layers):
            by_place.setdefault(place, []).append(detail)
    return [_one(place, details, layers) for place, details in by_place.items()]


def _follows(kind: str, place: Place, layers: Layers) -> bool:
    """Whether it is wrong only because something else is."""
    if kind == "missing":
        return place[:-1] in layers.incomplete
    if kind == "value_error" and place[:-1] in layers.incomplete and layers.value(place) is None:
        return True
    return kind == "default_factory_not_called" or (kind == "value_error" and place in layers.incomplete)


def summed_up(errors: Sequence[ConfigurationError]) -> ConfigurationError:
    """One error that stands for all of them."""
    if len(errors) == 1:
        return errors[0]
    rest = f" (and {len(errors) - 1} more: see `sensorsync config check`)"
    return ConfigurationError(f"{errors[0]}{rest}", hint=errors[0].hint, parts=errors)


def _place(loc: Place, layers: Layers) -> Place:
    """The location without what is no place in the file: pydantic's branches of a union, and what a short text stands for."""
    for length in range(len(loc), 0, -1):
        outer, inner = loc[:length], loc[length:]
        if dotted(outer) in keys():
            return (*outer, *_written(inner, layers.value(outer))) if inner and isinstance(inner[0], int) else outer
    return loc


def _written(inner: Place, value: Any) -> Iterator[str | int]:
    """Of a way into a value, what somebody wrote: not the index of a source that is not in a list, not the `path` of a plain text."""
    for part in inner:
        if isinstance(part, int) and isinstance(value, list):
            value = value[part]
        elif isinstance(part, str) and isinstance(value, dict):
            value = value.get(part)
        else:
            continue
        yield part


def _one(place: Place, details: Sequence[Any], layers: Layers) -> ConfigurationError:
    key = key_at(place)
    origin = layers.origin(place)
    first = details[0]
    if first["type"] == EXPRESSION:
        return _about_expression(place, first["ctx"], layers)
    if key is None or (key.items and first["type"] == "value_error"):
        sentence = "; ".join(_message(detail, key) for detail in details)
        return ConfigurationError(f"{_label(place)}{sentence} ({_origins_in(sentence, layers) or 'from ' + origin}).")
    message = " or ".join(dict.fromkeys(_message(detail, key) for detail in details)).replace(" or must be", " or")
    given = layers.value(place, first["input"])
    absent = first["type"] == "missing" or (first["type"] == "value_error" and given is None) or given == {}
    value = "" if key.secret or absent else f"got {_shown(given)} "
    return ConfigurationError(f"{dotted(place)}: {message} ({value}from {origin}).", hint=_hint(key))


def _about_expression(place: Place, context: Mapping[str, Any], layers: Layers) -> ConfigurationError:
    """It shows the expression, with a caret below what is wrong."""
    column, expression = context["column"], layers.value(place)
    where = "" if column is None else f" at character {column + 1}"
    excerpt = _excerpt(expression, column) if column is not None and isinstance(expression, str) else None
    return ConfigurationError(
        f"{dotted(place)}: {context['error']}{where} (from {layers.origin(place)}).",
        hint=_ABOUT_TEMPLATES if isinstance(expression, str) and _TEMPLATE.search(expression) else _ABOUT_EXPRESSIONS,
        excerpt=excerpt,
    )


def _message(detail: Any, key: Key | None) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "tuple_type" and key is not None and key.items is not None:
        return "must be a list, with a - before each entry"
    if kind == "string_type" and isinstance(detail["input"], dict):
        return "must be a text: put quotes around a value that begins with {"
    if kind == "literal_error":
        return f"must be {context['expected'].replace(chr(39), '')}"
    if kind.startswith("int_"):
        return "must be a whole number"
    if kind.startswith("bool_"):
        return "must be true or false"
    if kind == "string_too_short":
        return "must not be empty"
    if kind == "string_too_long":
        return f"must not be longer than {context['max_length']} characters"
    if bound := _bound(kind, context, key):
        return bound
    return _WORDS.get(kind, str(detail["msg"]))


def _bound(kind: str, context: Mapping[str, Any], key: Key | None) -> str | None:
    words = {
        "greater_than_equal": ("ge", "at least"),
        "greater_than": ("gt", "above"),
        "less_than_equal": ("le", "at most"),
        "less_than": ("lt", "below"),
    }
    if kind not in words:
        return None
    name, word = words[kind]
    limit = context[name]
    if key is not None and key.unit == "duration":
        limit = format_duration(limit) if limit else 0
    elif key is not None and key.unit == "size":
        limit = format_size(limit)
    return f"must be {word} {limit}"


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    short = text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "..."
    return repr(short) if isinstance(value, str) else short


def _hint(key: Key) -> str:
    example = key.example
    if key.items is not None or isinstance(example, dict):
        return key.description
    if isinstance(example, bool):
        return f"{key.description} For example: {str(example).lower()}"
    return f"{key.description} For example: {', '.join(map(str, example)) if isinstance(example, list) else example}"


def _excerpt(expression: str, column: int) -> str:
    """The line of an expression that is wrong, with a caret below the column, in characters from 0."""
    before, after = expression[:column], expression[column:]
    line = before.rpartition("\n")[2]
    start = line[-_LONGEST_VALUE:]
    cut = "" if len(start) == len(line) else "..."
    shown = f"{cut}{start}{after.partition(chr(10))[0][:_LONGEST_VALUE]}"
    return f"{shown}\n{' ' * (len(cut) + len(start))}^"


def _label(place: Place) -> str:
    return f"{dotted(place)}: " if any(isinstance(part, int) for part in place) else ""


def _origins_in(sentence: str, layers: Layers) -> str:
    """Where the keys that a sentence names have their values from."""
    return ", ".join(_named_origins(sentence, layers))


def _named_origins(sentence: str, layers: Layers) -> Iterator[str]:
    for name in dict.fromkeys(_NAME.findall(sentence)):
        if key := keys().get(name):
            yield f"{name}: {layers.origin(key.path)}"
