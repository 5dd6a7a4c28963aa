"""The dead-letter box: what is parked stays, and what cannot be parked is said to be unparked."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorsync.deadletters import Criteria, DeadLetters, ReasonCount, ReplayRejection, StoredLetter, message_identity
from sensorsync.deadletters.file import BoxFile
from sensorsync.deadletters.file_system import file_system_type, file_system_warnings
from sensorsync.errors import DeadLetterBoxError
from sensorsync.pipeline.contract import DeadLetter, DeadLetterBoxUnavailable

NOW = 1_767_322_800.25


def letter(number: int = 0, **changes: Any) -> DeadLetter:
    plain = DeadLetter("a/b", f"payload {number}".encode(), 1, None, "json", None, "not JSON", NOW)
    return plain._replace(**changes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "dead-letters.sqlite"


@pytest.fixture
def box(path: Path) -> Iterator[DeadLetters]:
    box = DeadLetters(path, max_size=2**30)
    box.open()
    yield box
    box.close()


def look(path: Path) -> list[StoredLetter]:
    reader = DeadLetters(path)
    assert reader.open_read_only()
    try:
        return list(reader.letters())
    finally:
        reader.close()


# -- what a letter is ----------------------------------------------------------------------------------------------------


def test_a_letter_is_read_back_complete(box: DeadLetters, path: Path) -> None:
    properties = {"content_type": "application/json", "user": [["a", "b"]], "correlation": b"\xff\x00"}
    parked = letter(
        topic="sensors/Straße",
        payload=b"\x00\xff not UTF-8",
        properties=properties,
        reason="database",
        errno=1406,
        message="too long",
    )
    assert box.park([parked]) == 1
    (found,) = look(path)
    assert found == StoredLetter(
        id=1,
        sha256=message_identity("sensors/Straße", b"\x00\xff not UTF-8", properties),
        state="parked",
        reason="database",
        errno=1406,
        device=None,
        first_seen=NOW,
        last_seen=NOW,
        seen=1,
        attempts=0,
        next_retry_at=0,
        refused_at=NOW,
        qos=1,
        topic="sensors/Straße",
        message="too long",
        properties={"content_type": "application/json", "user": [["a", "b"]], "correlation": {"base64": "/wA="}},
        history=[],
        size=len(b"\x00\xff not UTF-8"),
        payload=b"\x00\xff not UTF-8",
    )


def test_a_redelivered_letter_is_one_letter_seen_twice(box: DeadLetters, path: Path) -> None:
    assert box.park([letter(1), letter(2), letter(1, received_at=NOW + 1)]) == 2
    assert box.park([letter(1, received_at=NOW + 9, reason="type", message="now another reason")]) == 0
    other, again = look(path)
    assert (again.seen, again.first_seen, again.last_seen) == (3, NOW, NOW + 9)
    assert (again.reason, again.message) == ("type", "now another reason")
    assert again.history == [{"at": NOW + 1, "attempt": 0, "reason": "json", "errno": None, "message": "not JSON"}]
    assert (other.seen, other.history) == (1, [])


def test_the_same_payload_on_another_topic_is_another_letter(box: DeadLetters) -> None:
    assert box.park([letter(topic="a"), letter(topic="b")]) == 2
    assert message_identity("ab", b"c") != message_identity("a", b"bc")


@pytest.mark.parametrize("name", ["user_properties", "content_type"])
def test_a_message_that_differs_only_in_a_property_that_a_mapping_may_read_is_another_letter(
    box: DeadLetters, path: Path, name: str
) -> None:
    # One letter for both would lose the second: it was acknowledged, and its time may stand in that property.
    first, second = {name: [["time", "1"]], "retain": True}, {name: [["time", "2"]]}
    assert box.park([letter(properties=first), letter(properties=second), letter()]) == 3
    # What says how it came, and not what it is, makes no other letter of a redelivery.
    assert box.park([letter(properties={**second, "retain": True}), letter(properties={"retain": True})]) == 0
    assert sorted(found.seen for found in look(path)) == [1, 2, 2]


def test_text_that_has_no_utf8_can_be_parked(box: DeadLetters, path: Path) -> None:
    assert box.park([letter(message="lone \ud800 surrogate", properties={"x": "\ud800", "y": object})]) == 1
    assert look(path)[0].message == "lone \\ud800 surrogate"


def test_a_quarantined_letter_stays_so_when_it_comes_again(box: DeadLetters, path: Path) -> None:
    box.park([letter()])
    with sqlite3.connect(path) as other:
        other.execute("UPDATE letters SET state = 'quarantined', attempts = 5")
    other.close()
    box.park([letter()])
    (found,) = look(path)
    assert (found.state, found.attempts, found.seen) == ("quarantined", 5, 2)


# -- safe before it is settled -------------------------------------------------------------------------------------------


def test_every_commit_is_fsynced(box: DeadLetters) -> None:
    """Trap 9: the fsync comes before the ack. In WAL mode only `synchronous = FULL` (2) has one at each commit."""
    assert box._file._connection is not None
    values = {
        name: box._file._connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("synchronous", "journal_mode", "auto_vacuum")
    }
    assert values == {"synchronous": 2, "journal_mode": "wal", "auto_vacuum": 2}


def test_a_letter_survives_kill_9_right_after_park(path: Path) -> None:
    script = (
        "import os, signal\n"
        "from pathlib import Path\n"
        "from sensorsync.deadletters import DeadLetters\n"
        "from sensorsync.pipeline.contract import DeadLetter\n"
        f"box = DeadLetters(Path({str(path)!r})); box.open()\n"
        "box.park([DeadLetter('a', b'%d' % n, 1, None, 'json', None, 'no', 0.0) for n in range(100)])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -9
    assert len(look(path)) == 100
    box = DeadLetters(path)
    box.open()
    assert box.park([letter()]) == 1
    box.close()


def test_a_full_box_parks_nothing_and_reports_that_it_is_full(path: Path) -> None:
    box = DeadLetters(path, max_size=256 * 1024)
    box.open()
    batches = [[letter(payload=os.urandom(2000)) for _ in range(10)] for _ in range(20)]
    with pytest.raises(DeadLetterBoxUnavailable, match="full"):
        sum(box.park(batch) for batch in batches)
    there = len(look(path))
    assert 0 < there < 200
    assert there % 10 == 0, "a batch is parked as a whole or not at all"
    assert path.stat().st_size <= 256 * 1024
    with pytest.raises(DeadLetterBoxUnavailable):
        box.park([letter(payload=os.urandom(200_000))])
    box.close()


def test_a_box_that_another_process_holds_is_unavailable_and_then_available(
    box: DeadLetters, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert box._file._connection is not None
    box._file._connection.execute("PRAGMA busy_timeout = 50")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DeadLetterBoxUnavailable, match="locked"):
        box.park([letter()])
    other.execute("ROLLBACK")
    other.close()
    assert box.park([letter()]) == 1


def test_a_closed_box_takes_nothing(box: DeadLetters) -> None:
    box.close()
    box.close()
    with pytest.raises(DeadLetterBoxUnavailable, match="not open"):
        box.park([letter()])


def test_a_box_whose_file_was_deleted_is_created_again_and_the_deleted_file_is_not_written(
    box: DeadLetters, path: Path
) -> None:
    box.park([letter(1)])
    for file in path.parent.iterdir():
        file.unlink()
    assert box.park([letter(2)]) == 1
    assert [found.payload for found in look(path)] == [b"payload 2"]


@pytest.mark.parametrize("removed", [["-wal"], ["-shm"], ["-wal", "-shm"]])
def test_letters_are_in_files_with_names_although_the_log_of_the_box_was_removed(
    box: DeadLetters, path: Path, tmp_path: Path, removed: list[str]
) -> None:
    sibling = DeadLetters(path)
    sibling.open()
    box.park([letter(1)])
    sibling.park([letter(2)])
    for suffix in removed:
        path.with_name(path.name + suffix).unlink()
    assert box.park([letter(3)]) == 1
    assert sibling.park([letter(4)]) == 1
    assert box.park([letter(5)]) == 1
    # What a crash would leave: the files that have names.
    copy = tmp_path / "copy" / path.name
    copy.parent.mkdir()
    for suffix in ("", "-wal"):
        shutil.copy(path.with_name(path.name + suffix), copy.with_name(copy.name + suffix))
    assert sorted(found.payload for found in look(copy)) == [b"payload %d" % n for n in range(1, 6)]
    sibling.close()


@pytest.mark.parametrize("removed", ["", "-wal", "-shm"])
def test_a_commit_into_a_file_that_has_lost_its_name_is_not_acknowledged(
    box: DeadLetters, path: Path, monkeypatch: pytest.MonkeyPatch, removed: str
) -> None:
    begin = BoxFile.write_transaction

    @contextmanager
    def remove_before_commit(file: BoxFile) -> Iterator[sqlite3.Connection]:
        with begin(file) as connection:
            yield connection
            path.with_name(path.name + removed).unlink()

    with monkeypatch.context() as patched:
        patched.setattr(BoxFile, "write_transaction", remove_before_commit)
        with pytest.raises(DeadLetterBoxUnavailable, match="removed or replaced during a commit"):
            box.park([letter(1)])
    box.park([letter(1)])
    assert [found.payload for found in look(path)] == [b"payload 1"]


@pytest.mark.parametrize("suffixes", [[""], ["", "-wal"]])
def test_what_is_parked_after_a_box_was_emptied_in_its_place_is_in_the_file(
    box: DeadLetters, path: Path, suffixes: list[str]
) -> None:
    # As by `logrotate` with copytruncate. The inode is the same, and SQLite has the pages in its cache.
    box.park([letter(1)])
    for suffix in suffixes:
        os.truncate(path.with_name(path.name + suffix), 0)
    for number in range(2, 5):
        assert box.park([letter(number)]) == 1
    box.close()
    with closing(sqlite3.connect(path)) as fresh:
        assert {b"payload 2", b"payload 3", b"payload 4"} <= {
            row[0] for row in fresh.execute("SELECT payload FROM letters")
        }
        assert fresh.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("removed", ["", "-wal"])
def test_a_box_that_loses_a_file_while_it_is_opened_is_opened_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, removed: str
) -> None:
    # The identities were read after the files had been opened: letters went on into the file without a name.
    set_up = BoxFile._set_up

    def set_up_and_lose(file: BoxFile, connection: sqlite3.Connection) -> None:
        set_up(file, connection)
        path.with_name(path.name + removed).unlink()
        if not removed:
            path.touch(mode=0o600)

    box = DeadLetters(path)
    with monkeypatch.context() as patched:
        patched.setattr(BoxFile, "_set_up", set_up_and_lose)
        with pytest.raises(DeadLetterBoxError, match="removed or replaced while it was opened"):
            box.open()
    box.open()
    box.park([letter(1)])
    with closing(sqlite3.connect(path)) as fresh:
        assert fresh.execute("SELECT payload FROM letters").fetchall() == [(b"payload 1",)]
    box.close()


def test_the_log_of_a_box_that_was_removed_before_the_end_is_saved_at_the_end(
    box: DeadLetters, path: Path, tmp_path: Path
) -> None:
    sibling = DeadLetters(path)  # SQLite itself saves the log when the last of all processes closes the box
    sibling.open()
    box.park([letter(1)])
    path.with_name(f"{path.name}-wal").unlink()
    box.close()
    copy = Path(shutil.copy(path, tmp_path / "copy.sqlite"))
    assert [found.payload for found in look(copy)] == [b"payload 1"]
    sibling.close()


def test_a_box_with_another_file_system_mounted_over_its_folder_is_opened_again(
    box: DeadLetters, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The file in the mounted file system may have the inode of the hidden one. Here an exchanged folder stands for the mount.
    box.park([letter(1)])
    inode, stat_of = path.stat().st_ino, Path.stat
    path.parent.rename(tmp_path / "hidden")
    mounted = DeadLetters(path)
    mounted.open()

    def stat_with_the_same_inode(file: Path, **options: bool) -> os.stat_result:
        found = stat_of(file, **options)
        return os.stat_result((found.st_mode, inode, found.st_dev + 1, *found[3:])) if file == path else found

    monkeypatch.setattr(Path, "stat", stat_with_the_same_inode)
    assert box.park([letter(2)]) == 1
    assert [found.payload for found in look(path)] == [b"payload 2"]
    assert [found.payload for found in look(tmp_path / "hidden" / path.name)] == [b"payload 1"]
    mounted.close()


def test_many_threads_and_boxes_park_into_one_file(path: Path) -> None:
    # Given: two processes' worth of boxes, both new.
    boxes = [DeadLetters(path) for _ in range(2)]
    errors: list[Exception] = []
    new: list[int] = []

    def work(number: int) -> None:
        try:
            mine = [[letter(turn), letter(1000 + number * 10 + turn)] for turn in range(10)]
            new.extend(boxes[number % 2].park(batch) for batch in mine)
        except DeadLetterBoxUnavailable as error:
            errors.append(error)

    openers = [threading.Thread(target=box.open) for box in boxes]
    workers = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for group in (openers, workers):
        for thread in group:
            thread.start()
        for thread in group:
            thread.join(50)
    assert errors == []
    assert sum(new) == len(look(path)) == 10 + 60
    for box in boxes:
        box.close()


# -- opening -------------------------------------------------------------------------------------------------------------


def test_only_the_user_can_read_the_box(box: DeadLetters, path: Path) -> None:
    box.park([letter()])
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_box_may_be_opened_again(box: DeadLetters, path: Path) -> None:
    box.park([letter(1)])
    box.close()
    again = DeadLetters(path)
    again.open()
    assert again.park([letter(1), letter(2)]) == 1
    again.close()


def refusal(path: Path) -> DeadLetterBoxError:
    with pytest.raises(DeadLetterBoxError) as error:
        DeadLetters(path).open()
    assert str(path) in str(error.value)
    assert "dead_letters.path" in (error.value.hint or "")
    return error.value


def test_a_folder_that_cannot_be_made_is_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "box.sqlite", tmp_path / "file" / "deeper" / "box.sqlite"):
        assert str(refusal(path)).endswith("is not a folder.")
    assert "No such file" in str(refusal(Path("/proc/sensorsync/box.sqlite")))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_one_clear_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "Permission denied" in str(refusal(tmp_path / "box.sqlite"))
    tmp_path.chmod(0o700)


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("this is no database, but somebody's notes" * 100)
    before = path.read_bytes()
    assert "not a database" in str(refusal(path))
    assert path.read_bytes() == before


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE theirs (x)")
    other.close()
    assert "another program" in str(refusal(path))
    assert not list(tmp_path.glob("*-wal"))


@pytest.mark.parametrize(("version", "words"), [(99, "a newer version"), (1, "an older version")])
def test_a_box_of_another_version_is_left_alone(box: DeadLetters, path: Path, version: int, words: str) -> None:
    box.close()
    with sqlite3.connect(path) as other:
        other.execute(f"PRAGMA user_version = {version}")
    other.close()
    before = path.read_bytes()
    for way in ("open", "open_read_only", "open_for_changes"):
        with pytest.raises(DeadLetterBoxError, match=f"{words} of sensorsync has written it .format {version}"):
            getattr(DeadLetters(path), way)()
    assert path.read_bytes() == before


def test_reading_a_box_that_does_not_exist_creates_nothing(path: Path) -> None:
    assert not DeadLetters(path).open_read_only()
    assert not path.parent.exists()


def test_reading_while_others_park_sees_committed_letters(box: DeadLetters, path: Path) -> None:
    box.park([letter(1)])
    reader = DeadLetters(path)
    assert reader.open_read_only()
    box.park([letter(2)])
    assert len(list(reader.letters())) == 2
    reader.close()


# -- reading -------------------------------------------------------------------------------------------------------------


def test_letters_are_counted_by_reason_and_listed_latest_first(box: DeadLetters) -> None:
    box.park([letter(n, reason="json" if n % 3 else "signature", received_at=NOW + n) for n in range(9)])
    assert box.reason_counts() == [
        ReasonCount("json", None, "parked", 6, 6, NOW + 1, NOW + 8),
        ReasonCount("signature", None, "parked", 3, 3, NOW, NOW + 6),
    ]
    listed = list(box.letters(limit=3, payload_bytes=4))
    assert [(found.last_seen - NOW, found.payload, found.size) for found in listed] == [
        (8, b"payl", 9),
        (7, b"payl", 9),
        (6, b"payl", 9),
    ]


KINDS = st.tuples(
    st.sampled_from(["json", "a", "ü", ""]), st.none() | st.integers(-3, 3), st.sampled_from(["parked", "quarantined"])
)


@settings(max_examples=30, deadline=None)
@given(st.lists(KINDS, max_size=20))
def test_every_letter_is_in_one_count(kinds: list[tuple[str, int | None, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder, closing(DeadLetters(Path(folder) / "box.sqlite")) as box:
        box.open()
        box.park([letter(n, reason=reason, errno=errno) for n, (reason, errno, _) in enumerate(kinds)])
        with box._file.write_transaction() as connection:
            states = [(state, n) for n, (_, _, state) in enumerate(kinds, 1)]
            connection.executemany("UPDATE letters SET state = ?, next_retry_at = id WHERE id = ?", states)
        due = Counter(kind for n, kind in enumerate(kinds, 1) if kind[2] == "parked" and n <= 5)
        assert {count[:3]: (count.letters, count.due) for count in box.reason_counts(now=5)} == {
            kind: (number, due[kind]) for kind, number in Counter(kinds).items()
        }


def test_what_is_filtered_and_counted_is_read_off_one_index(box: DeadLetters) -> None:
    """So that a million letters stay quick."""
    box.park([letter(errno=1, topic="a/c/b"), letter(errno=None)])
    connection = box._file._connection
    assert connection is not None
    statements: list[str] = []
    connection.set_trace_callback(statements.append)
    chosen = Criteria("json", 1, "boiler", "a/+/b/#", NOW, NOW + 1, "parked")
    box.reason_counts(chosen)
    box.ids(chosen, due=NOW)
    list(box.letters(chosen))
    connection.set_trace_callback(None)
    asked = [statement for statement in statements if statement.startswith("SELECT")]
    assert sum("count(*)" in statement for statement in asked) == 2 * 2, "errnos (none is one) and states"
    for statement in asked:
        (plan, *_) = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
        assert "USING COVERING INDEX letters_by_reason" in plan


def test_one_letter_is_found_by_its_number(box: DeadLetters) -> None:
    box.park([letter(1), letter(2)])
    found = box.get(2)
    assert found is not None
    assert found.payload == b"payload 2"
    assert box.get(3) is None


def test_a_number_is_never_given_again(box: DeadLetters) -> None:
    """A replay deletes by number: a letter that came in the place of a purged one would be lost."""
    box.park([letter(1), letter(2)])
    assert box.purge(Criteria()) == 2
    box.park([letter(3)])
    assert [found.id for found in box.letters()] == [3]


# -- what it knows a message by ------------------------------------------------------------------------------------------


def known(box: DeadLetters) -> int:
    with box._file.read_transaction() as connection:
        (number,) = connection.execute("SELECT count(*) FROM known").fetchone()
    return int(number)


def test_a_message_that_left_and_comes_again_is_a_new_letter(box: DeadLetters) -> None:
    for compact in (False, True):
        assert box.park([letter(1), letter(2), letter(3)]) == 3
        box.finish_batch([found.version for found in box.letters()], [], NOW)
        if compact:
            box.compact()
            assert known(box) == 0
    assert box.park([letter(1), letter(1)]) == 1
    (found,) = box.letters()
    assert (found.seen, found.payload) == (2, b"payload 1")


@pytest.mark.parametrize("clock", [9, -9])
@pytest.mark.parametrize("change", ["purge", "release"])
def test_a_letter_whose_message_is_parked_again_after_it_was_chosen_stays_as_it_is(
    box: DeadLetters, path: Path, monkeypatch: pytest.MonkeyPatch, change: str, clock: float
) -> None:
    # Given: three letters, and a message that comes again between the choice and the change. The clock may have been set back.
    box.park([letter(n) for n in range(3)])
    box.finish_batch([], [ReplayRejection(found, "ts", None, "no", "quarantined", NOW) for found in box.letters()], NOW)
    cleaner = DeadLetters(path)
    assert cleaner.open_for_changes()
    begin = BoxFile.write_transaction

    def begin_late(file: BoxFile) -> AbstractContextManager[sqlite3.Connection]:
        monkeypatch.setattr(BoxFile, "write_transaction", begin)
        assert box.park([letter(1, received_at=NOW + clock)]) == 0
        return begin(file)

    monkeypatch.setattr(BoxFile, "write_transaction", begin_late)
    # When: the letters up to then are purged or released.
    with closing(cleaner):
        assert getattr(cleaner, change)(Criteria(until=NOW + 1)) == 2
    # Then: the letter that was acknowledged as known is there.
    kept = [(found.payload, found.seen) for found in look(path) if found.state == "quarantined"]
    assert kept == [(b"payload 1", 2)]


def test_letters_that_left_are_forgotten_once_they_are_more_than_half(box: DeadLetters) -> None:
    box.park([letter(n) for n in range(10)])
    for left, remembered in ((5, 10), (4, 4)):
        box.finish_batch(sorted(found.version for found in box.letters())[:-left], [], NOW)
        box.compact()
        assert known(box) == remembered
    assert box.park([letter(n) for n in range(10)]) == 6
    assert sorted(found.seen for found in box.letters()) == [1] * 6 + [2] * 4


STEPS = st.lists(
    st.tuples(st.sampled_from(["park", "park", "settle", "import"]), st.integers(0, 5)) | st.just(("compact", 0))
)


@settings(max_examples=30, deadline=None)
@given(STEPS)
def test_however_often_letters_are_removed_and_parked_again_a_message_is_one_letter(
    steps: list[tuple[str, int]],
) -> None:
    with tempfile.TemporaryDirectory() as folder, closing(DeadLetters(Path(folder) / "box.sqlite")) as box:
        box.open()
        box.park([letter(n) for n in range(6)])
        away = {found.payload: found for found in box.letters()}
        box.purge(Criteria())
        seen: Counter[bytes] = Counter()
        for step, number in steps:
            payload = b"payload %d" % number
            if step == "park":
                assert box.park([letter(number)]) == (payload not in seen)
                seen[payload] += 1
            elif step == "import":
                assert box.restore([away[payload]]) == (payload not in seen)
                seen.setdefault(payload, 1)
            elif step == "settle":
                box.finish_batch([found.version for found in box.letters() if found.payload == payload], [], NOW)
                del seen[payload]
            else:
                box.compact()
            assert {found.payload: found.seen for found in box.letters()} == seen


# -- a box of format 2 ---------------------------------------------------------------------------------------------------

PARK_OF_FORMAT_2 = """
    INSERT INTO letters (sha256, reason, first_seen, last_seen, refused_at, qos, topic, message, payload)
    VALUES (?, 'json', 0, 0, 0, 1, 'a/b', '', ?) ON CONFLICT (sha256) DO NOTHING"""


def park_as_format_2(connection: sqlite3.Connection, numbers: Iterable[int]) -> None:
    for number in numbers:
        payload = letter(number).payload
        assert connection.execute(PARK_OF_FORMAT_2, (message_identity("a/b", payload), payload)).rowcount == 1
    connection.commit()


@pytest.fixture
def former(box: DeadLetters, path: Path) -> Iterator[sqlite3.Connection]:
    """The connection of a process that has the box open as it was in format 2, with ten letters."""
    box.close()
    with closing(sqlite3.connect(path)) as connection:
        (table,) = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'letters'").fetchone()
        index = (
            "CREATE INDEX letters_by_reason ON letters (reason, errno, state, last_seen, next_retry_at, device, topic)"
        )
        unique = table.replace("sha256        BLOB    NOT NULL,", "sha256        BLOB    NOT NULL UNIQUE,")
        assert unique != table
        for statement in ("DROP TABLE letters", "DROP TABLE known", unique, index, "PRAGMA user_version = 2"):
            connection.execute(statement)
        park_as_format_2(connection, range(10))
        yield connection


def test_a_box_of_format_2_can_be_read_and_stays_as_it_is(former: sqlite3.Connection, path: Path) -> None:
    assert len(look(path)) == 10
    assert former.execute("PRAGMA user_version").fetchone() == (2,)


@pytest.mark.parametrize("way", [DeadLetters.open, DeadLetters.open_for_changes], ids=["put in", "take out"])
def test_a_box_of_format_2_keeps_its_letters_and_knows_them(
    way: Callable[[DeadLetters], object], former: sqlite3.Connection, path: Path
) -> None:
    with closing(DeadLetters(path)) as box:
        way(box)
        if way is DeadLetters.open:
            assert box.park([letter(3), letter(10)]) == 1
        assert box.purge(Criteria()) in {10, 11}
        box.compact()
        assert (list(box.letters()), known(box)) == ([], 0)
    assert former.execute("PRAGMA user_version").fetchone() == (3,)


def test_what_a_process_of_the_version_before_goes_on_parking_is_known(former: sqlite3.Connection, path: Path) -> None:
    with closing(DeadLetters(path)) as box:
        box.open()
        park_as_format_2(former, [20])
        assert box.park([letter(20)]) == 0
        assert [found.seen for found in box.letters(limit=1)] == [2]
        box.purge(Criteria())
        park_as_format_2(former, [20])
        assert box.park([letter(20)]) == 0


def test_a_full_box_of_format_2_is_opened(former: sqlite3.Connection, path: Path) -> None:
    park_as_format_2(former, range(10, 1000))
    with closing(DeadLetters(path, max_size=path.stat().st_size)) as box:
        box.open()
        assert known(box) == 1000


# -- where it lies -------------------------------------------------------------------------------------------------------

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:21 / /ram rw - tmpfs tmpfs rw
24 22 0:22 / /mnt/my\\040share rw shared:2 - nfs4 server:/x rw
25 22 0:23 / /mnt/local rw - xfs /dev/sdb1 rw
26 22 0:24 / /mnt/local rw - fuse.sshfs host:/ rw
"""


@pytest.mark.parametrize(
    ("path", "kind", "words"),
    [
        ("/var/lib/box", "ext4", None),
        ("/ram/x/box", "tmpfs", "in memory"),
        ("/ramfoo/box", "ext4", None),
        ("/mnt/my share/box", "nfs4", "network file system"),
        ("/mnt/local/box", "fuse.sshfs", "network file system"),
    ],
)
def test_a_place_where_letters_are_less_safe_is_warned_of(path: str, kind: str, words: str | None) -> None:
    assert file_system_type(Path(path), MOUNTS) == kind
    warnings = file_system_warnings(Path(path), kind)
    assert len(warnings) == (words is not None)
    assert words is None or words in warnings[0]


def test_a_containers_own_layer_is_warned_of(box: DeadLetters) -> None:
    (warning,) = file_system_warnings(Path("/box"), "overlay")
    assert "mount a volume" in warning
    assert isinstance(box.warnings(), list)
