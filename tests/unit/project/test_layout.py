"""The house: few rooms, and unit tests where the room they are about is."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "sensorsync"
UNIT = ROOT / "tests/unit"
NO_ROOM = {"project"}
"""Tests of the repository itself: docs, examples, the tests' own fakes."""
MOST_ROOMS = 20


def rooms() -> list[str]:
    """The packages and modules directly under the package, dunder files left out."""
    found = (path.name.removesuffix(".py") for path in PACKAGE.iterdir() if path.is_dir() or path.suffix == ".py")
    return sorted(name for name in found if not name.startswith("__"))


def test_at_most_twenty_rooms_stand_directly_in_the_package() -> None:
    assert len(rooms()) <= MOST_ROOMS, rooms()


def names_in(folder: Path) -> set[str]:
    return {path.stem for path in folder.iterdir() if not path.name.startswith("__")}


def test_mqtt_and_config_have_the_rooms_of_the_architecture() -> None:
    assert names_in(PACKAGE / "mqtt") == {"client", "subscriber", "publisher", "check", "sampler"}
    assert names_in(PACKAGE / "config") == {"sections", "loading", "reference", "checks", "settings"}


def unit_tests() -> list[Path]:
    return sorted(
        path.relative_to(UNIT) for path in UNIT.rglob("test_*.py") if path.relative_to(UNIT).parts[0] not in NO_ROOM
    )


def modules_used(source: str) -> set[str]:
    """The dotted names of all that `source` imports, wherever the import stands."""
    used: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            used |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            used |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return used


def is_in_its_room(test: Path, source: str) -> bool:
    """True when the test's folder is a room of the package, and the test uses that room: itself or through its folder's helpers."""
    place = PACKAGE.joinpath(*test.parent.parts)
    dotted = ".".join(test.parent.parts)
    tops = {f"sensorsync.{dotted}", f"tests.unit.{dotted}", f"tests.unit.{test.parts[0]}.conftest"}
    exists = place.is_dir() or place.with_suffix(".py").is_file()
    return exists and any(name == top or name.startswith(f"{top}.") for name in modules_used(source) for top in tops)


@pytest.mark.parametrize("test", unit_tests(), ids=str)
def test_a_unit_test_stands_where_its_room_is(test: Path) -> None:
    assert is_in_its_room(test, (UNIT / test).read_text(encoding="utf-8")), f"{test} uses nothing of {test.parent}"


def test_a_unit_test_in_the_wrong_place_is_noticed() -> None:
    source = "from sensorsync.pipeline.ledger import AckLedger"
    assert is_in_its_room(Path("pipeline/test_ledger.py"), source)
    assert not is_in_its_room(Path("messages/test_ledger.py"), source)
    assert not is_in_its_room(Path("nowhere/test_ledger.py"), source)
