"""EMQX kills a session that holds much, so nothing of ours may advise a longer queue or a wider window without `force_shutdown`."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sensorsync.mqtt.client.causes import CAUSES

ROOT = Path(__file__).parents[3]
NEAR = 1500
"""Characters on either side of a setting, about a screenful, within which `force_shutdown` and both of its bounds must stand."""
BOUNDS = {"max_mailbox_size": "100000", "max_heap_size": "512MB"}
_SETTING = re.compile(r"(?<![A-Za-z])(?:EMQX_MQTT__)?(?:max_inflight|max_mqueue_len)(?![A-Za-z_])", re.IGNORECASE)
_BOUND = re.compile(r"(max_mailbox_size|max_heap_size)[`\"']*\s*[=:]?\s*[`\"']*(\d+\w*)", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<=[.:;!?])\s|\n\s*\n|\n(?=\s*[-*|#])")
_ADVICE = re.compile(
    r"\b(raise|set|let|increase|widen|lift|change|use|needs?|give|more|larger|longer|wider)\b", re.IGNORECASE
)
_VALUE = re.compile(r"^[`\"']*\s*[=:]\s*[`\"']*\d")


def unsafe(text: str) -> list[str]:
    """Return the sentences of a text that advise one of the two settings without `force_shutdown` and its bounds near them.

    A sentence that says what is so "by default" and advises nothing is no advice.
    """
    found = []
    for mention in _SETTING.finditer(text):
        sentence = _sentence(text, mention.start())
        states = "default" in sentence.lower() and not _ADVICE.search(sentence)
        near = text[max(0, mention.start() - NEAR) : mention.end() + NEAR]
        safe = "force_shutdown" in near.lower() and {bound for bound, _ in bounds(near)} == set(BOUNDS)
        if not safe and (not states or _VALUE.match(text[mention.end() :])):
            found.append(" ".join(sentence.split()))
    return found


def bounds(text: str) -> list[tuple[str, str]]:
    """Return the bounds of `force_shutdown` that a text gives, with their values; EMQX's own are marked by the word "default"."""
    return [(name.lower(), value) for name, value in _BOUND.findall(text)]


def _sentence(text: str, at: int) -> str:
    ends = [0, *(cut.end() for cut in _SENTENCE.finditer(text)), len(text)]
    return text[max(end for end in ends if end <= at) : min(end for end in ends if end > at)]


def strings_of(path: Path) -> Iterator[str]:
    """All strings of a module, docstrings included; the constants of the module that an f-string names are put in."""
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inner = {part for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(_part(part, module) for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in inner:
            yield node.value


def _part(part: ast.expr, module: object) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    name = part.value.id if isinstance(part, ast.FormattedValue) and isinstance(part.value, ast.Name) else ""
    return str(getattr(module, name, "{}"))


def _texts() -> dict[str, list[str]]:
    pages = [ROOT / "README.md", ROOT / "config.example.yaml", ROOT / ".env.example"]
    pages += [path for folder in ("docs", "examples") for path in sorted((ROOT / folder).rglob("*")) if path.is_file()]
    found = {str(path.relative_to(ROOT)): [path.read_text(encoding="utf-8")] for path in pages if path.suffix != ".png"}
    for path in sorted((ROOT / "sensorsync").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        if _SETTING.search(source) or "force_shutdown" in source:
            found[str(path.relative_to(ROOT))] = list(strings_of(path))
    found["causes of check-cloud"] = [str(cause.hint) for cause in CAUSES.values()]
    return found


TEXTS = _texts()
"""By file: a page is one text, each string of a module is one of its own."""


@pytest.mark.parametrize("name", TEXTS)
def test_no_text_of_ours_advises_a_longer_queue_or_a_wider_window_of_emqx_without_force_shutdown(name: str) -> None:
    assert [sentence for text in TEXTS[name] for sentence in unsafe(text)] == []


@pytest.mark.parametrize("name", [name for name, texts in TEXTS.items() if any(map(bounds, texts))])
def test_the_bounds_of_force_shutdown_are_the_same_everywhere(name: str) -> None:
    assert {pair for text in TEXTS[name] for pair in bounds(text)} == set(BOUNDS.items())


def test_the_texts_that_must_give_the_advice_give_it() -> None:
    giving = {name for name, texts in TEXTS.items() if any(_SETTING.search(text) and bounds(text) for text in texts)}
    assert giving >= {
        "docs/how-to/own-broker.md",
        "docs/how-to/troubleshoot-connection.md",
        "docs/explanation/guarantee.md",
        "examples/docker/compose.local.yaml",
        "sensorsync/mqtt/client/causes/service.py",
        "sensorsync/loadtest/audit_tally.py",
        "causes of check-cloud",
    }


@pytest.mark.parametrize(
    "text",
    [
        "raise the broker's window (EMQX: mqtt.max_inflight; mosquitto: max_inflight_messages)",
        "mqtt {\n  max_mqueue_len = 100000   # default 1000\n}",
        'environment:\n  # by default 32\n  EMQX_MQTT__MAX_INFLIGHT: "512"',
        "By default 1000; raise `mqtt.max_mqueue_len`.",
        "The queue of a session: `mqtt.max_mqueue_len`.",
        "Set `max_inflight` with force_shutdown.",
        "Set `max_inflight` with force_shutdown { max_mailbox_size = 100000 }.",
        "Raise max_inflight. " + "x" * NEAR + " force_shutdown { max_mailbox_size = 100000, max_heap_size = 512MB }",
    ],
)
def test_advice_without_force_shutdown_is_found(text: str) -> None:
    assert len(unsafe(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "EMQX sends 32 messages by default (`mqtt.max_inflight`).",
        "Raise max_inflight_messages of mosquitto.",
        "set mqtt.max_mqueue_len with force_shutdown { max_mailbox_size = 100000, max_heap_size = 512MB }",
    ],
)
def test_a_statement_and_safe_advice_are_none_of_it(text: str) -> None:
    assert unsafe(text) == []
