"""The parts of docs/ that come from the code: `python -m tests.references` writes them.

A page says where each goes, between `<!-- generated: NAME -->` and `<!-- /generated -->`;
tests/unit/project/test_docs.py fails when one is stale.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import typer

import sensorsync
from sensorsync.cli.wiring import app
from sensorsync.config.reference.keys import (
    SettingKey,
    item_keys,
    nested_models,
    section_description,
    section_title,
    sections,
    setting_keys,
)
from sensorsync.config.reference.sample import format_default
from sensorsync.config.sections.fields import Section
from sensorsync.errors import ExitCode, SensorsyncError
from sensorsync.messages.reading import REJECTION_REASONS
from sensorsync.mqtt.client.causes import CAUSES, Cause, GuideSection
from sensorsync.pipeline.counters import RetryCause
from sensorsync.service.metrics.definitions import CHECKS, METRICS, PROCESS_METRICS, Merge
from sensorsync.storage.mysql.migrations import migrations
from sensorsync.storage.mysql.schema import READINGS_COLUMNS
from sensorsync.storage.store import READING_KEY

DOCS = Path(__file__).parents[1] / "docs"
_PART = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- /generated -->)", re.DOTALL)


def exit_codes() -> str:
    """Each exit code with its name and meaning: the docstring of the first error on its branch."""
    meanings = {ExitCode.OK: "All that was asked for was done."}
    for error in _errors(SensorsyncError):
        meanings.setdefault(error.exit_code, _sentence(error))
    return _table(
        ("Code", "Name", "Meaning"), [(f"`{int(c)}`", c.name.lower().replace("_", " "), meanings[c]) for c in ExitCode]
    )


def error_codes() -> str:
    """Each `code` of the JSON envelope's errors."""
    for module in pkgutil.walk_packages(sensorsync.__path__, "sensorsync."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found = {error.code: error for error in _errors(SensorsyncError) if "code" in vars(error)}
    ordered = sorted(found.values(), key=lambda error: (error.exit_code, error.code))
    return _table(
        ("`code`", "Exit code", "Meaning"), [(f"`{e.code}`", f"`{int(e.exit_code)}`", _sentence(e)) for e in ordered]
    )


def reasons() -> str:
    """Each reason for which a message is parked before it reaches the database."""
    return _table(
        ("Reason", "The message is parked because"), [(f"`{word}`", text) for word, text in REJECTION_REASONS.items()]
    )


def configuration() -> str:
    """Each section of the settings with its keys."""
    text = []
    for path, model in sections().items():
        rows = [_row(key) for key in setting_keys().values() if key.path[:-1] == path]
        title = f"{'.'.join(path)}\n\n{section_description(model)}" if path else "Top level"
        if rows:
            text.append(f"## {title}\n\n" + _table(("Key", "Default", "What it is", "Environment"), rows))
        for key in setting_keys().values():
            if key.path[:-1] == path and key.item_model is not None:
                text += [_inside(inner) for inner in nested_models(key.item_model)]
    return "\n".join(text)


def causes(chapter: GuideSection) -> str:
    """Each cause of one chapter of the troubleshooting guide: how it is seen, and what helps."""
    return "\n".join(_cause(one) for one in CAUSES.values() if one.section is chapter)


def reason_codes() -> str:
    """Each reason code of a broker, those that have a chapter included."""
    found = sorted(
        (one for one in CAUSES.values() if one.reason_code is not None), key=lambda one: one.reason_code or 0
    )
    rows = [
        (f"`0x{one.reason_code:02X}`", f"`{one.key}`", one.description, one.hint or "Try again later") for one in found
    ]
    return _table(("Code", "Name", "Meaning", "What helps"), [(*row[:3], f"{_upper(row[3])}.") for row in rows])


_MERGED = {
    Merge.SUM: "the sum",
    Merge.MAX: "the latest",
    Merge.PROCESS: "one series each",
    Merge.INSTANCE: "of the instance",
}


def metrics() -> str:
    """Each metric of our own."""
    rows = [
        (
            f"`{one.name}`",
            str(one.kind),
            ", ".join(f"`{label}`" for label in one.all_labels),
            _MERGED[one.merge],
            one.help,
        )
        for one in METRICS.values()
    ]
    return _table(("Metric", "Type", "Labels", "Several processes", "What it is"), rows)


def process_metrics() -> str:
    """The standard metrics of a process."""
    return _table(("Metric", "What it is"), [(f"`{name}`", text) for name, text in PROCESS_METRICS.items()])


def checks() -> str:
    """Each check of /readyz."""
    return _table(("Check", "It is well when"), [(f"`{name}`", text) for name, text in CHECKS.items()])


def kept_causes() -> str:
    """Each cause of `sensorsync_batches_kept_total`: what stands below it in the code."""
    texts = re.findall(
        r'^    [A-Z_]+ = "([a-z_]+)"\n    """(.+?)"""', inspect.getsource(RetryCause), flags=re.MULTILINE
    )
    if [name for name, _ in texts] != [str(cause) for cause in RetryCause]:
        raise ValueError("a cause without its sentence")
    return _table(("Cause", "Why the batch was kept"), [(f"`{name}`", text) for name, text in texts])


def schema() -> str:
    """The table as this version writes to it, and the SQL that makes it."""
    sql = "\n\n".join(f"{statement};" for migration in migrations() for statement in migration.statements)
    comments = dict(re.findall(r"^ +(\w+) .*COMMENT '([^']*)'", sql, flags=re.MULTILINE))
    rows = [
        (
            f"`{name}`",
            f"`{kind.upper()}`",
            "yes" if null else "",
            "yes" if name in READING_KEY else "",
            comments.get(name, ""),
        )
        for name, (kind, null) in READINGS_COLUMNS.items()
    ]
    table = _table(("Column of `sensor_readings`", "Type", "May be NULL", "In the key", "What it is"), rows)
    return f"{table}\n```sql\n{sql}\n```\n"


def commands() -> str:
    """Each command with its arguments and options, off the typer app."""
    return "\n".join(_commands(typer.main.get_command(app), "sensorsync"))


def _cause(one: Cause) -> str:
    number = "" if one.reason_code is None else f", reason code `0x{one.reason_code:02X}`"
    kind = "; a warning, or exit code 5" if one.insufficient else ""
    seen = "".join(
        f"- Seen as: {words}\n"
        for words in [", ".join(f"`{part}`" for part in one.typical_messages.split("; "))]
        if one.typical_messages
    )
    return f"### {_upper(one.description)}\n\n- Name: `{one.key}`{number}{kind}\n{seen}- Fix: {one.hint}.\n"


def _upper(text: str) -> str:
    return text if text.startswith("mqtt.") else text[:1].upper() + text[1:]


def _row(key: SettingKey) -> tuple[str, ...]:
    shown = format_default(key)
    default = key.default_text or (
        ("required" if key.required else "not set")
        if shown is None
        else f"`{json.dumps(shown) if key.is_list else str(shown)}`"
    )
    if isinstance(shown, bool) and not key.default_text:
        default = f"`{str(shown).lower()}`"
    return f"`{key.name}`", default, key.description, ", ".join(f"`{name}`" for name in (*key.aliases, key.variable))


def _inside(model: type[Section]) -> str:
    """The keys of what is inside a list of sections. They have no variables of their own."""
    rows = [_row(key)[:3] for key in item_keys(model).values()]
    return f"### {section_title(model)}\n\n{section_description(model)}\n\n" + _table(
        ("Key", "Default", "What it is"), rows
    )


def _commands(command: Any, name: str) -> Iterator[str]:
    inner = getattr(command, "commands", {})
    options = [p for p in command.params if not getattr(p, "hidden", False) and "completion" not in (p.name or "")]
    rows = [(f"`{_usage(option)}`", _default(option), option.help or "") for option in options if option.name != "help"]
    level = "##" if " " not in name else "###"
    yield f"{level} {name}\n\n{command.help}\n"
    if rows:
        yield _table(("Option", "Default", "What it does"), rows)
    for word, one in inner.items():
        yield from _commands(one, f"{name} {word}")


def _usage(option: Any) -> str:
    if option.param_type_name == "argument":
        return str(option.metavar or option.name).upper()
    names = ", ".join((*option.opts, *option.secondary_opts))
    return names if option.is_flag else f"{names} {option.metavar or 'N'}"


def _default(option: Any) -> str:
    shown = option.default
    return "" if shown is None or shown is False or callable(shown) else f"`{shown}`"


PARTS: dict[str, Callable[[], str]] = {
    "exit-codes": exit_codes,
    "error-codes": error_codes,
    "reasons": reasons,
    "configuration": configuration,
    "commands": commands,
    "metrics": metrics,
    "process-metrics": process_metrics,
    "checks": checks,
    "kept-causes": kept_causes,
    "schema": schema,
    **{f"causes-{chapter}": partial(causes, chapter) for chapter in GuideSection if chapter is not GuideSection.CODES},
    "reason-codes": reason_codes,
}


def pages() -> list[Path]:
    """All pages that have a generated part."""
    return [page for page in sorted(DOCS.rglob("*.md")) if _PART.search(page.read_text(encoding="utf-8"))]


def fresh(page: Path) -> str:
    """The page as it should be."""
    return _PART.sub(lambda part: f"{part[1]}\n{PARTS[part[2]]()}\n{part[3]}", page.read_text(encoding="utf-8"))


def _errors(root: type[SensorsyncError]) -> Iterator[type[SensorsyncError]]:
    if root.__module__.startswith("sensorsync."):  # tests make errors of their own
        yield root
    for error in root.__subclasses__():
        yield from _errors(error)


def _sentence(error: type[SensorsyncError]) -> str:
    return (error.__doc__ or "").splitlines()[0]


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |\n" for line in lines)


if __name__ == "__main__":
    for found in pages():
        found.write_text(fresh(found), encoding="utf-8")
