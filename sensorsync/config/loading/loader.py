"""Where the values of the settings are from: defaults < YAML file < `.env` < environment < flags, each value with its origin."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sensorsync.config.loading import environment, yaml_file
from sensorsync.config.loading.layers import Layers
from sensorsync.config.loading.problems import explain, summed_up
from sensorsync.config.reference.keys import Key, KeyPath, item_keys, keys, sections
from sensorsync.config.sections.suggestions import key_suggestion, nearest
from sensorsync.config.sections.validation import Place, dotted
from sensorsync.config.settings import Settings, default_state_dir
from sensorsync.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Loaded:
    """The effective settings and where they are from."""

    settings: Settings
    origins: Mapping[str, str]
    """Dotted key -> `default`, `file /path:line`, `.env NAME, line n`, `env NAME` or `flag --name`."""
    file: Path | None
    """The YAML file that was read."""


def load(
    config_file: Path | None = None,
    overrides: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    *,
    flags: Mapping[str, str] | None = None,
) -> Loaded:
    """The settings from all their layers.

    `overrides` are values by dotted key, None meaning "not given"; `flags` says which flag each is from, where its name is not the
    key's. Raises ConfigurationError: a sentence that names the key, its value's origin and the fix; with several, `parts`
    has one for each.
    """
    environ = os.environ if environ is None else environ
    cwd = Path.cwd() if cwd is None else cwd
    in_process = environment.of_process(environ)
    in_file = environment.of_file(cwd / ".env")
    layers, errors = Layers(), []

    file = yaml_file.find(config_file, _places(environ, in_file), cwd)
    if file is not None:
        errors += _lay_file(file, layers)
    for variables in (in_file, in_process):
        errors += environment.unknown(variables)
        environment.lay(variables, layers)
    _lay_flags(overrides or {}, flags or {}, layers)

    origins = {name: layers.origin(key.path) for name, key in keys().items()}
    return Loaded(_validated(layers, errors, environ), origins, file)


def _places(environ: Mapping[str, str], in_file: Mapping[str, environment.Variable]) -> dict[str, str]:
    """The environment for finding the file; `.env` may name it too."""
    named = in_file.get(environment.CONFIG_VARIABLE)
    return {**({named.name: named.value} if named else {}), **{name: value for name, value in environ.items() if value}}


def _lay_flags(overrides: Mapping[str, object], flags: Mapping[str, str], layers: Layers) -> None:
    for name, value in overrides.items():
        if name not in keys():
            near = nearest(name, keys())
            raise ConfigurationError(f"There is no setting {name}." + (f" Did you mean {near}?" if near else ""))
        if value is not None:
            flag = flags.get(name) or "--" + name.rpartition(".")[2].replace("_", "-")
            layers.put(keys()[name].path, value, f"flag {flag}")


def _validated(layers: Layers, errors: list[ConfigurationError], environ: Mapping[str, str]) -> Settings:
    tree = {"state_dir": default_state_dir(environ), **layers.tree}
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        # No cause: pydantic's error holds the values, secrets included.
        raise summed_up([*errors, *explain(error, layers)]) from None
    if errors:
        raise summed_up(errors)
    return settings


def _lay_file(file: Path, layers: Layers) -> list[ConfigurationError]:
    """Put the file's known keys into the layers; the errors are about the others."""
    document = yaml_file.read(file)
    errors = [
        ConfigurationError(
            f"{dotted(place)} stands twice in {file}: in line {first} and in line {line}.",
            hint="Remove one of them.",
        )
        for place, line, first in document.duplicates
    ]
    errors += _lay_section((), document.tree, _File(file, document.lines), layers)
    return errors


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    lines: Mapping[Place, int]

    def origin(self, place: Place) -> str:
        return f"file {self.path}:{self.lines[place]}"


def _lay_section(path: KeyPath, tree: Mapping[str, Any], file: _File, layers: Layers) -> Iterator[ConfigurationError]:
    for name, value in tree.items():
        here = (*path, name)
        if value is None:
            continue
        if here in sections():
            if isinstance(value, dict):
                yield from _lay_section(here, value, file, layers)
            else:
                yield ConfigurationError(
                    f"{'.'.join(here)}: must be a section with keys below it ({file.origin(here)})."
                )
        elif (key := keys().get(".".join(here))) and key.path == here:
            yield from _unknown_inside(key, here, value, file, layers)
            inside = {
                place[len(here) :]: file.origin(place)
                for place in file.lines
                if place[: len(here)] == here and place != here
            }
            layers.put(here, _from_folder(key, value, file.path.parent), file.origin(here), inside)
        else:
            yield _unknown(here, sections()[path].model_fields, file)


def _unknown_inside(key: Key, place: Place, value: Any, file: _File, layers: Layers) -> Iterator[ConfigurationError]:
    """One error for each name inside a key's value that no model has, however deep."""
    if key.items is None:
        return
    known = item_keys(key.items)
    if key.is_list and isinstance(value, dict) and value and all(isinstance(part, dict) for part in value.values()):
        return  # entries under names of their own instead of a list: that it must be a list is said by its model
    for inner, item in _entries(key, place, value):
        for name, part in item.items() if isinstance(item, dict) else ():
            if name in known:
                yield from _unknown_inside(known[name], (*inner, name), part, file, layers)
            else:
                layers.incomplete.add(inner)
                yield _unknown((*inner, name), known, file)


def _entries(key: Key, place: Place, value: Any) -> list[tuple[Place, Any]]:
    """The sections inside a key's value, with their places."""
    if isinstance(value, list):
        return [((*place, index), item) for index, item in enumerate(value)]
    if key.is_map:
        return [((*place, name), item) for name, item in value.items()] if isinstance(value, dict) else []
    return [(place, value)]


def _unknown(place: Place, siblings: Mapping[str, object], file: _File) -> ConfigurationError:
    name = str(place[-1])
    inside = any(isinstance(part, int) for part in place)
    suggestion = key_suggestion(name, siblings, () if inside else keys())
    return ConfigurationError(
        f"{dotted(place)} is no key of the configuration ({file.origin(place)})"
        + (f": {suggestion}" if suggestion else "."),
        hint="`sensorsync config show` lists the keys; config.example.yaml explains them.",
    )


def _from_folder(key: Key, value: Any, folder: Path) -> Any:
    """A relative path in a file means a place beside that file: cron's working folder is not the user's."""
    if key.items is not None:
        inner = item_keys(key.items)
        if isinstance(value, list):
            return [_section_from_folder(inner, item, folder) for item in value]
        if key.is_map and isinstance(value, dict):
            return {name: _section_from_folder(inner, item, folder) for name, item in value.items()}
        return _section_from_folder(inner, value, folder)
    if key.is_path and isinstance(value, str):
        return str(folder / Path(value).expanduser())
    return value


def _section_from_folder(inner: Mapping[str, Key], section: Any, folder: Path) -> Any:
    """A section inside a key's value, without what is unknown (it is an error already) or empty (it sets nothing)."""
    if not isinstance(section, dict):
        return section
    known = {name: part for name, part in section.items() if name in inner and part is not None}
    return {name: _from_folder(inner[name], part, folder) for name, part in known.items()}
