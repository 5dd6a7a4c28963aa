"""The loader of the settings: defaults < YAML file < `.env` < environment < flags. Each value has its origin."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sensorsync.config.loading import environment, yaml_file
from sensorsync.config.loading.contents import content_errors
from sensorsync.config.loading.layers import Layers
from sensorsync.config.loading.problems import combine_errors, configuration_errors
from sensorsync.config.reference.keys import KeyPath, SettingKey, item_keys, sections, setting_keys
from sensorsync.config.sections.suggestions import key_suggestion, nearest_name
from sensorsync.config.sections.validation import Location, format_location
from sensorsync.config.settings import Settings, default_state_dir
from sensorsync.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """The effective settings and the origins of their values."""

    settings: Settings
    origins: Mapping[str, str]
    """By dotted key: `default`, `file /path:line`, `.env NAME, line n`, `env NAME` or `flag --name`."""
    file: Path | None
    """The YAML file that was read. None when there was none."""


def load(
    config_file: Path | None = None,
    overrides: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    *,
    flags: Mapping[str, str] | None = None,
) -> LoadedSettings:
    """Load the settings from all their layers.

    `overrides` are values by dotted key, where None means "not given". `flags` has the flag of a key whose flag has another name.

    Raises ConfigurationError with a sentence that names the key, the origin of its value and the fix. When several settings are wrong,
    its `errors` has an error for each.
    """
    environ = os.environ if environ is None else environ
    cwd = Path.cwd() if cwd is None else cwd
    in_process = environment.process_variables(environ)
    in_file = environment.dotenv_variables(cwd / ".env")
    layers, errors = Layers(), []

    file = yaml_file.find(config_file, _file_search_environment(environ, in_file), cwd)
    if file is not None:
        errors += _apply_file(file, layers)
    for variables in (in_file, in_process):
        errors += environment.unknown_variable_errors(variables)
        environment.apply_variables(variables, layers)
    _apply_flags(overrides or {}, flags or {}, layers)

    origins = {name: layers.origin(key.path) for name, key in setting_keys().items()}
    return LoadedSettings(_validate(layers, errors, environ), origins, file)


def _file_search_environment(environ: Mapping[str, str], dotenv: Mapping[str, environment.Variable]) -> dict[str, str]:
    """Return the environment that is used to find the file. `.env` may name the file too."""
    named = dotenv.get(environment.CONFIG_VARIABLE)
    return {**({named.name: named.value} if named else {}), **{name: value for name, value in environ.items() if value}}


def _apply_flags(overrides: Mapping[str, object], flags: Mapping[str, str], layers: Layers) -> None:
    for name, value in overrides.items():
        if name not in setting_keys():
            near = nearest_name(name, setting_keys())
            raise ConfigurationError(f"There is no setting {name}." + (f" Did you mean {near}?" if near else ""))
        if value is not None:
            flag = flags.get(name) or "--" + name.rpartition(".")[2].replace("_", "-")
            layers.set_value(setting_keys()[name].path, value, f"flag {flag}")


def _validate(layers: Layers, errors: list[ConfigurationError], environ: Mapping[str, str]) -> Settings:
    if contents := list(content_errors(layers)):
        raise combine_errors([*errors, *contents])
    tree = {"state_dir": default_state_dir(environ), **layers.tree}
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        # Raised without a cause, because pydantic's error contains the values, secrets included.
        raise combine_errors([*errors, *configuration_errors(error, layers)]) from None
    if errors:
        raise combine_errors(errors)
    return settings


def _apply_file(file: Path, layers: Layers) -> list[ConfigurationError]:
    """Set the known keys of the file in the layers. Return an error for each unknown key and each key that occurs twice."""
    document = yaml_file.read(file)
    errors = [
        ConfigurationError(
            f"{format_location(place)} stands twice in {file}: in line {first} and in line {line}.",
            hint="Remove one of them.",
        )
        for place, line, first in document.duplicates
    ]
    errors += _apply_section((), document.tree, _SourceFile(file, document.lines), layers)
    return errors


@dataclass(frozen=True, slots=True)
class _SourceFile:
    path: Path
    lines: Mapping[Location, int]

    def origin(self, place: Location) -> str:
        return f"file {self.path}:{self.lines[place]}"


def _apply_section(
    path: KeyPath, tree: Mapping[str, Any], file: _SourceFile, layers: Layers
) -> Iterator[ConfigurationError]:
    for name, value in tree.items():
        here = (*path, name)
        if value is None:
            continue
        if here in sections():
            if isinstance(value, dict):
                yield from _apply_section(here, value, file, layers)
            else:
                yield ConfigurationError(
                    f"{'.'.join(here)}: must be a section with keys below it ({file.origin(here)})."
                )
        elif (key := setting_keys().get(".".join(here))) and key.path == here:
            yield from _nested_unknown_key_errors(key, here, value, file, layers)
            inside = {
                place[len(here) :]: file.origin(place)
                for place in file.lines
                if place[: len(here)] == here and place != here
            }
            layers.set_value(here, _resolve_relative_paths(key, value, file.path.parent), file.origin(here), inside)
        else:
            yield _unknown_key_error(here, sections()[path].model_fields, file)


def _nested_unknown_key_errors(
    key: SettingKey, place: Location, value: Any, file: _SourceFile, layers: Layers
) -> Iterator[ConfigurationError]:
    """Yield an error for each name inside a key's value, at any depth, that no model has."""
    if key.item_model is None:
        return
    known = item_keys(key.item_model)
    if key.is_list and isinstance(value, dict) and value and all(isinstance(part, dict) for part in value.values()):
        return  # entries under names instead of a list: the model reports that it must be a list
    for inner, item in _nested_sections(key, place, value):
        for name, part in item.items() if isinstance(item, dict) else ():
            if name in known:
                yield from _nested_unknown_key_errors(known[name], (*inner, name), part, file, layers)
            else:
                layers.places_with_unknown_names.add(inner)
                yield _unknown_key_error((*inner, name), known, file)


def _nested_sections(key: SettingKey, place: Location, value: Any) -> list[tuple[Location, Any]]:
    """Return the sections inside a key's value, with their places."""
    if isinstance(value, list):
        return [((*place, index), item) for index, item in enumerate(value)]
    if key.is_map:
        return [((*place, name), item) for name, item in value.items()] if isinstance(value, dict) else []
    return [(place, value)]


def _unknown_key_error(place: Location, siblings: Mapping[str, object], file: _SourceFile) -> ConfigurationError:
    name = str(place[-1])
    inside = any(isinstance(part, int) for part in place)
    suggestion = key_suggestion(name, siblings, () if inside else setting_keys())
    return ConfigurationError(
        f"{format_location(place)} is no key of the configuration ({file.origin(place)})"
        + (f": {suggestion}" if suggestion else "."),
        hint="`sensorsync config show` lists the keys; config.example.yaml explains them.",
    )


def _resolve_relative_paths(key: SettingKey, value: Any, folder: Path) -> Any:
    """Resolve relative paths against the folder of the file, because cron's working folder is not the user's."""
    if key.item_model is not None:
        inner = item_keys(key.item_model)
        if isinstance(value, list):
            return [_resolve_section_paths(inner, item, folder) for item in value]
        if key.is_map and isinstance(value, dict):
            return {name: _resolve_section_paths(inner, item, folder) for name, item in value.items()}
        return _resolve_section_paths(inner, value, folder)
    if key.is_path and isinstance(value, str):
        return str(folder / Path(value).expanduser())
    return value


def _resolve_section_paths(inner: Mapping[str, SettingKey], section: Any, folder: Path) -> Any:
    """Resolve relative paths in a section inside a key's value.

    Unknown names are removed, because each is an error already. Empty values are removed, because they set nothing.
    """
    if not isinstance(section, dict):
        return section
    known = {name: part for name, part in section.items() if name in inner and part is not None}
    return {name: _resolve_relative_paths(inner[name], part, folder) for name, part in known.items()}
