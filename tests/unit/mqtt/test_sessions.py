"""SessionRegistry: what a broker keeps for us, remembered over any crash, by one process at a time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sensorsync.errors import AlreadyRunningError, ConfigurationError
from sensorsync.mqtt.sessions import SessionRecord, SessionRegistry

RECORD = SessionRecord(("$share/g/t/#",))


def test_what_was_remembered_is_there_for_the_next_process(tmp_path: Path) -> None:
    with SessionRegistry(tmp_path, "me@broker") as registry:
        registry.remember({"me-0": RECORD})
        registry.remember({"me-1": RECORD})
        registry.forget("me-1")

    with SessionRegistry(tmp_path, "me@broker") as registry:
        assert registry.client_ids() == ("me-0",)
        assert registry.get("me-0") == RECORD
        assert registry.get("me-1") is None


def test_it_is_on_disk_before_remember_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(number: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{number}").readlink()))
        real(number)

    monkeypatch.setattr(os, "fsync", fsync)
    with SessionRegistry(tmp_path, "me") as registry:
        registry.remember({"me-0": RECORD})

    assert synced == [str(tmp_path / "me.new"), str(tmp_path)]


def test_a_second_process_with_the_same_ids_is_refused(tmp_path: Path) -> None:
    with SessionRegistry(tmp_path, "me"):
        with pytest.raises(AlreadyRunningError) as caught, SessionRegistry(tmp_path, "me"):
            pass
        assert "mqtt.instance" in str(caught.value.hint)
        with SessionRegistry(tmp_path, "somebody else"):
            pass


def test_a_damaged_registry_is_named_and_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "me.json").write_text('{"sessions": 3}')

    with pytest.raises(ConfigurationError, match="damaged"), SessionRegistry(tmp_path, "me"):
        pass
    assert (tmp_path / "me.json").read_text() == '{"sessions": 3}'
    # ... and the lock is free again
    (tmp_path / "me.json").unlink()
    with SessionRegistry(tmp_path, "me"):
        pass


def test_a_folder_that_cannot_be_used_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with (
        pytest.raises(ConfigurationError, match="cannot use the folder") as caught,
        SessionRegistry(tmp_path / "file" / "below", "me"),
    ):
        pass
    assert "state_dir" in str(caught.value.hint)
