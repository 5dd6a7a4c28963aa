"""The list of all keys, derived from the models. The loader, the sample file, `config show` and the documentation use it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from inspect import cleandoc
from pathlib import Path
from typing import Any, get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from sensorsync.config.sections.fields import Section
from sensorsync.config.sections.validation import Location
from sensorsync.config.settings import Settings

PREFIX = "SENSORSYNC_"

KeyPath = tuple[str, ...]
"""Path of a key from the root: `("mqtt", "tls", "ca_file")`."""


@dataclass(frozen=True, slots=True)
class SettingKey:
    """One key of the settings and its documentation."""

    path: KeyPath
    description: str
    example: Any
    default: Any
    """The fixed default. None when there is none or when it is computed."""
    required: bool
    default_text: str | None
    """The default in words, where a value does not express it."""
    unit: str | None
    aliases: tuple[str, ...]
    """Well-known names of environment variables."""
    secret: bool
    is_path: bool
    is_list: bool
    is_map: bool
    """True when the names in its value are chosen by the user."""
    item_model: type[Section] | None
    """The model of the entries of a list or a map, or of the value when that is a section that may be missing. Else None."""

    @property
    def name(self) -> str:
        """Dotted name, `mqtt.tls.ca_file`."""
        return ".".join(self.path)

    @property
    def variable(self) -> str:
        """Systematic name of its environment variable, `SENSORSYNC_MQTT__TLS__CA_FILE`."""
        return PREFIX + "__".join(self.path).upper()


@cache
def setting_keys() -> Mapping[str, SettingKey]:
    """Return every key by its dotted name, in the order of the models."""
    return {key.name: key for key in _walk_keys(Settings, ())}


@cache
def sections() -> Mapping[KeyPath, type[Section]]:
    """Return every section by its path. The root is `()`."""
    return dict(_sections(Settings, ()))


@cache
def item_keys(model: type[Section]) -> Mapping[str, SettingKey]:
    """Return the keys of a model, by name. `model` is the model of a list entry or of another value of a key."""
    return {name: _key((name,), info) for name, info in model.model_fields.items()}


def nested_models(model: type[Section]) -> list[type[Section]]:
    """Return a key's inner model and the models nested in it, each once. Those that many keys have come last."""
    found = [model]
    for one in found:
        inside = (key.item_model for key in item_keys(one).values())
        found += dict.fromkeys(inner for inner in inside if inner is not None and inner not in found)
    return sorted(found, key=lambda one: "[]" not in section_title(one))


def key_at(place: Location) -> SettingKey | None:
    """Return the key that a place belongs to. For `mappings[0].readings[1].value.path` it is the `path` of a source."""
    for length in range(len(place), 0, -1):
        if key := setting_keys().get(".".join(str(part) for part in place[:length])):
            return _key_inside(key, place[length:])
    return None


def _key_inside(key: SettingKey, place: Location) -> SettingKey:
    if place and key.item_model and (key.is_map or isinstance(place[0], int)):
        place = place[1:]
    if not place or key.item_model is None:
        return key
    inner = item_keys(key.item_model).get(str(place[0]))
    return key if inner is None else _key_inside(inner, place[1:])


def section_description(model: type[Section]) -> str:
    """Return the description of a section from its docstring, without its name: `mqtt: the broker` -> `The broker`."""
    sentence = _title(model)[1]
    return sentence[:1].upper() + sentence[1:]


def section_title(model: type[Section]) -> str:
    """Return the name of a section from its docstring, such as `mqtt` or, for the entries of a list, `mappings[].readings[]`."""
    return _title(model)[0]


def _title(model: type[Section]) -> tuple[str, str]:
    """Return the name and the sentence of a section's docstring."""
    name, _, sentence = cleandoc(model.__doc__ or "").splitlines()[0].partition(": ")
    return name.strip("`"), sentence


def _sections(model: type[Section], path: KeyPath) -> Iterator[tuple[KeyPath, type[Section]]]:
    yield path, model
    for name, info in model.model_fields.items():
        if nested := _nested(info.annotation):
            yield from _sections(nested, (*path, name))


def _walk_keys(model: type[Section], path: KeyPath) -> Iterator[SettingKey]:
    """Yield the keys of a section, then those of the sections inside it."""
    nested = {name: inner for name, info in model.model_fields.items() if (inner := _nested(info.annotation))}
    for name, info in model.model_fields.items():
        if name not in nested:
            yield _key((*path, name), info)
    for name, inner in nested.items():
        yield from _walk_keys(inner, (*path, name))


def _key(path: KeyPath, info: FieldInfo) -> SettingKey:
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    kinds = set(_contained_types(info.annotation))
    aliases = extra.get("env") or []
    unit, default_text = extra.get("unit"), extra.get("default_text")
    return SettingKey(
        path=path,
        description=info.description or "",
        example=info.examples[0] if info.examples else None,
        default=None if info.default is PydanticUndefined else info.default,
        required=info.is_required(),
        default_text=str(default_text) if default_text else None,
        unit=str(unit) if unit else None,
        aliases=tuple(str(alias) for alias in aliases) if isinstance(aliases, list) else (),
        secret=SecretStr in kinds or any(_has_secret(kind) for kind in kinds),
        is_path=Path in kinds,
        is_list=tuple in kinds,
        is_map=dict in kinds,
        item_model=next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None),
    )


def _nested(annotation: Any) -> type[Section] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, Section) else None


def _contained_types(annotation: Any) -> Iterator[Any]:
    """Yield the annotation and all types inside it: `tuple[X | None, ...]` -> tuple, X, NoneType."""
    yield getattr(annotation, "__origin__", annotation)
    for inner in get_args(annotation):
        yield from _contained_types(inner)


def _has_secret(kind: Any) -> bool:
    return _nested(kind) is not None and any(key.secret for key in _walk_keys(kind, ()))
