"""What pydantic found, in sentences that name the key, its value's origin and the fix. Values of secrets are never among them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from sensorsync.config.layers import Layers, Place
from sensorsync.config.reference import Key, item_keys, keys
from sensorsync.config.units import format_duration, format_size
from sensorsync.errors import ConfigurationError

_WORDS: Mapping[str, str] = {
    "missing": "is missing",
    "extra_forbidden": "is no key of the configuration",
    "string_type": "must be a text",
    "path_type": "must be a path",
    "model_type": "must be a section with keys below it",
    "tuple_type": "must be a list",
    "too_short": "must have at least one entry",
}
_NAME = re.compile(r"[a-z_]+(?:\.[a-z_]+)+")
_LONGEST_VALUE = 60


def explain(error: ValidationError, layers: Layers) -> list[ConfigurationError]:
    """One error for each key, or for each rule between keys, in the order of the models."""
    by_place: dict[Place, list[Any]] = {}
    for detail in error.errors(include_url=False):
        if detail["type"] != "default_factory_not_called":
            by_place.setdefault(_place(detail["loc"]), []).append(detail)
    return [_one(place, details, layers) for place, details in by_place.items()]


def summed_up(errors: Sequence[ConfigurationError]) -> ConfigurationError:
    """One error that stands for all of them."""
    if len(errors) == 1:
        return errors[0]
    rest = f" (and {len(errors) - 1} more: see `sensorsync config check`)"
    return ConfigurationError(f"{errors[0]}{rest}", hint=errors[0].hint, parts=errors)


def _place(loc: tuple[int | str, ...]) -> Place:
    """The location without pydantic's branches of a union, which are no place in the file."""
    for length in range(len(loc), 0, -1):
        if ".".join(str(part) for part in loc[:length]) in keys():
            inner = loc[length:]
            return (*loc[:length], *inner) if inner and isinstance(inner[0], int) else loc[:length]
    return loc


def _one(place: Place, details: Sequence[Any], layers: Layers) -> ConfigurationError:
    key = _key_at(place)
    origin = layers.origin(place)
    if key is None or (key.items and details[0]["type"] == "value_error"):
        sentence = " ".join(_message(detail, key) for detail in details)
        return ConfigurationError(f"{_label(place)}{sentence} ({_origins_in(sentence, layers) or 'from ' + origin}).")
    message = " or ".join(dict.fromkeys(_message(detail, key) for detail in details)).replace(" or must be", " or")
    value = (
        ""
        if key.secret or details[0]["type"] == "missing"
        else f"got {_shown(layers.value(place, details[0]['input']))} "
    )
    return ConfigurationError(
        f"{_dotted(place)}: {message} ({value}from {origin}).", hint=f"{key.description} For example: {_example(key)}"
    )


def _key_at(place: Place) -> Key | None:
    names = [part for part in place if isinstance(part, str)]
    for length in range(len(names), 0, -1):
        if key := keys().get(".".join(names[:length])):
            inner = names[length:]
            return item_keys(key.items).get(inner[0], key) if key.items and inner else key
    return None


def _message(detail: Any, key: Key | None) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
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


def _example(key: Key) -> str:
    example = key.example
    return ", ".join(str(item) for item in example) if isinstance(example, list) and not key.items else str(example)


def _dotted(place: Place) -> str:
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")


def _label(place: Place) -> str:
    return f"{_dotted(place)}: " if any(isinstance(part, int) for part in place) else ""


def _origins_in(sentence: str, layers: Layers) -> str:
    """Where the keys that a sentence names have their values from."""
    return ", ".join(_named_origins(sentence, layers))


def _named_origins(sentence: str, layers: Layers) -> Iterator[str]:
    for name in dict.fromkeys(_NAME.findall(sentence)):
        if key := keys().get(name):
            yield f"{name}: {layers.origin(key.path)}"
