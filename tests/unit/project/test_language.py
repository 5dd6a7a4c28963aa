"""The words of docstrings and comments: plain sentences that a reader of the MQTT and MySQL manuals understands at once."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "sensorsync"

BEGINNINGS = re.compile(r"(What|Who|Whoever|Whether|Which|Where|When|Why|How)\b")
"""A docstring names the thing or the action; these words begin a riddle about it."""

WORDS = {
    r"\banew\b": "again",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\bwhoever\b": "any, some, a name for them",
    r"\bso many\b(?! [\w-]+ that)": "n",
    r"\bwhat there is\b": "name it",
    r"\bfor want of\b": "without",
    r"\b(obey|owe|hear|tell)s?\b|\b(obeyed|owed|heard|told)\b|\b(obey|ow|hear|tell)ing\b": "report, return, receive, notify",
    r"\bpa(y|ys|id)\b": "cost",
    r"\bwants?\b": "needs, requires",
    r"\blook(s|ed|ing)? (at|whether)\b": "check, read",
    r"(?<!manual )(?<!specification )(?<!documentation )(?<!page )\b(says?|said)\b": "states, reports, is",
    r"(?<!here )\b(is|are|was|were|be) no (?!longer\b|more\b|fewer\b|less\b|larger\b|smaller\b|later\b)": "is not a",
    r"\bleav(e|es|ing) for good\b": "end the sessions",
    r"\btables? of (the user's|one's|ones|their|your) own\b": "target table",
}
"""Patterns that are not used, and the plain word instead."""


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and text of each docstring, those of attributes and constants included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value.strip()


def comments(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and text of each comment but the instructions to tools."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not re.match(r"#\s*(type:|ruff:)", token.string):
            yield token.start[0], token.string.lstrip("# ")


def without_quotes(text: str) -> str:
    """Return the text without what stands in backticks or quotation marks: code and quotations have their own words."""
    return re.sub(r"``.*?``|`[^`]*`|\"[^\"]*\"", "", text, flags=re.DOTALL)


def faults(source: str) -> list[str]:
    """Return a sentence for each place that breaks the rules."""
    found = [f"{line}: begins with {text.split()[0]!r}" for line, text in docstrings(source) if BEGINNINGS.match(text)]
    for line, text in (*docstrings(source), *comments(source)):
        plain = without_quotes(text)
        found += [
            f"{line}: {match[0]!r}; plainer: {better}"
            for pattern, better in WORDS.items()
            for match in re.finditer(pattern, plain, re.IGNORECASE)
        ]
    return found


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_docstrings_and_comments_are_plain(module: Path) -> None:
    assert not faults(module.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "planted",
    [
        'def size() -> int:\n    """What the file has in bytes."""\n',
        'class Box:\n    """Whoever parks a letter gets it back."""\n',
        'LIMIT = 3\n"""How many letters there are."""\n',
        "x = 1  # the link tells the source\n",
        'def f() -> None:\n    """Return the row.\n\n    It is no reading, and is made anew.\n    """\n',
    ],
)
def test_a_planted_sentence_of_the_old_kind_is_found(planted: str) -> None:
    assert faults(planted)


@pytest.mark.parametrize(
    "plain",
    [
        'def size() -> int:\n    """Return the size of the file in bytes."""\n',
        'def f() -> None:\n    """Return the row.\n\n    There is no limit, and `tell` is code. The manual says so.\n    """\n',
        "x = 1  # it is no longer used\n",
    ],
)
def test_plain_sentences_are_left_alone(plain: str) -> None:
    assert not faults(plain)


def test_ruff_demands_the_imperative() -> None:
    """D401: the first line of a function's docstring is an imperative sentence."""
    import tomllib  # noqa: PLC0415 - used here alone

    lint: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["lint"]
    assert "D" in lint["select"]
    assert not {"D", "D4", "D40", "D401"} & set(lint["ignore"])
