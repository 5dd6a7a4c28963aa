from __future__ import annotations

import re
from pathlib import Path

from sensorsync.config import Settings, load
from sensorsync.config.reference.keys import setting_keys
from sensorsync.config.reference.sample import sample_config

FILE = Path(__file__).parents[4] / "config.example.yaml"
ELSEWHERE = {"mqtt.password_file", "database.password_file"}
"""A password is set in one place only."""


def test_the_example_file_is_fresh() -> None:
    assert FILE.read_text(encoding="utf-8") == sample_config(), (
        "python -m sensorsync.config.reference.sample > config.example.yaml"
    )


def test_the_example_file_sets_nothing_as_it_is(tmp_path: Path) -> None:
    loaded = load(FILE, {}, {"HOME": str(tmp_path)}, tmp_path)
    assert set(loaded.origins.values()) == {"default"}


def test_the_example_file_sets_every_key_when_its_comments_are_removed(tmp_path: Path) -> None:
    file = _all_set(tmp_path)
    loaded = load(file, {}, {"HOME": str(tmp_path)}, tmp_path)
    assert {name for name, origin in loaded.origins.items() if origin.startswith("file ")} == set(
        setting_keys()
    ) - ELSEWHERE


def test_a_default_in_the_example_is_the_default(tmp_path: Path) -> None:
    file = _all_set(tmp_path)
    shown, defaults = load(file, {}, {}, tmp_path).settings, Settings()
    for key in setting_keys().values():
        if key.default is not None and not key.secret and not key.item_model:
            assert _value(shown, key.path) == _value(defaults, key.path), key.name


def _all_set(folder: Path) -> Path:
    """Return the example without its comment signs."""
    text = re.sub(r"(?m)^( *)# ", r"\1", FILE.read_text(encoding="utf-8"))
    file = folder / "all.yaml"
    file.write_text(re.sub(r"(?m)^ *password_file:.*\n", "", text), encoding="utf-8")
    return file


def _value(settings: Settings, path: tuple[str, ...]) -> object:
    value: object = settings
    for name in path:
        value = getattr(value, name)
    return value
