"""`dlq ...` from the command line to what is printed, without a server; the rest is in tests/acceptance/test_replay.py."""

from __future__ import annotations

import io
import json
import os
import pty
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console

from sensorsync.cli import main
from sensorsync.cli.wiring import app, parse_time_flag
from sensorsync.console.dlq import inspect
from sensorsync.deadletters import Criteria
from sensorsync.errors import UsageError
from tests.in_process import Ended, run_here
from tests.letters import ARRIVAL, good, in_box, junk, left, park


class Cli:
    """The command line, on a box and a database of this test."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.box = folder / "box.sqlite"
        self._capsys = capsys

    def __call__(self, *words: str) -> Ended:
        return run_here(self._capsys, "--log-level", "ERROR", "dlq", *words)


@pytest.fixture
def dlq(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SENSORSYNC_DATABASE__DRIVER", "sqlite")
    monkeypatch.setenv("SENSORSYNC_DATABASE__PATH", str(tmp_path / "readings.sqlite"))
    monkeypatch.setenv("SENSORSYNC_DEAD_LETTERS__PATH", str(tmp_path / "box.sqlite"))
    assert main(["init-db"]) == 0
    capsys.readouterr()
    return Cli(tmp_path, capsys)


@pytest.fixture
def full(dlq: Cli) -> Cli:
    """Nine good letters and three that are junk."""
    park(dlq.box, [*(good(number) for number in range(9)), *(junk(number) for number in range(3))])
    return dlq


# -- no box ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["inspect"], 0),
        (["show", "1"], 5),
        (["replay"], 0),
        (["replay", "--dry-run"], 0),
        (["release"], 0),
        (["purge", "--all"], 0),
        (["export", "letters.jsonl"], 0),
    ],
)
def test_a_box_that_is_not_there_is_empty_and_stays_away(dlq: Cli, words: list[str], code: int) -> None:
    assert dlq(*words).code == code
    assert not dlq.box.exists()


# -- flags -----------------------------------------------------------------------------------------------------------------


def test_the_filters_are_the_same_on_every_command() -> None:
    commands = typer.main.get_command(app).commands["dlq"].commands  # type: ignore[attr-defined]
    flags = {name: {parameter.name: parameter for parameter in command.params} for name, command in commands.items()}
    for name in ("replay", "release", "purge", "export"):
        some = flags["inspect"].keys() - {"limit", "json"} - ({"state"} if name in {"replay", "release"} else set())
        assert len(some) >= 6
        assert {flag: (one.opts, one.help) for flag, one in flags[name].items() if flag in some} == {
            flag: (one.opts, one.help) for flag, one in flags["inspect"].items() if flag in some
        }
    assert "state" not in flags["replay"].keys() | flags["release"].keys(), "they have their own"


def test_reading_the_box_imports_nothing_heavy(full: Cli) -> None:
    code = (
        "import sys; from sensorsync.cli import main; assert main(['dlq', 'inspect', '--json']) == 0; "
        "heavy = {'asyncio', 'cryptography', 'jmespath', 'mqtt5', 'paho', 'pint', 'pymysql', 'rich', 'ssl'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, timeout=50)


# -- inspect, show ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], 12),
        (["--reason", "json"], 3),
        (["--errno", "7"], 0),
        (["--device", "device-3"], 1),
        (["--topic", "t/junk"], 3),
        (["--topic", "+/3"], 1),
        (["--since", "2026-01-02T03:00:08Z"], 1),
        (["--until", "2026-01-02T03:00:01+00:00", "--state", "parked"], 2),
        (["--since", "1h"], 0),
        (["--state", "quarantined"], 0),
    ],
)
def test_inspect_counts_and_lists_what_fits_the_filters(full: Cli, words: list[str], found: int) -> None:
    data = full("inspect", *words, "--json").data
    assert (data["total"], data["due"], len(data["letters"])) == (found, found, found)


def test_on_a_narrow_terminal_ids_and_reasons_are_whole(full: Cli) -> None:
    letter = {**full("inspect", "--limit", "1", "--json").data["letters"][0], "id": 1_234_567, "message": "x" * 200}
    data = {**full("inspect", "--json").data, "letters": [letter]}
    out = io.StringIO()
    inspect(data, Console(file=out, width=80))
    assert [line.split()[0] for line in out.getvalue().splitlines() if "xx" in line] == ["1234567"]
    assert f" {letter['reason']} " in out.getvalue().partition("The latest")[2]
    assert letter["last_seen"] in out.getvalue()
    assert max(map(len, out.getvalue().splitlines())) <= 80


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["inspect", "--since", "yesterday"], "--since: 'yesterday' is no time"),
        (["inspect", "--topic", "a/#/b"], "--topic: # must be the last level"),
        (["inspect", "--state", "lost"], "--state: 'lost' is neither parked nor quarantined"),
        (["purge", "--older-than", "a week"], "--older-than: not a duration"),
        (["replay", "--max", "0"], "--max"),
        (["replay", "--max-attempts", "0"], "dead_letters.max_attempts"),
    ],
)
def test_a_flag_that_makes_no_sense_is_named(full: Cli, words: list[str], sentence: str) -> None:
    ended = full(*words)
    assert (ended.code, ended.out) == (2, "")
    assert sentence in ended.err


def test_an_export_to_standard_output_leaves_no_room_for_an_envelope(full: Cli) -> None:
    ended = full("export", "-", "--json")
    assert ended.code == 2
    assert "--json needs standard output for itself" in json.loads(ended.out)["errors"][0]["message"]


def test_a_time_is_rfc_3339_or_so_long_ago() -> None:
    assert parse_time_flag("--since", None) is None
    assert parse_time_flag("--since", "2026-01-02T03:00:00.25Z") == ARRIVAL
    ago = parse_time_flag("--since", "1h")
    assert ago is not None
    assert ago > parse_time_flag("--since", "2h")  # type: ignore[operator]
    with pytest.raises(UsageError):
        parse_time_flag("--since", "")


def test_show_has_a_line_for_each_cause_where_a_message_gives_several_rows(dlq: Cli) -> None:
    why = "rejected 13 of 50 rows, the others are stored: [0-9, 12] value is missing; [3] ts is no time; [49] for other reasons"
    park(dlq.box, [junk(0)._replace(message=why)])
    lines = dlq("show", "1").out.splitlines()
    begin = next(
        number for number, line in enumerate(lines) if line.endswith("rejected 13 of 50 rows, the others are stored:")
    )
    assert lines[begin + 1 : begin + 4] == [
        "    [0-9, 12] value is missing",
        "    [3] ts is no time",
        "    [49] for other reasons",
    ]
    assert dlq("show", "1", "--json").data["message"] == why


def test_show_has_headers_payload_and_every_refusal(full: Cli) -> None:
    assert full("replay").code == 5
    data = full("show", "10", "--json").data
    assert (data["payload"], data["payload_base64"], data["topic"], data["attempts"]) == (
        "junk 0", "anVuayAw", "t/junk", 1,
    )  # fmt: skip
    assert [(past["attempt"], past["message"][:8]) for past in data["history"]] == [(0, "not JSON"), (1, "the payl")]
    shown = full("show", "10").out
    assert "parked  json: not JSON" in shown
    assert "replay 1  json: the payload is not JSON" in shown
    assert shown.rstrip().endswith("junk 0")
    missing = full("show", "1")
    assert (missing.code, missing.out) == (5, "")
    assert "there is no letter 1" in missing.err


# -- replay ----------------------------------------------------------------------------------------------------------------


def test_replay_stores_what_it_can_and_reports_it(full: Cli) -> None:
    ended = full("replay", "--json")
    assert ended.code == 5
    data = ended.data
    assert data.pop("seconds") >= 0
    assert data == {
        "path": str(full.box),
        "dry_run": False,
        "due": 12,
        "stored": 9,
        "redelivered": 0,
        "refused": 3,
        "refused_by_reason": {"json": 3},
        "quarantined": 0,
        "left": 0,
        "stopped_by": None,
    }
    assert full("replay").out == "No letter is due.\n"
    again = full("replay", "--now")
    assert again.out.startswith("3 letters due: 0 stored, 3 refused again, in ")
    assert "3 letters were refused again (json 3)" in again.err


def test_a_row_that_is_there_already_counts_as_redelivered(full: Cli) -> None:
    letters = in_box(full.box)
    assert full("replay", "--reason", "signature").code == 0
    park(full.box, [good(number) for number in range(9)])
    data = full("replay", "--device", "device-1", "--json").data
    assert (data["stored"], data["redelivered"]) == (1, 1)
    assert len(letters) == 12


def test_a_dry_run_reports_what_can_be_decoded_and_changes_nothing(full: Cli, tmp_path: Path) -> None:
    before = in_box(full.box)
    ended = full("replay", "--dry-run", "--json")
    assert (ended.code, ended.data["stored"], ended.data["refused_by_reason"]) == (5, 9, {"json": 3})
    assert full("replay", "--dry-run", "--topic", "t/1").out.startswith("1 letters due: 1 can be decoded, 0 would be")
    assert in_box(full.box) == before


def test_replay_takes_the_oldest_first_and_at_most_max(full: Cli) -> None:
    data = full("replay", "--max", "4", "--json").data
    assert (data["due"], data["stored"]) == (4, 4)
    assert [letter.id for letter in in_box(full.box)] == [5, 6, 7, 8, 9, 10, 11, 12]


def test_given_up_after_the_last_attempt_and_released_by_hand(full: Cli) -> None:
    ended = full("replay", "--max-attempts", "1", "--json")
    assert ended.data["quarantined"] == 3
    assert "3 are quarantined now" in json.loads(ended.out)["errors"][0]["message"]
    assert full("replay", "--now", "--json").data["due"] == 0
    assert "quarantined" in full("inspect").out
    assert full("release", "--reason", "other", "--json").data["released"] == 0
    assert full("release", "--json").data["released"] == 3
    assert full("replay", "--dry-run", "--json").data["due"] == 3


def test_without_its_table_the_database_is_4_and_the_letters_are_as_they_were(full: Cli, tmp_path: Path) -> None:
    (tmp_path / "readings.sqlite").unlink()
    before = in_box(full.box)
    ended = full("replay", "--json")
    assert ended.code == 4
    assert "init-db" in json.loads(ended.out)["errors"][0]["hint"]
    assert in_box(full.box) == before


# -- purge -----------------------------------------------------------------------------------------------------------------


def test_purge_needs_a_filter(full: Cli) -> None:
    ended = full("purge", "--yes")
    assert ended.code == 2
    assert "--all means every letter" in ended.err
    assert left(full.box) == 12


def test_purge_deletes_what_is_meant_and_nothing_else(full: Cli) -> None:
    assert full("purge", "--reason", "json", "--older-than", "365000d", "--yes", "--json").data["purged"] == 0
    assert full("purge", "--reason", "json", "--older-than", "1d", "--yes", "--json").data["purged"] == 3
    assert left(full.box) == 9
    assert full("purge", "--until", "2026-01-02T03:00:01Z", "--older-than", "1d", "--yes", "--json").data["purged"] == 1
    assert full("purge", "--all", "--yes", "--json").data["purged"] == 8


def test_without_a_terminal_purge_needs_yes(full: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    ended = full("purge", "--all")
    assert ended.code == 2
    assert "add --yes" in ended.err
    assert left(full.box) == 12


@pytest.mark.parametrize(("answer", "code", "remaining"), [("n\n", 5, 12), ("y\n", 0, 0)])
def test_on_a_terminal_purge_asks(full: Cli, answer: str, code: int, remaining: int) -> None:
    leader, follower = pty.openpty()
    os.write(leader, answer.encode())
    done = subprocess.run(
        [sys.executable, "-m", "sensorsync", "dlq", "purge", "--all", "--json"],
        stdin=follower,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    os.close(leader)
    os.close(follower)
    assert "Delete 12 letters for good?" in done.stderr
    assert (done.returncode, json.loads(done.stdout)["exit_code"], left(full.box)) == (code, code, remaining)


# -- export, import --------------------------------------------------------------------------------------------------------


def test_an_export_is_private_restorable_and_never_overwritten_by_mistake(full: Cli, tmp_path: Path) -> None:
    before = in_box(full.box)
    file = tmp_path / "letters.jsonl"
    assert full("export", str(file), "--json").data == {"file": str(file), "exported": 12}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = full("export", str(file))
    assert (again.code, "add --force" in again.err) == (2, True)
    assert full("export", str(file), "--force", "--reason", "json", "--json").data["exported"] == 3
    assert full("export", str(file), "--force").code == 0
    assert [path.name for path in tmp_path.glob("*.part")] == []
    full("purge", "--all", "--yes")
    data = full("import", str(file), "--json").data
    assert (data["read"], data["new"], data["known"]) == (12, 12, 0)
    assert full("import", str(file), "--json").data["known"] == 12
    assert [letter._replace(id=0) for letter in in_box(full.box)] == [letter._replace(id=0) for letter in before]


def test_an_export_to_a_pipe_is_nothing_but_lines_and_import_reads_one(full: Cli) -> None:
    def run(*words: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
        line = [sys.executable, "-m", "sensorsync", "dlq", *words]
        return subprocess.run(line, capture_output=True, check=True, timeout=50, **more)

    exported = run("export", "-", "--topic", "t/junk").stdout
    assert [json.loads(line)["payload"] for line in exported.splitlines()] == ["anVuayAw", "anVuayAx", "anVuayAy"]
    full("purge", "--all", "--yes")
    assert json.loads(run("import", "-", "--json", input=exported + b"\n").stdout)["data"]["new"] == 3


def test_a_reader_that_goes_away_is_not_an_error(full: Cli) -> None:
    park(full.box, [good(number, note="x" * 1000) for number in range(10, 500)])
    shell = f"{sys.executable} -m sensorsync dlq export - | head -c 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True, timeout=50)
    assert (done.stdout, done.stderr) == ("{0\n", "")


def test_a_bad_line_is_named_and_what_came_before_it_can_be_imported_again(full: Cli, tmp_path: Path) -> None:
    file = tmp_path / "letters.jsonl"
    full("export", str(file))
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:3], "{}", *lines[3:]]))
    ended = full("import", str(file))
    assert ended.code == 2
    assert f"line 4 of {file} is no letter: letter: Field required" in ended.err
    assert full("import", str(tmp_path / "none.jsonl")).code == 2
    assert full("export", str(tmp_path / "none" / "x.jsonl")).code == 2


def test_letters_keep_their_attempts_and_state_over_export_and_import(full: Cli, tmp_path: Path) -> None:
    full("replay", "--max-attempts", "1")
    before = in_box(full.box, Criteria(state="quarantined"))
    full("export", str(tmp_path / "x.jsonl"))
    full("purge", "--all", "--yes")
    full("import", str(tmp_path / "x.jsonl"))
    after = in_box(full.box, Criteria(state="quarantined"))
    assert [letter._replace(id=0) for letter in after] == [letter._replace(id=0) for letter in before]
