"""What `tune-db` shows, and what it refuses before it connects."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sensorsync.cli import main
from sensorsync.console.tune_db import format_variable, render

LINE: dict[str, Any] = {
    "variable": "sync_binlog",
    "now": "0",
    "advised": "1",
    "why": "it is safe",
    "risk": "it is slow",
    "dynamic": True,
    "by_hand": False,
    "changes": True,
    "status": None,
    "set_to": None,
    "message": "",
}
REPORT: dict[str, Any] = {
    "database": "MySQL 8.0.36 at db:3306",
    "service": "Amazon RDS",
    "profile": "durable",
    "loss": "Nothing is lost.",
    "memory_bytes": None,
    "applied": False,
    "advice": [LINE],
    "measured": None,
    "notes": [],
    "untouched": "Two are never touched.",
    "undo_file": None,
}


def shown(data: dict[str, Any], width: int = 80) -> str:
    out = io.StringIO()
    render(data, Console(file=out, width=width, force_terminal=True, color_system=None, legacy_windows=False))
    return out.getvalue()


def test_the_report_has_a_line_for_the_values_and_one_for_each_reason() -> None:
    assert shown(REPORT) == (
        "MySQL 8.0.36 at db:3306 (Amazon RDS)\n"
        "Profile durable. Nothing is lost.\n"
        "\n"
        "Variable     Now  Advised  Dynamic\n"
        "sync_binlog  0    1        yes\n"
        "    Why: it is safe.\n"
        "    Risk: it is slow.\n"
        "\n"
        "Two are never touched.\n"
    )


def test_a_refusal_stands_with_its_variable_and_what_is_well_comes_last() -> None:
    failed = LINE | {"status": "failed", "message": "this account may not set it (1227)"}
    fine = LINE | {"variable": "innodb_log_buffer_size", "now": "67108864", "advised": "67108864", "changes": False}
    text = shown(REPORT | {"applied": True, "advice": [failed, fine]})
    assert "Variable     Before  Advised  Dynamic\n" in text
    assert "sync_binlog  0       1        yes  FAILED\n    this account may not set it (1227).\n" in text
    assert "As advised: innodb_log_buffer_size = 64 MiB.\n" in text
    assert "All is as advised: innodb_log_buffer_size" in shown(REPORT | {"advice": [fine]})


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_line_of_prose_is_wider_than_the_terminal(width: int) -> None:
    data = REPORT | {"advice": [LINE | {"why": "because " * 30}], "notes": ["a note " * 30]}
    assert max(map(len, shown(data, width).splitlines())) <= width


def test_no_value_of_the_server_drives_the_terminal() -> None:
    text = shown(REPORT | {"advice": [LINE | {"now": "\x1b[31mred"}]})
    assert "\x1b" not in text
    assert r"\x1b[31mred" in text


def test_what_was_reverted_is_listed_and_what_was_not_has_its_reason() -> None:
    left = {
        "variable": "max_connections",
        "before": "7",
        "now": "7",
        "status": "failed",
        "message": "somebody has set it",
    }
    back = {"variable": "sync_binlog", "before": "0", "now": "1", "status": "restored", "message": ""}
    text = shown(REPORT | {"reverted": [back, left], "undo_file": "/state/undo.json"})
    assert "  sync_binlog                      0 -> 1  restored\n" in text
    assert "  max_connections                  7  FAILED\n    somebody has set it\n" in text
    assert "What was not restored stays in /state/undo.json\n" in text


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("innodb_buffer_pool_size", "134217728", "128 MiB"),
        ("innodb_redo_log_capacity", "5905580032", "5.5 GiB"),
        ("innodb_log_buffer_size", "1000", "1000"),
        ("innodb_io_capacity", "2048", "2048"),
        ("innodb_flush_method", "", "(empty)"),
    ],
)
def test_sizes_have_their_unit(name: str, text: str, expected: str) -> None:
    assert format_variable(name, text) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--apply", "--revert"], "exclude each other"),
        (["--apply", "--config-file"], "exclude each other"),
        (["--revert", "--measure"], "--measure goes with --apply"),
        (["--persist"], "--persist goes with --apply"),
        (["--profile", "throughput", "--apply"], "gone for good"),
        (["--profile", "reckless"], "reckless"),
        (["--seconds", "soon"], "--seconds"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_connected(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["tune-db", *words]) == 2
    assert message in capsys.readouterr().err


def test_sqlite_has_nothing_to_tune(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SENSORSYNC_DATABASE__DRIVER", "sqlite")
    monkeypatch.setenv("SENSORSYNC_DATABASE__PATH", str(tmp_path / "readings.sqlite"))
    assert main(["tune-db"]) == 2
    assert "SQLite has no server to tune" in capsys.readouterr().err
