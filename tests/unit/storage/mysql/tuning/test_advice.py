"""What is advised, as tables: the defaults of each version, and what is to change there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sensorsync.storage.mysql.tuning import UNTOUCHED_NOTE, Product, Profile, TuningInput, advise, my_cnf_snippet, notes
from sensorsync.storage.mysql.tuning import host_memory as machine
from sensorsync.storage.mysql.tuning.rules import RULES

MIB, GIB = 2**20, 2**30

_COMMON = {
    "innodb_flush_log_at_trx_commit": "1",
    "innodb_flush_log_at_timeout": "1",
    "innodb_doublewrite": "ON",
    "innodb_buffer_pool_size": str(128 * MIB),
    "innodb_log_buffer_size": str(16 * MIB),
    "innodb_io_capacity": "200",
    "innodb_io_capacity_max": "2000",
    "max_connections": "151",
    "skip_name_resolve": "OFF",
}
_MYSQL = _COMMON | {
    "version_comment": "MySQL Community Server - GPL",
    "log_bin": "ON",
    "sync_binlog": "1",
    "binlog_format": "ROW",
    "innodb_buffer_pool_chunk_size": str(128 * MIB),
    "innodb_buffer_pool_instances": "1",
    "innodb_dedicated_server": "OFF",
    "innodb_flush_method": "fsync",
    "innodb_flush_neighbors": "0",
    "innodb_adaptive_hash_index": "ON",
    "max_allowed_packet": str(64 * MIB),
}
_FILES = {"innodb_log_file_size": str(48 * MIB), "innodb_log_files_in_group": "2"}
_CAPACITY = {"innodb_redo_log_capacity": str(100 * MIB)}
_8_4 = {
    "innodb_log_buffer_size": str(64 * MIB),
    "innodb_io_capacity": "10000",
    "innodb_io_capacity_max": "20000",
    "innodb_adaptive_hash_index": "OFF",
    "innodb_flush_method": "O_DIRECT",
}
_MARIADB = _COMMON | {
    "version_comment": "mariadb.org binary distribution",
    "log_bin": "OFF",
    "sync_binlog": "0",
    "binlog_format": "MIXED",
    "innodb_log_file_size": str(96 * MIB),
    "innodb_flush_method": "O_DIRECT",
    "innodb_flush_neighbors": "1",
    "innodb_adaptive_hash_index": "OFF",
    "query_cache_type": "OFF",
    "max_allowed_packet": str(16 * MIB),
}
SERVERS = {
    "MySQL 8.0.28": _MYSQL | _FILES | {"version": "8.0.28"},
    "MySQL 8.0.36": _MYSQL | _FILES | _CAPACITY | {"version": "8.0.36"},
    "MySQL 8.4.6": _MYSQL | _FILES | _CAPACITY | _8_4 | {"version": "8.4.6"},
    "MySQL 9.7.4": _MYSQL | _CAPACITY | _8_4 | {"version": "9.7.4-2"},
    "MariaDB 10.6.21": _MARIADB | {"version": "10.6.21-MariaDB-log", "innodb_buffer_pool_chunk_size": str(128 * MIB)},
    "MariaDB 10.11.19": _MARIADB | {"version": "10.11.19-MariaDB-0+deb12u1", "innodb_buffer_pool_chunk_size": "0"},
    "MariaDB 11.4.5": _MARIADB | {"version": "11.4.5-MariaDB", "innodb_data_file_buffering": "OFF"},
}
RDS = SERVERS["MySQL 8.0.36"] | {
    "basedir": "/rdsdbbin/mysql-8.0.36.R2/",
    "datadir": "/rdsdbdata/db/",
    "version_comment": "Source distribution",
    "innodb_flush_method": "O_DIRECT",
}
AURORA = RDS | {"basedir": "/rdsdbbin/oscar-8.0.mysql_aurora.3.08.0.0.47931.0/", "aurora_version": "3.08.0"}
CLOUD_SQL = SERVERS["MySQL 8.0.36"] | {"version": "8.0.31-google", "version_comment": "(Google)"}
AZURE = SERVERS["MySQL 8.0.36"] | {"aad_auth_only": "OFF"}


def tuning_input(
    variables: dict[str, str], profile: Profile = Profile.DURABLE, memory: int | None = 16 * GIB
) -> TuningInput:
    return TuningInput(variables, Product.from_variables(variables), profile, memory, connections=20)


def changes(
    variables: dict[str, str], profile: Profile = Profile.DURABLE, memory: int | None = 16 * GIB
) -> dict[str, str]:
    """Variable -> advised value; `!` in front of what is not dynamic, `?` of what is for a person to decide."""
    found = [one for one in advise(tuning_input(variables, profile, memory)) if one.differs]
    return {one.variable: f"{'?' if one.by_hand else '' if one.dynamic else '!'}{one.advised}" for one in found}


_POOL = {"innodb_buffer_pool_size": str(8 * GIB), "skip_name_resolve": "?ON"}
_SLOW_DISK = {"innodb_io_capacity": "2000", "innodb_io_capacity_max": "4000"}
_8_0 = {
    **_POOL,
    **_SLOW_DISK,
    "innodb_log_buffer_size": str(64 * MIB),
    "innodb_flush_method": "!O_DIRECT",
    "innodb_adaptive_hash_index": "OFF",
}
_MARIA = {**_POOL, **_SLOW_DISK, "innodb_log_buffer_size": f"!{64 * MIB}", "innodb_flush_neighbors": "0"}


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        ("MySQL 8.0.28", _8_0 | {"innodb_log_file_size": f"!{2 * GIB}"}),  # of two files
        ("MySQL 8.0.36", _8_0 | {"innodb_redo_log_capacity": str(4 * GIB)}),
        ("MySQL 8.4.6", _POOL | {"innodb_redo_log_capacity": str(4 * GIB)}),
        ("MySQL 9.7.4", _POOL | {"innodb_redo_log_capacity": str(4 * GIB)}),
        ("MariaDB 10.6.21", _MARIA | {"innodb_log_file_size": f"!{4 * GIB}"}),
        ("MariaDB 10.11.19", _MARIA | {"innodb_log_file_size": str(4 * GIB)}),
        ("MariaDB 11.4.5", _MARIA | {"innodb_log_file_size": str(4 * GIB)}),
    ],
)
def test_the_durable_advice_for_the_defaults_of_each_version(server: str, expected: dict[str, str]) -> None:
    assert changes(SERVERS[server]) == expected
    assert Product.from_variables(SERVERS[server]).label == server


@pytest.mark.parametrize(
    ("profile", "flush", "sync"),
    [(Profile.DURABLE, "1", "1"), (Profile.BALANCED, "2", "10"), (Profile.THROUGHPUT, "0", "0")],
)
@pytest.mark.parametrize("server", SERVERS)
def test_a_profile_says_how_durable_a_commit_is_whatever_was_set(
    server: str, profile: Profile, flush: str, sync: str
) -> None:
    for set_flush in ("0", "1", "2"):
        for set_sync in ("0", "1", "1000"):
            variables = {
                **SERVERS[server],
                "log_bin": "ON",
                "innodb_flush_log_at_trx_commit": set_flush,
                "sync_binlog": set_sync,
            }
            advised = {one.variable: one for one in advise(tuning_input(variables, profile))}
            assert advised["innodb_flush_log_at_trx_commit"].advised == flush
            assert advised["sync_binlog"].advised == sync
            assert bool(advised["innodb_flush_log_at_trx_commit"].risk) == (profile is not Profile.DURABLE)
            assert bool(advised["sync_binlog"].risk) == (profile is not Profile.DURABLE)


def test_no_rule_is_about_the_checks_of_a_session_and_the_report_has_the_reason() -> None:
    everything = {**_MYSQL, **_MARIADB, **_FILES, **_CAPACITY, "unique_checks": "ON", "foreign_key_checks": "ON"}
    for profile in Profile:
        for version in ("9.7.4", "10.11.19-MariaDB"):
            named = {one.variable for one in advise(tuning_input(everything | {"version": version}, profile))}
            assert named
            assert not named & {"unique_checks", "foreign_key_checks"}
    assert "unique_checks and foreign_key_checks are never touched" in UNTOUCHED_NOTE


@pytest.mark.parametrize(
    ("variables", "service"),
    [
        (RDS, "Amazon RDS"),
        (AURORA, "Amazon Aurora"),
        (CLOUD_SQL, "Google Cloud SQL"),
        (AZURE, "Azure Database for MySQL"),
        (SERVERS["MySQL 9.7.4"] | {"version": "9.2.0-cloud"}, "MySQL HeatWave"),
    ],
)
def test_a_managed_server_is_named_and_its_buffer_pool_left_to_the_service(
    variables: dict[str, str], service: str
) -> None:
    seen = tuning_input(variables)
    assert seen.product.service is not None
    assert seen.product.service.name == service
    assert notes(seen)[0].startswith(f"This is {service}: set variables in ")
    assert not {"innodb_buffer_pool_size", "innodb_flush_method", "skip_name_resolve"} & changes(variables).keys()


def test_on_rds_the_redo_log_is_advised_and_on_aurora_nothing_of_its_own_storage() -> None:
    assert changes(RDS).keys() == {
        "innodb_log_buffer_size", "innodb_redo_log_capacity", "innodb_io_capacity_max", "innodb_io_capacity",
        "innodb_adaptive_hash_index",
    }  # fmt: skip
    assert changes(AURORA, Profile.THROUGHPUT) == {"innodb_adaptive_hash_index": "OFF"}
    assert changes(AURORA | {"innodb_flush_log_at_trx_commit": "0"})["innodb_flush_log_at_trx_commit"] == "1"


def test_what_is_not_innodb_gets_no_advice() -> None:
    tidb = _MYSQL | {"version": "8.0.11-TiDB-v8.5.1", "version_comment": "TiDB Server (Apache License 2.0)"}
    assert advise(tuning_input(tidb)) == []
    assert notes(tuning_input(tidb)) == [
        "TiDB speaks MySQL's protocol but does not store with InnoDB: there is nothing to advise."
    ]


def test_percona_server_is_mysql_under_its_own_name() -> None:
    product = Product.from_variables(
        _MYSQL | {"version": "8.0.36-28", "version_comment": "Percona Server (GPL), Release 28"}
    )
    assert (product.label, product.flavor, product.supports_persist) == ("Percona Server 8.0.36", "mysql", True)
    assert not Product.from_variables(SERVERS["MariaDB 11.4.5"]).supports_persist


@pytest.mark.parametrize(
    ("memory", "profile", "pool", "redo"),
    [
        (1 * GIB, Profile.DURABLE, 512 * MIB, 512 * MIB),
        (2 * GIB, Profile.DURABLE, 1 * GIB, 512 * MIB),
        (2 * GIB, Profile.THROUGHPUT, 1536 * MIB, 1 * GIB),
        (4 * GIB, Profile.THROUGHPUT, 2 * GIB, 1 * GIB),
        (24 * GIB, Profile.DURABLE, 12 * GIB, 6 * GIB),
        (512 * GIB, Profile.DURABLE, 256 * GIB, 8 * GIB),
    ],
)
def test_the_buffer_pool_is_half_of_the_memory_and_the_redo_log_half_of_that(
    memory: int, profile: Profile, pool: int, redo: int
) -> None:
    found = changes(SERVERS["MySQL 9.7.4"], profile, memory)
    assert (int(found["innodb_buffer_pool_size"]), int(found["innodb_redo_log_capacity"])) == (pool, redo)


def test_a_buffer_pool_is_a_multiple_of_the_chunks_of_all_instances_so_that_the_server_does_not_round_it() -> None:
    variables = SERVERS["MySQL 8.0.36"] | {"innodb_buffer_pool_instances": "8"}
    assert changes(variables, memory=5 * GIB)["innodb_buffer_pool_size"] == str(2 * GIB)
    bounded = SERVERS["MariaDB 10.11.19"] | {"innodb_buffer_pool_size_max": str(3 * GIB)}
    assert changes(bounded)["innodb_buffer_pool_size"] == str(3 * GIB)


def test_nothing_that_is_large_enough_is_made_smaller_but_a_buffer_pool_that_does_not_fit() -> None:
    large = SERVERS["MySQL 9.7.4"] | {
        "innodb_buffer_pool_size": str(12 * GIB),
        "innodb_redo_log_capacity": str(32 * GIB),
        "innodb_log_buffer_size": str(256 * MIB),
        "max_connections": "5000",
        "max_allowed_packet": str(GIB),
    }
    assert changes(large) == {"skip_name_resolve": "?ON"}
    assert changes(large, memory=13 * GIB)["innodb_buffer_pool_size"] == str(6 * GIB)


def test_a_remote_server_gets_no_size_of_a_pool_and_a_note_how_to_get_one() -> None:
    variables = SERVERS["MySQL 8.4.6"]
    assert changes(variables, Profile.THROUGHPUT, memory=None).keys() == {
        "innodb_flush_log_at_trx_commit", "sync_binlog", "innodb_log_buffer_size", "innodb_redo_log_capacity", "skip_name_resolve",
    }  # fmt: skip
    assert "--memory 16GiB" in notes(tuning_input(variables, memory=None))[0]


def test_a_dedicated_server_sizes_itself() -> None:
    variables = SERVERS["MySQL 8.4.6"] | {"innodb_dedicated_server": "ON"}
    assert changes(variables) == {"skip_name_resolve": "?ON"}
    assert any("sizes its buffer pool and redo log by itself" in note for note in notes(tuning_input(variables)))


@pytest.mark.parametrize(
    ("name", "value", "advised"),
    [
        ("innodb_doublewrite", "OFF", "!ON"),
        ("innodb_doublewrite", "DETECT_ONLY", "ON"),
        ("innodb_doublewrite", "DETECT_AND_RECOVER", None),
        ("innodb_flush_method", "nosync", "!O_DIRECT"),
        ("innodb_flush_method", "O_DIRECT_NO_FSYNC", None),
        ("binlog_format", "STATEMENT", "ROW"),
        ("max_allowed_packet", str(4 * MIB), str(64 * MIB)),
        ("max_connections", "60", "70"),
        ("skip_name_resolve", "ON", None),
        ("innodb_flush_log_at_timeout", "10", None),
    ],
)
def test_single_values_on_mysql(name: str, value: str, advised: str | None) -> None:
    assert changes(SERVERS["MySQL 8.4.6"] | {name: value}).get(name) == advised


def test_single_values_on_mariadb() -> None:
    variables = SERVERS["MariaDB 11.4.5"] | {
        "innodb_doublewrite": "OFF",
        "query_cache_type": "ON",
        "innodb_data_file_buffering": "ON",
        "innodb_flush_method": "fsync",  # only a word there: the other one rules
        "innodb_flush_log_at_trx_commit": "3",
    }
    found = changes(variables)
    assert (found["innodb_doublewrite"], found["query_cache_type"], found["innodb_data_file_buffering"]) == (
        "!ON",
        "OFF",
        "OFF",
    )
    assert "innodb_flush_method" not in found
    assert found["innodb_flush_log_at_trx_commit"] == "1"
    assert "sync_binlog" not in found  # no binary log, nothing to sync


def test_when_commits_do_not_sync_the_second_between_two_syncs_is_a_second() -> None:
    variables = SERVERS["MySQL 8.4.6"] | {"innodb_flush_log_at_timeout": "10"}
    assert changes(variables, Profile.BALANCED)["innodb_flush_log_at_timeout"] == "1"


def test_a_bound_is_raised_before_what_it_bounds() -> None:
    order = [one.variable for one in advise(tuning_input(SERVERS["MariaDB 10.11.19"]))]
    assert order.index("innodb_io_capacity_max") < order.index("innodb_io_capacity")


def test_a_cluster_and_a_replica_are_pointed_out() -> None:
    said = " ".join(notes(tuning_input(SERVERS["MariaDB 10.11.19"] | {"wsrep_on": "ON", "read_only": "ON"})))
    assert "one node of a cluster" in said
    assert "read-only, as replicas are" in said


def test_every_rule_gives_no_advice_about_a_variable_that_the_server_lacks() -> None:
    nothing = tuning_input({"version": "8.4.6"}, Profile.THROUGHPUT)
    assert [rule(nothing) for rule in RULES] == [None] * len(RULES)


def snippet_of(variables: dict[str, str], profile: Profile, already: frozenset[str] = frozenset()) -> str:
    seen = tuning_input(variables, profile)
    return my_cnf_snippet(advise(seen), seen.product, profile, notes(seen), already)


def test_the_snippet_has_what_needs_a_restart_and_what_a_restart_would_undo() -> None:
    text = snippet_of(SERVERS["MariaDB 10.11.19"], Profile.DURABLE)
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert lines[0] == "[mysqld]"
    assert f"innodb_log_buffer_size = {64 * MIB}" in lines
    assert lines.index(f"innodb_log_buffer_size = {64 * MIB}") < lines.index("innodb_io_capacity = 2000")
    assert "skip_name_resolve" not in " ".join(lines)
    assert "\n# skip_name_resolve = ON\n" in text


def test_the_snippet_describes_the_loss_of_a_less_durable_profile() -> None:
    text = snippet_of(SERVERS["MariaDB 10.11.19"], Profile.THROUGHPUT)
    assert "gone for good" in re.sub(r"\n# ", " ", text)
    assert "innodb_flush_log_at_trx_commit = 0" in text


def test_what_apply_has_set_is_in_the_snippet_though_nothing_differs_any_more() -> None:
    variables = SERVERS["MariaDB 10.11.19"] | {"innodb_io_capacity": "2000"}
    assert "\ninnodb_io_capacity = 2000" not in snippet_of(variables, Profile.DURABLE)
    assert "\ninnodb_io_capacity = 2000" in snippet_of(variables, Profile.DURABLE, frozenset({"innodb_io_capacity"}))


def test_memory_is_what_the_container_may_have(tmp_path: Path) -> None:
    (tmp_path / "limit").write_text("536870912\n")
    (tmp_path / "none").write_text("max\n")
    assert machine.total_memory((tmp_path / "limit", tmp_path / "missing")) == 512 * MIB
    assert machine.total_memory((tmp_path / "none",)) == machine.total_memory(()) > 512 * MIB


def test_a_server_of_another_name_runs_elsewhere() -> None:
    assert not machine.is_local_host("another-host.example.com")
    assert not machine.is_local_host(None)
