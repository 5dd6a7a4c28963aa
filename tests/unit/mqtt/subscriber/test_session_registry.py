"""SessionRegistry: what a broker keeps for us, remembered over any crash, by one process at a time."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from sensorsync.config import Settings
from sensorsync.errors import AlreadyRunningError, ConfigurationError
from sensorsync.mqtt.subscriber import session_registry as sessions
from sensorsync.mqtt.subscriber.session_registry import (
    SessionOwner,
    SessionRecord,
    SessionRegistry,
    instance_lock,
    is_instance_running,
    last_started_or_stopped,
    registered_process_numbers,
    registered_session_counts,
)

RECORD = SessionRecord(("$share/g/t/#",))


def test_saved_sessions_are_there_for_the_next_process(tmp_path: Path) -> None:
    with SessionRegistry(tmp_path, "me@broker") as registry:
        registry.save({"me-0": RECORD})
        registry.save({"me-1": RECORD})
        registry.remove("me-1")

    with SessionRegistry(tmp_path, "me@broker") as registry:
        assert registry.client_ids() == ("me-0",)
        assert registry.get("me-0") == RECORD
        assert registry.get("me-1") is None


def test_it_is_on_disk_before_save_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(number: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{number}").readlink()))
        real(number)

    monkeypatch.setattr(os, "fsync", fsync)
    with SessionRegistry(tmp_path, "me") as registry:
        registry.save({"me-0": RECORD})

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


def settings_of(state: Path, **mqtt: object) -> Settings:
    return Settings.model_validate({"mqtt": {"host": "::1", "instance": "edge", **mqtt}, "state_dir": str(state)})


def test_an_instance_runs_once_and_beside_other_instances_and_brokers(tmp_path: Path) -> None:
    with instance_lock(settings_of(tmp_path)):
        with (
            pytest.raises(AlreadyRunningError, match="runs here as sensorsync-edge"),
            instance_lock(settings_of(tmp_path)),
        ):
            pass
        # ... "edge-0" is no process of "edge"
        with instance_lock(settings_of(tmp_path, instance="edge-0")), instance_lock(settings_of(tmp_path, port=1884)):
            pass
        with (
            SessionRegistry.for_process(settings_of(tmp_path), 0),
            SessionRegistry.for_process(settings_of(tmp_path), 1),
        ):
            pass


def test_an_instance_is_its_client_ids_however_the_broker_is_spelt(tmp_path: Path) -> None:
    # The host was in the lock's name: the running one was "an instance that nobody runs".
    named, numeric = settings_of(tmp_path, host="localhost"), settings_of(tmp_path, host="127.0.0.1")
    with instance_lock(named):
        assert is_instance_running(named)
        assert is_instance_running(numeric)
        with pytest.raises(AlreadyRunningError, match="the same broker"), instance_lock(numeric):
            pass
        assert not is_instance_running(settings_of(tmp_path, host="127.0.0.1", instance="other"))
    assert not is_instance_running(numeric)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("::1", "127.0.0.1"),  # the colons are not in the name of the lock's file
        ("localhost", "::1"),
        ("[::1]", "::1"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("localhost.", "localhost"),
        ("2001:db8::1", "2001:db8:0::1"),
    ],
)
def test_ipv6_addresses_are_spellings_of_a_broker_too(one: str, other: str, tmp_path: Path) -> None:
    for first, second in ((one, other), (other, one)):
        with instance_lock(settings_of(tmp_path, host=first)):
            ours = settings_of(tmp_path, host=second)
            assert is_instance_running(ours)
            with pytest.raises(AlreadyRunningError, match="the same broker"), instance_lock(ours):
                pass


def test_one_instance_name_at_two_brokers_is_two_instances(tmp_path: Path) -> None:
    first, second = settings_of(tmp_path, host="127.0.0.1"), settings_of(tmp_path, host="127.0.0.2")
    with instance_lock(first):
        assert not is_instance_running(second)
        with instance_lock(second):
            assert is_instance_running(second)


def test_a_host_whose_addresses_are_unknown_may_be_the_running_one(tmp_path: Path) -> None:
    with instance_lock(settings_of(tmp_path, host="gone.invalid")):
        assert is_instance_running(settings_of(tmp_path, host="127.0.0.1"))
        with instance_lock(settings_of(tmp_path, host="127.0.0.1")):
            pass


def test_sessions_that_were_recorded_under_another_spelling_of_the_broker_are_ours(tmp_path: Path) -> None:
    former, ours = settings_of(tmp_path, host="localhost"), settings_of(tmp_path, host="127.0.0.1")
    elsewhere = settings_of(tmp_path, host="127.0.0.2")
    for settings in (former, elsewhere):
        with SessionRegistry.for_process(settings, 1) as registry:
            registry.save({"client-4": RECORD})
    with instance_lock(ours):
        assert registered_process_numbers(former) == []
        assert registered_process_numbers(ours) == [1]
        assert registered_session_counts(ours) == {
            SessionOwner.from_settings(ours): 1,
            SessionOwner.from_settings(elsewhere): 1,
        }
        with SessionRegistry.for_process(ours, 1) as registry:
            assert registry.get("client-4") == RECORD


def test_an_ephemeral_instance_needs_no_instance_lock(tmp_path: Path) -> None:
    with instance_lock(settings_of(tmp_path, ephemeral=True)), instance_lock(settings_of(tmp_path, ephemeral=True)):
        pass


def test_the_registered_processes_are_those_of_this_instance_at_this_broker(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    assert registered_process_numbers(settings) == []
    for other in (
        settings,
        settings_of(tmp_path, instance="edge-2"),
        settings_of(tmp_path, port=1884),
        settings_of(tmp_path, client_id="other"),
    ):
        for process in (0, 11) if other is settings else (7,):
            with SessionRegistry.for_process(other, process) as registry:
                registry.save({"client": RECORD})
    with SessionRegistry.for_process(settings, 5):
        pass  # names nothing

    assert registered_process_numbers(settings) == [0, 11]


def test_a_registry_that_names_nothing_leaves_no_file(tmp_path: Path) -> None:
    with SessionRegistry(tmp_path, "me") as registry:
        registry.save({"me-0": RECORD})
        registry.remove("me-0")
    assert list(tmp_path.glob("*.json")) == []


def test_the_sessions_of_all_instances_are_counted_and_damaged_files_left_to_their_owners(tmp_path: Path) -> None:
    settings, other = settings_of(tmp_path), settings_of(tmp_path, instance="other", port=1884)
    for one, process, count in ((settings, 0, 2), (settings, 1, 1), (other, 0, 3)):
        with SessionRegistry.for_process(one, process) as registry:
            registry.save({f"client-{number}": RECORD for number in range(count)})
    (tmp_path / "sessions" / "sensorsync-damaged.json").write_text("[")

    assert registered_session_counts(settings) == {
        SessionOwner.from_settings(settings): 3,
        SessionOwner.from_settings(other): 3,
    }


def test_checking_whether_an_instance_runs_does_not_block_its_start(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    with instance_lock(settings):
        assert is_instance_running(settings)
    assert not is_instance_running(settings)
    glance = sessions._acquire_lock(sessions._instance_lock_path(settings), "")
    threading.Timer(0.05, os.close, [glance]).start()
    with instance_lock(settings):
        assert is_instance_running(settings)


def test_the_last_start_or_stop_of_an_instance_is_known(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    lock = sessions._instance_lock_path(settings)
    with instance_lock(settings):
        os.utime(lock, (0, 0))
    assert abs(last_started_or_stopped(settings) - time.time()) < 60, "it was stopped"
    os.utime(lock, (0, 0))
    with instance_lock(settings):
        assert abs(last_started_or_stopped(settings) - time.time()) < 60, "it was started"
