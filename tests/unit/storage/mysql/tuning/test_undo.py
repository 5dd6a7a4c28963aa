"""The undo file: whose it is, what survives a restart of the server, and that it is written all or not at all."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from sensorsync.errors import ConfigurationError
from sensorsync.storage.mysql.tuning.server import ServerIdentity
from sensorsync.storage.mysql.tuning.undo import UndoEntry, UndoFile, UndoState

SERVER = ServerIdentity("fd14a1c7-e860", "db1", "3306", "/var/lib/mysql/")
UNDO = UndoState(
    SERVER, 1000.0, {"sync_binlog": UndoEntry("0", "1"), "max_connections": UndoEntry("151", "200", True, "160")}
)


def test_what_is_written_is_read_again_and_only_this_user_may_read_it(tmp_path: Path) -> None:
    file = UndoFile(tmp_path / "state", SERVER)
    assert file.read() is None
    file.write(UNDO)
    assert file.read() == UNDO
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700
    assert list(file.path.parent.iterdir()) == [file.path]


def test_a_leftover_of_a_crash_neither_stops_it_nor_lends_it_its_mode(tmp_path: Path) -> None:
    file = UndoFile(tmp_path, SERVER)
    file.path.parent.mkdir()
    file.path.with_suffix(".new").write_text("half")
    file.path.with_suffix(".new").chmod(0o666)
    file.write(UNDO)
    assert file.read() == UNDO
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


def test_with_nothing_left_to_take_back_the_file_goes(tmp_path: Path) -> None:
    file = UndoFile(tmp_path, SERVER)
    file.write(UNDO)
    file.write(replace(UNDO, entries={}))
    assert not file.path.exists()


def test_each_server_has_its_own_file_and_never_reads_anothers(tmp_path: Path) -> None:
    here, there = UndoFile(tmp_path, SERVER), UndoFile(tmp_path, replace(SERVER, server="another"))
    here.write(UNDO)
    assert there.read() is None
    assert there.other_files() == [here.path]
    there.path.write_bytes(here.path.read_bytes())
    with pytest.raises(ConfigurationError, match="belongs to another server"):
        there.read()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"server": {}, "started": 1, "variables": {}}'])
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    file = UndoFile(tmp_path, SERVER)
    file.path.parent.mkdir()
    file.path.write_text(content)
    with pytest.raises(ConfigurationError, match="is damaged"):
        file.read()


def test_a_folder_that_cannot_be_used_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("no folder")
    with pytest.raises(ConfigurationError, match="cannot write the undo file"):
        UndoFile(tmp_path / "state", SERVER).write(UNDO)


def test_a_restart_leaves_only_what_was_persisted() -> None:
    assert UNDO.still_effective(1001.5) == UNDO  # the uptime is in whole seconds
    assert UNDO.still_effective(1010.0).entries == {"max_connections": UNDO.entries["max_connections"]}
    assert UNDO.still_effective(1010.0).started == 1010.0
