"""The documentation says what the code does, and leads nowhere that does not exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sensorsync.errors import ExitCode
from sensorsync.mqtt.client.causes import CAUSES
from tests import references

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]


@pytest.mark.parametrize("page", references.pages(), ids=lambda page: page.name)
def test_generated_references_are_fresh(page: Path) -> None:
    assert page.read_text(encoding="utf-8") == references.fresh(page), "stale: run `python -m tests.references`"


def test_every_exit_code_is_documented() -> None:
    text = (ROOT / "docs/reference/exit-codes.md").read_text(encoding="utf-8")
    assert all(f"| `{int(code)}` |" in text for code in ExitCode)


def test_every_cause_is_in_the_troubleshooting_guide() -> None:
    text = (ROOT / "docs/how-to/troubleshoot-connection.md").read_text(encoding="utf-8")
    assert [key for key in CAUSES if f"`{key}`" not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    local = [target for target in targets if target and not re.match(r"[a-z]+:", target)]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_every_page_is_in_the_index() -> None:
    linked = set(re.findall(r"\]\(([^)#]+\.md)\)", (ROOT / "docs/index.md").read_text(encoding="utf-8")))
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")} - {"index.md"}
    assert pages - linked == set()


def test_every_anchor_of_a_link_is_a_heading() -> None:
    wrong = []
    for page in PAGES:
        for target, anchor in re.findall(r"\]\(([^)\s#:]*)#([^)\s]+)\)", page.read_text(encoding="utf-8")):
            aimed = (page.parent / target).resolve() if target else page
            headings = re.findall(r"^#+ (.+)$", aimed.read_text(encoding="utf-8"), flags=re.MULTILINE)
            if anchor not in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}:
                wrong.append(f"{page.name}: {target}#{anchor}")
    assert wrong == []


def test_the_runbook_has_every_warning_and_error_and_nothing_else() -> None:
    text = (ROOT / "docs/runbook.md").read_text(encoding="utf-8").partition("## Events")[2]
    documented = re.findall(r"^\| `([a-z_]+)` \|", text, flags=re.MULTILINE)
    written = {event for path in (ROOT / "sensorsync").rglob("*.py") for event in _events(path)}
    assert len(documented) == len(set(documented))
    assert set(documented) == written


def test_the_runbook_has_every_alert() -> None:
    alerts = set(re.findall(r"- alert: (\w+)", (ROOT / "examples/prometheus/alerts.yml").read_text(encoding="utf-8")))
    text = (ROOT / "docs/runbook.md").read_text(encoding="utf-8").partition("## Events")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| (.*)\|$", text, flags=re.MULTILINE))
    assert set(rows) == alerts
    events = {event for path in (ROOT / "sensorsync").rglob("*.py") for event in _events(path)}
    assert {name for row in rows.values() for name in re.findall(r"`([a-z_]+)`", row)} - events == set()


def _events(path: Path) -> Iterator[str]:
    """The names of the events that a module logs as a warning or worse."""
    for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        loud = [call for call in ast.walk(function) if isinstance(call, ast.Call) and _is_loud(call)]
        named = {word.value.id for call in loud for word in call.keywords if isinstance(word.value, ast.Name)}
        made = [node for node in ast.walk(function) if isinstance(node, ast.Assign) and _target(node) in named]
        for part in (*loud, *made):
            for inner in ast.walk(part):
                if isinstance(inner, ast.Dict):
                    yield from (
                        str(value.value)
                        for key, value in zip(inner.keys, inner.values, strict=True)
                        if isinstance(key, ast.Constant) and key.value == "event" and isinstance(value, ast.Constant)
                    )


def _is_loud(call: ast.Call) -> bool:
    loggers = {"logger", "log"}
    return (
        isinstance(call.func, ast.Attribute)
        and call.func.attr in {"warning", "error", "exception", "critical"}
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id in loggers
    )


def _target(node: ast.Assign) -> str | None:
    return node.targets[0].id if isinstance(node.targets[0], ast.Name) else None


def test_the_page_on_security_names_tests_that_exist() -> None:
    text = (ROOT / "docs/explanation/security.md").read_text(encoding="utf-8")
    written = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", text))
    assert named
    assert [name for name in named if f"def {name}(" not in written] == []
    paths = re.findall(r"`(tests/[\w./]+)`", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_table_of_faults_names_tests_that_exist_and_every_drill_is_in_it() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/explanation/guarantee.md").read_text(encoding="utf-8")))
    written = {
        path: set(re.findall(r"^def (test_\w+)\(", path.read_text(encoding="utf-8"), flags=re.MULTILINE))
        for path in (ROOT / "tests").rglob("test_*.py")
    }
    drills = set().union(*(names for path, names in written.items() if path.parent.name == "drills"))
    assert named - set().union(*written.values()) == set(), "no such test"
    assert drills - named == set(), "not in the table"
