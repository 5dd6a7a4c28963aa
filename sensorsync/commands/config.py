"""The `config show`, `config check` and `config schema` commands, which use no network."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sensorsync.commands.result import CommandResult
from sensorsync.config import LoadedSettings, Settings
from sensorsync.config.checks import broker_cleartext_credentials, database_cleartext_credentials, unreachable_mappings
from sensorsync.config.reference.keys import SettingKey, item_keys, setting_keys
from sensorsync.config.sections.fields import UNSET
from sensorsync.errors import ConfigurationError, ExitCode, Problem
from sensorsync.wiring import envelope, load_key


def show(loaded: LoadedSettings) -> CommandResult:
    """Return the effective value and the origin of every key. A secret is shown as `***` or `(unset)`."""
    values = _effective_values(loaded.settings)
    entries = {name: {"value": values[name], "origin": loaded.origins[name]} for name in setting_keys()}
    return CommandResult("config show", {"file": _file(loaded), "settings": entries})


def check(loaded: LoadedSettings) -> CommandResult:
    """Check the files that the settings name, and warn about doubtful choices.

    The values themselves are valid by now, because they were loaded.
    """
    problems = tuple(_unreadable_files(loaded)) or tuple(_invalid_keys(loaded))
    data = {"file": _file(loaded), "valid": not problems, "warnings": list(_warnings(loaded))}
    return CommandResult("config check", data, ExitCode.USAGE if problems else ExitCode.OK, problems)


def schema() -> CommandResult:
    """Return the JSON Schema (2020-12) of the configuration file."""
    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Settings.model_json_schema()}
    return CommandResult("config schema", document)


def _file(loaded: LoadedSettings) -> str | None:
    return str(loaded.file) if loaded.file else None


def _effective_values(settings: Settings) -> dict[str, Any]:
    """Return JSON values by dotted key. Values that follow from other keys are computed."""
    tree = settings.model_dump(mode="json")
    values = {name: _value_at(tree, name) for name in setting_keys()}
    for name, key in setting_keys().items():
        if key.item_model is not None:
            values[name] = [_with_unset(item, item_keys(key.item_model)) for item in values[name]]
    values = _with_unset(values, setting_keys())
    values["mappings"] = [mapping.model_dump(mode="json", exclude_defaults=True) for mapping in settings.mappings]
    values["mqtt.tls.enabled"] = settings.mqtt.use_tls
    values["dead_letters.path"] = str(settings.dead_letter_path)
    return values


def _with_unset(values: Mapping[str, Any], key_infos: Mapping[str, SettingKey]) -> dict[str, Any]:
    """Return `values` with a secret that is None shown as unset, the same as an empty one."""
    return {name: UNSET if key_infos[name].secret and value is None else value for name, value in values.items()}


def _value_at(tree: Mapping[str, Any], name: str) -> Any:
    value: Any = tree
    for part in name.split("."):
        value = value[part]
    return value


def _unreadable_files(loaded: LoadedSettings) -> Iterator[Problem]:
    """Yield one problem for each file that must exist and cannot be read."""
    for name, path, origin in _files_to_read(loaded):
        if not path.is_file() or not os.access(path, os.R_OK):
            reason = "can't be read" if path.exists() else "does not exist"
            yield Problem(
                "configuration",
                f"{name}: the file {path} {reason} (from {origin}).",
                "Correct the path or the file's rights.",
            )


def _files_to_read(loaded: LoadedSettings) -> Iterator[tuple[str, Path, str]]:
    settings = loaded.settings
    files = {
        "mqtt.tls.ca_file": settings.mqtt.tls.ca_file,
        "mqtt.tls.cert_file": settings.mqtt.tls.cert_file,
        "mqtt.tls.key_file": settings.mqtt.tls.key_file,
        "database.tls.ca_file": settings.database.tls.ca_file,
    }
    for name, path in files.items():
        if path is not None:
            yield name, path, loaded.origins[name]
    for index, key in enumerate(settings.security.keys):
        for name, path in (("secret_file", key.secret_file), ("public_key_file", key.public_key_file)):
            if path is not None:
                yield f"security.keys[{index}].{name}", path, loaded.origins["security.keys"]


def _invalid_keys(loaded: LoadedSettings) -> Iterator[Problem]:
    """Yield one problem for each key that is not what its settings declare, else the first contradiction between the settings."""
    problems = []
    for key in loaded.settings.security.keys:
        try:
            load_key(key)
        except ConfigurationError as error:
            problems.append(Problem.from_error(error))
    if not problems:
        try:
            envelope(loaded.settings.security)
        except ConfigurationError as error:
            problems.append(Problem.from_error(error))
    yield from problems


def _warnings(loaded: LoadedSettings) -> Iterator[str]:
    for key in loaded.settings.security.keys:
        with suppress(ConfigurationError):  # `_invalid_keys` reports it
            if weakness := load_key(key).weakness:
                yield f"The {weakness}."
    for kind, secret_file in _secret_files(loaded.settings):
        if secret_file is not None and secret_file.exists() and _is_world_readable(secret_file):
            yield f"Every user of this machine can read the {kind} file {secret_file}: chmod 600."
    for file, origin in ((loaded.file, "file "), (Path(".env"), ".env ")):
        secrets = [name for name in _secret_names() if loaded.origins[name].startswith(origin)]
        if file is not None and secrets and _is_world_readable(file):
            yield f"{file} holds secrets ({', '.join(secrets)}) and every user of this machine can read it: chmod 600."
    yield from broker_cleartext_credentials(loaded.settings)
    yield from database_cleartext_credentials(loaded.settings)
    yield from unreachable_mappings(loaded.settings)


def _secret_files(settings: Settings) -> Iterator[tuple[str, Path | None]]:
    yield from (("key", key.secret_file) for key in settings.security.keys)
    yield "key", settings.mqtt.tls.key_file
    yield "password", settings.mqtt.password_file
    yield "password", settings.database.password_file


def _secret_names() -> Iterator[str]:
    for name, key in setting_keys().items():
        if key.secret or (
            key.item_model is not None and any(inner.secret for inner in item_keys(key.item_model).values())
        ):
            yield name


def _is_world_readable(path: Path) -> bool:
    return bool(path.stat().st_mode & stat.S_IROTH)
