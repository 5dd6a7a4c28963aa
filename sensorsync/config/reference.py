"""The list of all keys, read off the models: for the loader, the sample file, `config show` and the documentation."""

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

from sensorsync.config.fields import Section
from sensorsync.config.models import Settings

PREFIX = "SENSORSYNC_"

KeyPath = tuple[str, ...]
"""Where a key stands, from the root: `("mqtt", "tls", "ca_file")`."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the settings and what is to be said about it."""

    path: KeyPath
    description: str
    example: Any
    default: Any
    """The fixed default; None when there is none or when it is computed."""
    default_text: str | None
    """The default in words, where a value does not say it."""
    unit: str | None
    aliases: tuple[str, ...]
    """Well-known environment names."""
    secret: bool
    is_path: bool
    is_list: bool
    items: type[Section] | None
    """The model of a list's entries, when they are sections themselves."""

    @property
    def name(self) -> str:
        """The dotted name, `mqtt.tls.ca_file`."""
        return ".".join(self.path)

    @property
    def variable(self) -> str:
        """The systematic environment name, `SENSORSYNC_MQTT__TLS__CA_FILE`."""
        return PREFIX + "__".join(self.path).upper()


@cache
def keys() -> Mapping[str, Key]:
    """Every key by its dotted name, in the order of the models."""
    return {key.name: key for key in _walk(Settings, ())}


@cache
def sections() -> Mapping[KeyPath, type[Section]]:
    """Every section by its path; the root is `()`."""
    return dict(_sections(Settings, ()))


@cache
def item_keys(model: type[Section]) -> Mapping[str, Key]:
    """The keys of a list's entries by name."""
    return {key.name: key for key in _walk(model, ())}


def describe(model: type[Section]) -> str:
    """What a section is, from its docstring without its name: `mqtt: the broker` -> `The broker`."""
    sentence = cleandoc(model.__doc__ or "").splitlines()[0].partition(": ")[2]
    return sentence[:1].upper() + sentence[1:]


def _sections(model: type[Section], path: KeyPath) -> Iterator[tuple[KeyPath, type[Section]]]:
    yield path, model
    for name, info in model.model_fields.items():
        if nested := _nested(info.annotation):
            yield from _sections(nested, (*path, name))


def _walk(model: type[Section], path: KeyPath) -> Iterator[Key]:
    """A section's own keys, then those of the sections inside it."""
    nested = {name: inner for name, info in model.model_fields.items() if (inner := _nested(info.annotation))}
    for name, info in model.model_fields.items():
        if name not in nested:
            yield _key((*path, name), info)
    for name, inner in nested.items():
        yield from _walk(inner, (*path, name))


def _key(path: KeyPath, info: FieldInfo) -> Key:
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    kinds = set(_kinds(info.annotation))
    aliases = extra.get("env") or []
    unit, default_text = extra.get("unit"), extra.get("default_text")
    return Key(
        path=path,
        description=info.description or "",
        example=info.examples[0] if info.examples else None,
        default=None if info.default is PydanticUndefined else info.default,
        default_text=str(default_text) if default_text else None,
        unit=str(unit) if unit else None,
        aliases=tuple(str(alias) for alias in aliases) if isinstance(aliases, list) else (),
        secret=SecretStr in kinds or any(_has_secret(kind) for kind in kinds),
        is_path=Path in kinds,
        is_list=tuple in kinds,
        items=next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Section)), None),
    )


def _nested(annotation: Any) -> type[Section] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, Section) else None


def _kinds(annotation: Any) -> Iterator[Any]:
    """The annotation and all types inside it: `tuple[X | None, ...]` -> tuple, X, NoneType."""
    yield getattr(annotation, "__origin__", annotation)
    for inner in get_args(annotation):
        yield from _kinds(inner)


def _has_secret(kind: Any) -> bool:
    return _nested(kind) is not None and any(key.secret for key in _walk(kind, ()))
