"""The generator of config.example.yaml: `python -m sensorsync.config.reference.sample > config.example.yaml`.

The file is made from the models. `##` marks prose and `#` marks a commented default. When the `# ` of the commented lines is removed,
the file is still a valid configuration.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from textwrap import wrap
from typing import Any

import yaml

from sensorsync.config.reference.keys import (
    KeyPath,
    SettingKey,
    item_keys,
    nested_models,
    section_description,
    section_title,
    sections,
    setting_keys,
)
from sensorsync.config.sections.fields import Section
from sensorsync.config.sections.units import format_duration, format_size

_WIDTH = 110
_LONGEST_INLINE = 90
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
## Generated: python -m sensorsync.config.reference.sample > config.example.yaml
"""


def sample_config() -> str:
    """Return the text of the whole file."""
    return _HEAD + "\n".join(_section((), sections()[()], "")) + "\n"


def _section(path: KeyPath, model: type[Section], indent: str) -> Iterator[str]:
    for key in setting_keys().values():
        if key.path[:-1] == path:
            yield ""
            yield from _prose(_key_description(key), indent)
            yield from (f"{indent}# {line}" for line in _assignment(key))
    for name, inner in ((name, (*path, name)) for name in model.model_fields):
        if inner in sections():
            yield ""
            yield from _prose([section_description(sections()[inner])], indent)
            yield f"{indent}{name}:"
            yield from _section(inner, sections()[inner], indent + "  ")


def _key_description(key: SettingKey) -> Iterator[str]:
    yield key.description
    for model in nested_models(key.item_model) if key.item_model else ():
        if model is not key.item_model:
            yield f"{section_title(model)}: {section_description(model)}"
        for inner in item_keys(model).values():
            yield f"- {inner.name}: {inner.description}"
    if key.default_text:
        yield f"Default: {key.default_text}."
    elif format_default(key) is None:
        yield "Default: not set."
    yield f"Environment: {', '.join((*key.aliases, key.variable))}."


def _prose(paragraphs: list[str] | Iterator[str], indent: str) -> Iterator[str]:
    for paragraph in paragraphs:
        for number, line in enumerate(wrap(paragraph, _WIDTH - len(indent), break_long_words=False)):
            yield f"{indent}## {'  ' if number and paragraph.startswith('- ') else ''}{line}"


def _assignment(key: SettingKey) -> Iterator[str]:
    default = format_default(key)
    value = key.example if default is None or key.item_model else default
    if key.item_model is None:
        yield f"{key.path[-1]}: {_inline(value)}"
        return
    yield f"{key.path[-1]}:"
    for item in value:
        yield from (f"  {'  ' if number else '- '}{line}" for number, line in enumerate(_lines(item)))


def _lines(section: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a section inside a list: one for each key, and more for a long value."""
    for name, value in section.items():
        if len(_inline(value)) <= _LONGEST_INLINE:
            yield f"{name}: {_inline(value)}"
            continue
        yield f"{name}:"
        lines = _lines(value) if isinstance(value, dict) else (f"- {_inline(item)}" for item in value)
        yield from (f"  {line}" for line in lines)


def format_default(key: SettingKey) -> Any:
    """Return the fixed default as it is written in the file, or None when there is none or the key is a secret."""
    if key.default is None or key.secret:
        return None
    if key.unit == "duration":
        return format_duration(key.default)
    if key.unit == "size":
        return format_size(key.default)
    return list(key.default) if key.is_list else key.default


def _inline(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return json.dumps(value)
    text = yaml.safe_dump(value, width=10_000, allow_unicode=True, default_flow_style=True, sort_keys=False)
    return str(text).splitlines()[0]


if __name__ == "__main__":
    sys.stdout.write(sample_config())
