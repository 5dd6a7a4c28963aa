"""What the static checks look at: they are worth what they are not told to overlook."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
LINT: dict[str, Any] = PROJECT["tool"]["ruff"]["lint"]


def test_bandits_rules_are_on_and_no_file_of_the_package_is_spared() -> None:
    """Ruff's `S` rules are those of bandit."""
    assert "S" in LINT["select"]
    assert not [rule for rule in LINT["ignore"] if re.match(r"S\d", rule)]
    spared = {
        files for files, rules in LINT["per-file-ignores"].items() if any(re.match(r"S\d*$", rule) for rule in rules)
    }
    assert spared == {"tests/**"}


def test_each_place_that_overlooks_one_of_bandits_rules_says_why() -> None:
    for file in (ROOT / "sensorsync").rglob("*.py"):
        for line in file.read_text().splitlines():
            if re.search(r"# noqa: .*\bS\d", line):
                assert re.search(r"# noqa: [A-Z]+\d+(, [A-Z]+\d+)* - \w", line), f"{file}: {line}"


def test_every_dependency_comes_from_a_registry() -> None:
    """No repository, no address, no local file: what pip installs is what pip-audit knows of."""
    extras = PROJECT["project"].get("optional-dependencies", {}).values()
    for requirement in [*PROJECT["project"]["dependencies"], *(one for extra in extras for one in extra)]:
        assert "@" not in requirement, requirement
        assert "/" not in requirement, requirement
