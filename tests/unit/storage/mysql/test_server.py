from __future__ import annotations

import pytest

from sensorsync.storage.mysql.server import ServerInfo, durability_warnings

SAFE = {"innodb_flush_log_at_trx_commit": "1", "log_bin": "ON", "sync_binlog": "1", "innodb_doublewrite": "ON"}


@pytest.mark.parametrize(
    ("text", "label", "alias"),
    [
        ("9.7.4", "MySQL 9.7.4", True),
        ("8.0.19-commercial", "MySQL 8.0.19", True),
        ("8.0.18", "MySQL 8.0.18", False),
        ("5.7.44-log", "MySQL 5.7.44", False),
        ("8.0.11-TiDB-v7.5.0", "MySQL 8.0.11", False),
        ("10.11.19-MariaDB-0+deb12u1", "MariaDB 10.11.19", False),
        ("11.8.2-MariaDB-log", "MariaDB 11.8.2", False),
        ("something", "MySQL 0.0.0", False),
    ],
)
def test_the_server_is_known_by_its_version(text: str, label: str, alias: bool) -> None:
    server = ServerInfo.from_version(text, 16 * 2**20)
    assert (server.label, server.supports_row_alias) == (label, alias)


def test_a_durable_server_needs_no_warning() -> None:
    assert durability_warnings(SAFE, "InnoDB") == []
    assert durability_warnings(SAFE, None) == []


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("innodb_flush_log_at_trx_commit", "0", "when the server process dies"),
        ("innodb_flush_log_at_trx_commit", "2", "when the server's host crashes"),
        ("sync_binlog", "0", "and on replicas"),
        ("innodb_doublewrite", "OFF", "half-written page"),
    ],
)
def test_what_can_be_lost_is_described_in_words(name: str, value: str, words: str) -> None:
    (warning,) = durability_warnings({**SAFE, name: value}, "InnoDB")
    assert name in warning
    assert words in warning


def test_sync_binlog_matters_only_with_a_binary_log() -> None:
    assert durability_warnings({**SAFE, "log_bin": "OFF", "sync_binlog": "0"}, "InnoDB") == []


def test_a_table_of_another_engine_is_warned_of() -> None:
    (warning,) = durability_warnings(SAFE, "MyISAM")
    assert "MyISAM" in warning
