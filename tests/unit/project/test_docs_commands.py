"""Every command line that the documentation shows is one that exists; every YAML that it shows is a configuration."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from sensorsync.cli.wiring import PROGRAM, app
from sensorsync.config import load
from sensorsync.config.loading import yaml_file

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.DOTALL | re.MULTILINE)
_INDENTED = re.compile(r"(?:(?<=\n\n)|^)(?: {4}.*\n)+", re.MULTILINE)
_INLINE = re.compile(rf"`((?:[A-Z_]+=\S*\s+)*{PROGRAM}\s+[a-z-][^`]*)`")
_HEREDOC = re.compile(r"<<-?'?(\w+)'?(.*)\n(?:.*\n)*?\1\n")
_BEFORE = re.compile(rf"\s*(?:(?:[A-Z_]+=\S*|sudo|-\S+|(?:[\d*/,-]+ ){{5}}|then|exec|/\S*(?=/{PROGRAM}))\s*)*/?$")
COMMAND = typer.main.get_command(app)
_OPERATORS = frozenset("|&;<>()")

_OTHER_PROGRAMS = {"services", "jobs", "steps", "scrape_configs"}

_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def shell_text(page: Path) -> Iterator[str]:
    """All that the page shows as something to type, one command line each; lines that end in a backslash are joined."""
    text = page.read_text(encoding="utf-8")
    for _, language, body in _FENCE.findall(text):
        typed = re.findall(r"^ *\$ (.*)", body, flags=re.MULTILINE)
        if language in {"sh", "bash"}:
            yield from _HEREDOC.sub(r"\2\n", body).replace("\\\n", " ").splitlines()
        elif language in {"console", ""} and typed:
            yield from typed
    rest = _FENCE.sub("", text)
    for block in _INDENTED.findall(rest):
        yield from (line for line in block.replace("\\\n", " ").splitlines() if PROGRAM in line.split())
    yield from (" ".join(command.split()) for command in _INLINE.findall(rest) if "..." not in command)


def segments(line: str) -> Iterator[list[str]]:
    """The commands of one line: split at pipes and the like, without redirections. Raises ValueError for unbalanced quotes."""
    lexer = shlex.shlex(re.sub(r"(?<=\s)\d(?=[<>])", "", line), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    tokens = list(lexer)
    skip = False
    for at, token in enumerate(tokens):
        following = tokens[at + 1] if at + 1 < len(tokens) else ""
        if skip:
            skip = False
        elif token and set(token) <= _OPERATORS:
            if ">" in token or "<" in token:
                skip = not token.endswith("&") or following.isdigit()
            else:
                yield words
                words = []
        else:
            words.append(token)
    yield words


def ours(line: str) -> Iterator[list[str]]:
    """The arguments of each `sensorsync` of a line."""
    for words in segments(line):
        names = [word.rpartition("/")[2] for word in words]
        if PROGRAM in names and words[names.index(PROGRAM)][:1] != "-":
            at = names.index(PROGRAM)
            if _BEFORE.fullmatch("".join(f"{word} " for word in words[:at])):
                yield words[at + 1 :]


def parse(arguments: list[str]) -> None:
    """As typer does it, but for running the command. Raises typer's errors of usage."""
    command: Any = COMMAND
    context = command.make_context(PROGRAM, list(arguments))
    while hasattr(command, "commands"):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        if "--help" in rest:
            return
        context = command.make_context(name, rest, parent=context)


def complaint(line: str) -> str | None:
    """What is wrong with a line; None: nothing."""
    try:
        for arguments in ours(line):
            if arguments != ["--version"]:
                parse(arguments)
    except (_UsageError, ValueError) as error:
        # A sentence may name a command without its argument.
        if type(error).__name__ != "MissingParameter" or not re.fullmatch(rf"{PROGRAM}( [a-z-]+)+", line):
            return f"{line}: {error}"
    return None


def test_the_documentation_shows_commands_in_all_the_ways_that_are_looked_for() -> None:
    found = [arguments for page in PAGES for line in shell_text(page) for arguments in ours(line)]
    assert len(found) > 100
    assert ["--log-level", "ERROR", "dlq", "replay", "--max", "100000"] in found, "a line of a crontab"
    assert ["config", "check"] in found, "in a sentence"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_line_is_one_that_exists(page: Path) -> None:
    assert [wrong for line in shell_text(page) if (wrong := complaint(line))] == []


@pytest.mark.parametrize("wrong", ["subscribe --proceses 2", "dlq reply", "init-db --sql yes", "dlq inspect --limit x"])
def test_a_command_line_that_does_not_exist_is_noticed(wrong: str) -> None:
    assert re.search(
        r"o such (option|command)|nexpected|valid integer", complaint(f"A=b sensorsync {wrong} >out 2>&1 | less") or ""
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_yaml_is_a_configuration(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_file, "SYSTEM_FILE", tmp_path / "none")
    file = tmp_path / "sensorsync.yaml"
    for _, language, text in _FENCE.findall(page.read_text(encoding="utf-8")):
        if language == "yaml" and not set(yaml.safe_load(text)) & _OTHER_PROGRAMS:
            file.write_text(text, encoding="utf-8")
            load(file, {}, {"SENSORSYNC_SIGNING_KEY": "s" * 32, "SENSORSYNC_ENCRYPTION_KEY": "A" * 43}, tmp_path)
