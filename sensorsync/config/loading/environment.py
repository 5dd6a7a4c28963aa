"""Settings from environment variables and the `.env` file: systematic names, well-known aliases and unknown names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from sensorsync.config.loading.layers import Layers
from sensorsync.config.reference.keys import PREFIX, KeyPath, SettingKey, setting_keys
from sensorsync.config.sections.suggestions import nearest_name
from sensorsync.errors import ConfigurationError
from sensorsync.runtime.key_text import hide_private_key

CONFIG_VARIABLE = "SENSORSYNC_CONFIG"
BROKER_VARIABLE = "MQTT_BROKER"
KEY_VARIABLES: Mapping[str, Mapping[str, str]] = {
    "SENSORSYNC_ENCRYPTION_KEY": {"id": "default-encryption", "algorithm": "A256GCM"},
    "SENSORSYNC_SIGNING_KEY": {"id": "default", "algorithm": "HS256"},
}
"""By variable that holds the secret of a key: the other fields of that key."""

_TESTS = "SENSORSYNC_TEST_"
_SECURITY_KEYS_PATH: KeyPath = ("security", "keys")
_SERVICE_LINK = re.compile(r"_SERVICE_HOST$|_SERVICE_PORT(_\w+)?$|_PORT_\d+_(TCP|UDP|SCTP)(_\w+)?$")
"""Names that Kubernetes and Docker put into the environment for a service that is called sensorsync."""
_SCHEMES: Mapping[str, tuple[int, bool]] = {
    "mqtt": (1883, False),
    "mqtts": (8883, True),
    "ws": (80, False),
    "wss": (443, True),
}


class Variable(NamedTuple):
    """A variable that is set, and the name of its origin."""

    name: str
    value: str
    origin: str


def process_variables(environ: Mapping[str, str]) -> dict[str, Variable]:
    """Return the variables of the environment by name. An empty one counts as unset."""
    return {name: Variable(name, value, f"env {name}") for name, value in environ.items() if value}


def dotenv_variables(path: Path) -> dict[str, Variable]:
    """Return the variables of a `.env` file by name. The result is empty when there is no such file.

    Values are taken literally. `${...}` is not expanded, because a password may contain it. Raises ConfigurationError when the file
    cannot be read, is not UTF-8, or has a line that is not understood.
    """
    if not path.is_file():
        return {}
    from dotenv.parser import parse_stream  # noqa: PLC0415 - most folders have no .env

    variables: dict[str, Variable] = {}
    try:
        with path.open(encoding="utf-8-sig") as stream:
            for binding in parse_stream(stream):
                line = binding.original.line + _blank_lines(binding.original.string)
                if binding.error:
                    raise ConfigurationError(f"{path}, line {line}: not a line of the form NAME=value.")
                if binding.key and binding.value:
                    variables[binding.key] = Variable(binding.key, binding.value, f".env {binding.key}, line {line}")
    except OSError as error:
        raise ConfigurationError(f"The file {path} could not be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"The file {path} is not UTF-8.", hint="Save it as UTF-8.") from error
    return variables


def _blank_lines(original: str) -> int:
    """Return the number of blank lines before a binding. python-dotenv counts them as part of it."""
    return original[: len(original) - len(original.lstrip())].count("\n")


def unknown_variable_errors(variables: Mapping[str, Variable]) -> Iterator[ConfigurationError]:
    """Yield an error for each variable with our prefix that sets nothing."""
    known = {key.variable for key in setting_keys().values()} | {CONFIG_VARIABLE, *KEY_VARIABLES}
    for variable in variables.values():
        if not variable.name.startswith(PREFIX) or variable.name in known or _is_foreign_variable(variable):
            continue
        near = nearest_name(variable.name, known)
        yield ConfigurationError(
            f"The variable {hide_private_key(variable.name)} ({hide_private_key(variable.origin)}) sets nothing."
            + (f" Did you mean {near}?" if near else ""),
            hint="Correct its name or unset it. The names are SENSORSYNC_<SECTION>__<KEY>; `sensorsync config show` lists the keys.",
        )


def _is_foreign_variable(variable: Variable) -> bool:
    if variable.name.startswith(_TESTS) or _SERVICE_LINK.search(variable.name):
        return True
    return variable.name.endswith("_PORT") and variable.value.startswith(("tcp://", "udp://", "sctp://"))


def apply_variables(variables: Mapping[str, Variable], layers: Layers) -> None:
    """Set the values of the variables in the layers. They replace the values that are already there.

    The more specific name wins: systematic, then alias, then MQTT_BROKER. Raises ConfigurationError when a value cannot be parsed.
    """
    if variable := variables.get(BROKER_VARIABLE):
        for path, value in _broker_settings(variable):
            layers.set_value(path, value, variable.origin)
    for names in (_aliases, _systematic):
        for key in setting_keys().values():
            for name in names(key):
                if variable := variables.get(name):
                    layers.set_value(key.path, _parse_value(key, variable), variable.origin)
    for name, own in KEY_VARIABLES.items():
        if variable := variables.get(name):
            _add_key_from_variable(variable, own, layers)


def _aliases(key: SettingKey) -> tuple[str, ...]:
    return tuple(alias for alias in key.aliases if alias not in {BROKER_VARIABLE, *KEY_VARIABLES})


def _systematic(key: SettingKey) -> tuple[str, ...]:
    return (key.variable,)


def _parse_value(key: SettingKey, variable: Variable) -> Any:
    """Return a list that is written as JSON, and any other text as it is. The models split lists with commas."""
    text = variable.value.strip()
    if not key.is_list or not (text.startswith("[") or key.item_model):
        return variable.value
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, list):
        raise ConfigurationError(
            f"{key.name}: must be a JSON list (from {variable.origin}).", hint=f"For example {json.dumps(key.example)}"
        )
    return value


def _broker_settings(variable: Variable) -> Iterator[tuple[KeyPath, Any]]:
    """Yield the settings that MQTT_BROKER contains, each with its key.

    Its forms are `host`, `host:port`, `[::1]:port`, `mqtt://user:password@host:port` and `ws://host:port/path`, and the same URLs with
    `mqtts` and `wss`. Raises ConfigurationError for any other text.
    """
    text = variable.value.strip()
    try:
        url = urlsplit(text if "://" in text else f"//{text}")
        host, port = url.hostname, url.port
    except ValueError:
        host, port = None, None
        url = urlsplit("")
    websocket = url.scheme in {"ws", "wss"}
    path = "" if websocket else url.path.strip("/")
    if not host or (url.scheme and url.scheme not in _SCHEMES) or path or url.query or url.fragment:
        # The value is not repeated: it may hold a password.
        raise ConfigurationError(
            f"{variable.origin}: must be host:port, mqtt://host:port, mqtts://host:port, ws://host:port/path or wss://host:port/path.",
            hint="For example MQTT_BROKER=broker.example.com:1883",
        )
    yield ("mqtt", "host"), host
    default_port, tls = _SCHEMES.get(url.scheme, (None, False))
    if port or default_port:
        yield ("mqtt", "port"), port or default_port
    if tls:
        yield ("mqtt", "tls", "enabled"), True
    if websocket:
        yield ("mqtt", "transport"), "websockets"
    if websocket and url.path:
        yield ("mqtt", "websocket_path"), url.path
    if url.username:
        yield ("mqtt", "username"), unquote(url.username)
    if url.password:
        yield ("mqtt", "password"), unquote(url.password)


def _add_key_from_variable(variable: Variable, key: Mapping[str, str], layers: Layers) -> None:
    """Put the key of a variable before the other keys.

    The first key makes messages. The others stay, to verify and decrypt messages; only one with the same id is replaced.
    """
    there = layers.value(_SECURITY_KEYS_PATH)
    others = (
        [other for other in there if not (isinstance(other, dict) and other.get("id") == key["id"])]
        if isinstance(there, list)
        else []
    )
    origin = f"{variable.origin} and {layers.origin(_SECURITY_KEYS_PATH)}" if others else variable.origin
    layers.set_value(_SECURITY_KEYS_PATH, [{**key, "secret": variable.value}, *others], origin)
