"""The documentation says what the code does, and leads nowhere that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sensorsync.errors import ExitCode
from sensorsync.mqtt.causes import CAUSES
from tests import references

ROOT = Path(__file__).parents[2]
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


def test_the_table_of_faults_names_tests_that_exist_and_every_drill_is_in_it() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/explanation/guarantee.md").read_text(encoding="utf-8")))
    written = {
        path: set(re.findall(r"^def (test_\w+)\(", path.read_text(encoding="utf-8"), flags=re.MULTILINE))
        for path in (ROOT / "tests").rglob("test_*.py")
    }
    drills = set().union(*(names for path, names in written.items() if path.parent.name == "drills"))
    assert named - set().union(*written.values()) == set(), "no such test"
    assert drills - named == set(), "not in the table"
