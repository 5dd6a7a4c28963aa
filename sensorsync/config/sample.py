"""config.example.yaml, made from the models: `python -m sensorsync.config.sample > config.example.yaml`.

`##` is prose, `#` a commented default. Without the `# ` of its commented lines the file is a valid configuration too.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from textwrap import wrap
from typing import Any

import yaml

from sensorsync.config.fields import Section
from sensorsync.config.reference import Key, KeyPath, describe, item_keys, keys, sections
from sensorsync.config.units import format_duration, format_size

_WIDTH = 110
_HEAD = """\
## The configuration of sensorsync, with every key. Lines with ## explain; lines with one # are the defaults, or an example
## where there is no fixed default: remove the # to set them.
##
## Precedence: defaults < this file < .env < environment < flags. An empty variable counts as unset.
## This file is --config, SENSORSYNC_CONFIG, ./sensorsync.yaml, ~/.config/sensorsync/config.yaml or
## /etc/sensorsync/config.yaml, the first that exists. A relative path means a place beside this file.
## Durations: 200ms, 5s, 2m, 1h, 7d. Sizes: 64MiB, 2GiB, 10MB. A plain number is seconds or bytes.
## Keep secrets in the environment, or make this file readable for one user alone (chmod 600).
##
## Generated: python -m sensorsync.config.sample > config.example.yaml
"""


def sample() -> str:
    """The whole file."""
    return _HEAD + "\n".join(_section((), sections()[()], "")) + "\n"


def _section(path: KeyPath, model: type[Section], indent: str) -> Iterator[str]:
    for key in keys().values():
        if key.path[:-1] == path:
            yield ""
            yield from _prose(_about(key), indent)
            yield from (f"{indent}# {line}" for line in _assignment(key))
    for name, inner in ((name, (*path, name)) for name in model.model_fields):
        if inner in sections():
            yield ""
            yield from _prose([describe(sections()[inner])], indent)
            yield f"{indent}{name}:"
            yield from _section(inner, sections()[inner], indent + "  ")


def _about(key: Key) -> Iterator[str]:
    yield key.description
    if key.items is not None:
        for inner in item_keys(key.items).values():
            yield f"- {inner.path[0]}: {inner.description}"
    if key.default_text:
        yield f"Default: {key.default_text}."
    elif shown_value(key) is None:
        yield "Default: not set."
    yield f"Environment: {', '.join((*key.aliases, key.variable))}."


def _prose(paragraphs: list[str] | Iterator[str], indent: str) -> Iterator[str]:
    for paragraph in paragraphs:
        for number, line in enumerate(wrap(paragraph, _WIDTH - len(indent), break_long_words=False)):
            yield f"{indent}## {'  ' if number and paragraph.startswith('- ') else ''}{line}"


def _assignment(key: Key) -> Iterator[str]:
    default = shown_value(key)
    value = key.example if default is None or key.items else default
    if key.items is None:
        yield f"{key.path[-1]}: {_inline(value)}"
        return
    yield f"{key.path[-1]}:"
    for item in value:
        for number, (name, part) in enumerate(item.items()):
            yield f"  {'  ' if number else '- '}{name}: {_inline(part)}"


def shown_value(key: Key) -> Any:
    """The fixed default as one would write it in the file; None when there is none."""
    if key.default is None or key.secret:
        return None
    if key.unit == "duration":
        return format_duration(key.default)
    if key.unit == "size":
        return format_size(key.default)
    return list(key.default) if key.is_list else key.default


def _inline(value: Any) -> str:
    if isinstance(value, list):
        return json.dumps(value)
    text = yaml.safe_dump(value, width=10_000, allow_unicode=True)
    return str(text).splitlines()[0]


if __name__ == "__main__":
    sys.stdout.write(sample())
