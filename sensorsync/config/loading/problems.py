"""Errors of pydantic as sentences that name the key, the origin of its value and the fix. They never contain a secret."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from sensorsync.config.loading.layers import Layers
from sensorsync.config.reference.keys import SettingKey, key_at, setting_keys
from sensorsync.config.sections.units import format_duration, format_size
from sensorsync.config.sections.validation import EXPRESSION_ERROR_TYPE, Location, format_location
from sensorsync.errors import ConfigurationError
from sensorsync.runtime.key_text import hide_private_key

_MESSAGES_BY_TYPE: Mapping[str, str] = {
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
_MAX_VALUE_LENGTH = 60
_EXPRESSION_HINT = (
    "Expressions are in JMESPath: a text is in single quotes ('up'), a name with other characters than letters, digits and _ in "
    "double ones, in YAML '\"switch:0\".apower'. See docs/reference/mappings.md."
)
_TEMPLATE = re.compile(r"\{\w+\}")
_TEMPLATE_HINT = 'A level of the topic is taken with `topic`, such as {topic: "{device}"}.'


def configuration_errors(error: ValidationError, layers: Layers) -> list[ConfigurationError]:
    """Return one error for each key, or for each rule between keys, in the order of the models."""
    by_place: dict[Location, list[Any]] = {}
    for detail in error.errors(include_url=False):
        place = _setting_location(detail["loc"], layers)
        if not _is_consequential(detail["type"], place, layers):
            by_place.setdefault(place, []).append(detail)
    return [_error_at(place, details, layers) for place, details in by_place.items()]


def _is_consequential(kind: str, place: Location, layers: Layers) -> bool:
    """Return True when a value is wrong only because another one is."""
    if kind == "missing":
        return place[:-1] in layers.places_with_unknown_names
    if kind == "value_error" and place[:-1] in layers.places_with_unknown_names and layers.value(place) is None:
        return True
    return kind == "default_factory_not_called" or (kind == "value_error" and place in layers.places_with_unknown_names)


def combine_errors(errors: Sequence[ConfigurationError]) -> ConfigurationError:
    """Return one error that stands for all of them. It has each in `errors`, and the sentence of the first."""
    if len(errors) == 1:
        return errors[0]
    rest = f" (and {len(errors) - 1} more: see `sensorsync config check`)"
    return ConfigurationError(f"{errors[0]}{rest}", hint=errors[0].hint, errors=errors)


def _setting_location(loc: Location, layers: Layers) -> Location:
    """Return the location without the parts that are not places in the file.

    These are pydantic's branches of a union, and the keys that the short form of a source stands for.
    """
    for length in range(len(loc), 0, -1):
        outer, inner = loc[:length], loc[length:]
        if format_location(outer) in setting_keys():
            return (
                (*outer, *_written_location(inner, layers.value(outer)))
                if inner and isinstance(inner[0], int)
                else outer
            )
    return loc


def _written_location(inner: Location, value: Any) -> Iterator[str | int]:
    """Yield the parts of a path into a value that the user wrote.

    The index of a source that is not in a list is left out, and so is the `path` of a plain text.
    """
    for part in inner:
        if isinstance(part, int) and isinstance(value, list):
            value = value[part]
        elif isinstance(part, str) and isinstance(value, dict):
            value = value.get(part)
        else:
            continue
        yield part


def _error_at(place: Location, details: Sequence[Any], layers: Layers) -> ConfigurationError:
    key = key_at(place)
    origin = layers.origin(place)
    first = details[0]
    if first["type"] == EXPRESSION_ERROR_TYPE:
        return _expression_error(place, first["ctx"], layers)
    if key is None or (key.item_model and first["type"] == "value_error"):
        sentence = "; ".join(_message(detail, key) for detail in details)
        return ConfigurationError(
            f"{_label(place)}{sentence} ({_format_origins(sentence, layers) or 'from ' + origin})."
        )
    message = " or ".join(dict.fromkeys(_message(detail, key) for detail in details)).replace(" or must be", " or")
    given = layers.value(place, first["input"])
    absent = first["type"] == "missing" or (first["type"] == "value_error" and given is None) or given == {}
    value = "" if key.secret or absent else f"got {_format_value(given)} "
    return ConfigurationError(f"{format_location(place)}: {message} ({value}from {origin}).", hint=_hint(key))


def _expression_error(place: Location, context: Mapping[str, Any], layers: Layers) -> ConfigurationError:
    """Return an error that shows the expression, with a caret below the mistake."""
    column, expression = context["column"], layers.value(place)
    where = "" if column is None else f" at character {column + 1}"
    excerpt = _excerpt(expression, column) if column is not None and isinstance(expression, str) else None
    return ConfigurationError(
        f"{format_location(place)}: {context['error']}{where} (from {layers.origin(place)}).",
        hint=_TEMPLATE_HINT if isinstance(expression, str) and _TEMPLATE.search(expression) else _EXPRESSION_HINT,
        excerpt=excerpt,
    )


def _message(detail: Any, key: SettingKey | None) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "tuple_type" and key is not None and key.item_model is not None:
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
    if bound := _limit_message(kind, context, key):
        return bound
    return _MESSAGES_BY_TYPE.get(kind, str(detail["msg"]))


def _limit_message(kind: str, context: Mapping[str, Any], key: SettingKey | None) -> str | None:
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


def _format_value(value: Any) -> str:
    text = hide_private_key(value if isinstance(value, str) else repr(value))
    short = text if len(text) <= _MAX_VALUE_LENGTH else text[:_MAX_VALUE_LENGTH] + "..."
    return repr(short) if isinstance(value, str) else short


def _hint(key: SettingKey) -> str:
    example = key.example
    if key.item_model is not None or isinstance(example, dict):
        return key.description
    if isinstance(example, bool):
        return f"{key.description} For example: {str(example).lower()}"
    return f"{key.description} For example: {', '.join(map(str, example)) if isinstance(example, list) else example}"


def _excerpt(expression: str, column: int) -> str:
    """Return the wrong line of an expression, with a caret below the column. Columns count characters from 0."""
    before, after = expression[:column], expression[column:]
    line = before.rpartition("\n")[2]
    start = line[-_MAX_VALUE_LENGTH:]
    cut = "" if len(start) == len(line) else "..."
    shown = f"{cut}{start}{after.partition(chr(10))[0][:_MAX_VALUE_LENGTH]}"
    return f"{shown}\n{' ' * (len(cut) + len(start))}^"


def _label(place: Location) -> str:
    return f"{format_location(place)}: " if any(isinstance(part, int) for part in place) else ""


def _format_origins(sentence: str, layers: Layers) -> str:
    """Return the origins of the keys that a sentence names."""
    return ", ".join(_origins_of_named_keys(sentence, layers))


def _origins_of_named_keys(sentence: str, layers: Layers) -> Iterator[str]:
    for name in dict.fromkeys(_NAME.findall(sentence)):
        if key := setting_keys().get(name):
            yield f"{name}: {layers.origin(key.path)}"
