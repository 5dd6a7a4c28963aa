"""`tune-db` on a real server: everything that it sets it also puts back, and every refusal is one line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pymysql
import pytest

from sensorsync.cli import main
from sensorsync.commands import tune_db
from sensorsync.commands.result import CommandResult
from sensorsync.commands.tune_db import TuneOptions
from sensorsync.config import Settings
from sensorsync.errors import AlreadyRunningError, ConfigurationError, IncompleteError, UsageError
from sensorsync.storage.mysql.tuning import Advice, Product, Profile, TunedServer, TuningInput, advise
from sensorsync.storage.mysql.tuning.privileges import SCRATCH_TABLE
from tests.conftest import DatabaseServer, need
from tests.services.database import is_oracle_mysql

pytestmark = pytest.mark.database

MEMORY = 2**30
"""Bytes that the server is sized for: small, so that resizing is quick."""
SHORT = {"memory": MEMORY, "seconds": 0.2}
THROUGHPUT = {**SHORT, "profile": "throughput", "accept_data_loss": True}

REDO_LOG = "innodb_redo_log_capacity" if is_oracle_mysql() else "innodb_log_file_size"
OPTIONS = ["--log-bin=log", "--sync-binlog=1", f"--{REDO_LOG}=1G"]
"""The redo log is large enough for all tests but one: MariaDB takes seconds to make it anew."""
VOLATILE = {"gtid_binlog_pos", "gtid_binlog_state", "gtid_current_pos", "gtid_executed"}
"""How far the binary log has come, on MariaDB and (the last) on MySQL: each write moves it."""


@pytest.fixture(scope="module")
def server() -> Iterator[DatabaseServer]:
    """A server of these tests alone, with a binary log: they set what is global."""
    need(DatabaseServer)
    with DatabaseServer(options=OPTIONS) as server:
        server.prepare()
        yield server


@pytest.fixture
def tuner(server: DatabaseServer, tmp_path: Path) -> Iterator[Settings]:
    """Settings of the account that has no more than tune-db needs. Afterwards the server must be as it was before."""
    before = everything(server)
    yield Settings(database=server.settings("tuner"), state_dir=tmp_path / "state")
    assert differences(before, everything(server)) == {}


def query(server: DatabaseServer, statement: str) -> list[tuple[Any, ...]]:
    with closing(server.connect(database=server.name)) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


def everything(server: DatabaseServer) -> dict[str, Any]:
    """All global variables but the volatile, all that is persisted, and all tables."""
    found = dict(query(server, "SHOW GLOBAL VARIABLES"))
    found = {name: value for name, value in found.items() if name not in VOLATILE}
    if is_oracle_mysql():
        found["(persisted)"] = query(server, "SELECT * FROM performance_schema.persisted_variables ORDER BY 1")
    found["(tables)"] = query(server, "SHOW TABLES")
    return found


def differences(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    names = before.keys() | after.keys()
    return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}


def tune(settings: Settings, **options: Any) -> CommandResult:
    return tune_db.run(settings, TuneOptions(**{**SHORT, **options}))


def undo_files(settings: Settings) -> list[Path]:
    return list((settings.state_dir / "tune-db").glob("*"))


def test_what_is_applied_and_measured_is_reverted_to_the_last_variable(server: DatabaseServer, tuner: Settings) -> None:
    before = everything(server)
    # A run that was killed has left its table behind.
    query(server, f"CREATE TABLE {SCRATCH_TABLE} (i INT)")
    done = tune(tuner, **{**THROUGHPUT, "memory": 8 * MEMORY}, apply=True, measure=True)
    assert done.problems == ()
    changed = differences(before, everything(server))
    advised = {one["variable"]: one for one in done.data["advice"] if one["status"] == "set"}
    assert changed == {name: (one["now"], one["advised"]) for name, one in advised.items()}
    assert {"innodb_flush_log_at_trx_commit", "sync_binlog", "innodb_buffer_pool_size", REDO_LOG} <= changed.keys()
    for measured in done.data["measured"].values():
        assert 0 < measured["commit_p50"] <= measured["commit_p99"]
        assert measured["rows_per_second"] > 0
    (undo,) = undo_files(tuner)
    assert done.data["undo_file"] == str(undo)
    assert undo.stat().st_mode & 0o777 == 0o600

    reverted = tune(tuner, revert=True)
    assert reverted.problems == ()
    assert {one["variable"]: one["status"] for one in reverted.data["reverted"]} == dict.fromkeys(changed, "restored")
    assert differences(before, everything(server)) == {}
    assert undo_files(tuner) == []


def test_revert_leads_back_to_the_first_state_however_often_something_was_applied(
    server: DatabaseServer, tuner: Settings
) -> None:
    before = everything(server)
    assert tune(tuner, apply=True).problems == ()
    durable = everything(server)
    assert tune(tuner, **{**THROUGHPUT, "profile": "balanced"}, apply=True).problems == ()
    assert {"innodb_flush_log_at_trx_commit", "sync_binlog"} == differences(durable, everything(server)).keys()
    assert tune(tuner, apply=True).problems == ()
    assert differences(durable, everything(server)) == {}
    assert tune(tuner, revert=True).problems == ()
    assert differences(before, everything(server)) == {}


def test_without_privileges_there_is_a_report_and_each_refusal_is_one_line(
    server: DatabaseServer, tuner: Settings
) -> None:
    nobody = tuner.model_copy(update={"database": server.settings("subscriber")})
    assert tune(nobody).problems == ()
    done = tune(nobody, **THROUGHPUT, apply=True, measure=True)
    failed = [one["variable"] for one in done.data["advice"] if one["status"] == "failed"]
    refused = [problem for problem in done.problems if problem.code == "not_set"]
    assert len(failed) >= 4
    assert [problem.message.partition(":")[0] for problem in refused] == failed
    assert all("may not set it" in problem.message and "(1227)" in problem.message for problem in refused)
    assert [problem.code for problem in done.problems if problem not in refused] == ["not_measured"]
    assert (done.exit_code, done.data["measured"], undo_files(nobody)) == (5, None, [])


def test_what_somebody_else_has_set_since_is_left_alone(server: DatabaseServer, tuner: Settings) -> None:
    assert tune(tuner, **THROUGHPUT, apply=True).problems == ()
    query(server, "SET GLOBAL sync_binlog = 77")
    done = tune(tuner, revert=True)
    (problem,) = done.problems
    assert problem.message.startswith("sync_binlog: is 77 now, not 0 as tune-db left it")
    assert done.exit_code == 5
    (undo,) = undo_files(tuner)
    assert json.loads(undo.read_bytes())["variables"].keys() == {"sync_binlog"}
    query(server, "SET GLOBAL sync_binlog = 0")
    assert tune(tuner, revert=True).problems == ()


def test_after_a_restart_there_is_nothing_to_take_back(server: DatabaseServer, tuner: Settings) -> None:
    assert tune(tuner, **THROUGHPUT, apply=True).problems == ()
    (undo,) = undo_files(tuner)
    document = json.loads(undo.read_bytes())
    undo.write_text(json.dumps({**document, "started": document["started"] - 100}))
    before = everything(server)
    with pytest.raises(IncompleteError, match="started anew"):
        tune(tuner, revert=True)
    assert differences(before, everything(server)) == {}
    # What the next one sets can be taken back, and nothing from before the restart.
    assert tune(tuner, apply=True).problems == ()
    assert json.loads(undo.read_bytes())["variables"].keys() == {"innodb_flush_log_at_trx_commit", "sync_binlog"}
    undo.write_text(json.dumps(document))
    query(server, "SET GLOBAL innodb_flush_log_at_trx_commit = 0")
    query(server, "SET GLOBAL sync_binlog = 0")
    assert tune(tuner, revert=True).problems == ()


def test_what_was_set_on_another_server_is_not_reverted_here(tuner: Settings) -> None:
    other = tuner.state_dir / "tune-db" / "db2-3306-0123456789ab.json"
    other.parent.mkdir(parents=True)
    other.write_text("{}")
    with pytest.raises(IncompleteError, match="has set nothing on this server") as caught:
        tune(tuner, revert=True)
    assert str(other) in (caught.value.hint or "")


def test_nothing_is_set_when_the_undo_file_cannot_be_written(server: DatabaseServer, tuner: Settings) -> None:
    tuner.state_dir.write_text("no folder")
    before = everything(server)
    with pytest.raises(ConfigurationError, match="cannot write the undo file"):
        tune(tuner, **THROUGHPUT, apply=True)
    assert differences(before, everything(server)) == {}


def test_what_was_set_before_a_crash_can_be_taken_back(
    server: DatabaseServer, tuner: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = everything(server)
    set_one = TunedServer.set_variable

    def crash_after_one(self: TunedServer, name: str, value: str, *, persist: bool = False) -> str:
        set_one(self, name, value, persist=persist)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(TunedServer, "set_variable", crash_after_one)
        with pytest.raises(KeyboardInterrupt):
            tune(tuner, **THROUGHPUT, apply=True)
    assert differences(before, everything(server)) == {"innodb_flush_log_at_trx_commit": ("1", "0")}
    done = tune(tuner, revert=True)
    assert done.problems == ()
    assert [one["variable"] for one in done.data["reverted"] if one["status"] == "restored"] == [
        "innodb_flush_log_at_trx_commit"
    ]
    assert undo_files(tuner) == []


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ZeroDivisionError])
def test_the_scratch_table_goes_whatever_happens(
    tuner: Settings, monkeypatch: pytest.MonkeyPatch, failure: type[BaseException]
) -> None:
    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr("sensorsync.storage.mysql.tuning.measurement._measure_batches", fail)
    with pytest.raises(failure):
        tune(tuner, measure=True)  # that no table is left is looked at by the fixture


def test_one_tune_db_at_a_time_changes_a_server(server: DatabaseServer, tuner: Settings) -> None:
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT GET_LOCK('sensorsync.tune-db', 0)")
        with pytest.raises(AlreadyRunningError, match="another tune-db is at work"):
            tune(tuner, apply=True)
        assert tune(tuner).problems == ()  # the report does not wait


@pytest.mark.skipif(not is_oracle_mysql(), reason="MariaDB has no SET PERSIST")
def test_what_is_persisted_is_reverted_to_what_was_persisted_before(server: DatabaseServer, tuner: Settings) -> None:
    query(server, "SET PERSIST sync_binlog = 5")
    query(server, "SET GLOBAL sync_binlog = 3")
    before = everything(server)
    assert tune(tuner, apply=True).problems == ()
    assert before["(persisted)"] == everything(server)["(persisted)"]
    done = tune(tuner, apply=True, persist=True)
    assert done.problems == ()
    persisted = dict(everything(server)["(persisted)"])
    assert persisted["sync_binlog"] == "1"
    assert persisted.keys() == {one["variable"] for one in done.data["advice"] if one["status"] == "persisted"}
    assert tune(tuner, revert=True).problems == ()
    assert differences(before, everything(server)) == {}
    query(server, "RESET PERSIST sync_binlog")
    query(server, "SET GLOBAL sync_binlog = 1")


@pytest.mark.skipif(is_oracle_mysql(), reason="MySQL has SET PERSIST")
def test_mariadb_cannot_persist_and_the_hint_names_another_way(tuner: Settings) -> None:
    done = tune(tuner, apply=True, persist=True)
    (problem,) = done.problems
    assert (problem.code, done.exit_code) == ("no_persist", 5)
    assert "has no SET PERSIST" in problem.message
    assert "--config-file" in (problem.hint or "")
    snippet = tune(tuner, config_file=True).data["config_file"]
    assert "\ninnodb_io_capacity = 2000\n" in snippet
    assert tune(tuner, revert=True).problems == ()


def test_every_variable_is_as_dynamic_as_the_advice_says(server: DatabaseServer, tuner: Settings) -> None:
    variables = {str(name).lower(): str(value) for name, value in query(server, "SHOW GLOBAL VARIABLES")}
    # Values at which each rule has something to say.
    seen = variables | {"binlog_format": "STATEMENT", "innodb_flush_log_at_timeout": "2"}
    found: dict[str, Advice] = {}
    for profile in Profile:
        for one in advise(TuningInput(seen, Product.from_variables(variables), profile, MEMORY, 20)):
            found[one.variable] = one
    assert len(found) >= 12
    with closing(server.connect(user="sensorsync_tuner", password=server.password)) as connection:
        for name, one in found.items():
            value = variables[name]
            with connection.cursor() as cursor:
                try:
                    cursor.execute(f"SET GLOBAL {name} = %s", (int(value) if value.isdecimal() else value,))
                    dynamic = True
                except pymysql.Error:
                    dynamic = False
            # innodb_doublewrite is dynamic on MySQL between ON and DETECT_ONLY, not from OFF, which is where advice is needed.
            assert dynamic is one.dynamic or name == "innodb_doublewrite"


def test_a_server_with_the_printed_my_cnf_snippet_starts_and_is_as_advised(tuner: Settings, tmp_path: Path) -> None:
    fragment = tune(tuner, **THROUGHPUT, config_file=True).data["config_file"]
    options = [line.replace(" ", "") for line in fragment.splitlines() if " = " in line and not line.startswith("#")]
    assert "innodb_flush_log_at_trx_commit=0" in options
    with DatabaseServer(options=[*OPTIONS, *(f"--{option}" for option in options)]) as fresh:
        settings = Settings(database=fresh.settings("root", user="root", password=""), state_dir=tmp_path)
        done = tune(settings, **THROUGHPUT)
    assert [one["variable"] for one in done.data["advice"] if one["changes"]] == ["skip_name_resolve"]


@pytest.mark.parametrize("profile", ["balanced", "throughput"])
@pytest.mark.parametrize("what", ["apply", "config_file"])
def test_less_durability_has_to_be_accepted_in_so_many_words(tuner: Settings, profile: str, what: str) -> None:
    with pytest.raises(UsageError, match=r"gives up durability.*gone for good") as caught:
        tune(tuner, profile=profile, **{what: True})
    assert "--accept-data-loss" in (caught.value.hint or "")
    assert "gone for good" in tune(tuner, profile=profile).data["loss"]


def test_as_a_command_it_reads_like_this(
    server: DatabaseServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in server.environment("tuner").items():
        monkeypatch.setenv(name, value)
    loss = ["--profile", "throughput", "--accept-data-loss", "--memory", "1GiB"]
    assert main(["tune-db", *loss, "--apply", "--measure", "--seconds", "100ms"]) == 0
    shown = capsys.readouterr().out
    assert "Profile throughput, sized to 1 GiB of memory." in shown
    lines = {line.split()[0]: line.split() for line in shown.splitlines() if line.endswith("  set")}
    assert lines["innodb_flush_log_at_trx_commit"] == ["innodb_flush_log_at_trx_commit", "1", "0", "yes", "set"]
    assert lines["innodb_buffer_pool_size"][1:7] == ["128", "MiB", "768", "MiB", "yes", "set"]
    assert "    Risk: a crash of the server process or of its host loses the rows of about the last second." in shown
    assert "commit of one row, p99" in shown
    assert "unique_checks and foreign_key_checks are never touched" in shown
    assert main(["tune-db", "--revert"]) == 0
    assert "innodb_flush_log_at_trx_commit   0 -> 1  restored" in capsys.readouterr().out
    assert main(["tune-db", "--revert", "--json"]) == 5
    assert json.loads(capsys.readouterr().out)["errors"][0]["code"] == "incomplete"
    assert main(["tune-db", "--memory", "much"]) == 2
    assert "--memory:" in capsys.readouterr().err
