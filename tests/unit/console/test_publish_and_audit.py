"""What `stress-publish` and `audit` show to people."""

from __future__ import annotations

import io
import logging
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from sensorsync.commands.stress_publish import PublishProgress
from sensorsync.console import audit, stress_publish
from sensorsync.loadtest.audit_tally import AuditReport, MissingRange

WHOLE = AuditReport("r1", 100, 2, 100, 0, (), 0, (), 0, 0, None, 100)
COUNTS = ("messages", "sent", "acked", "no_subscriber", "failed", "unacknowledged", "retransmitted", "reconnects")
PUBLISHED: dict[str, Any] = {
    "run": "r1",
    "processes": 2,
    "clients": 16,
    "topic": "t/x",
    "broker": "b:1883",
    "signed": True,
    "encrypted": False,
    "duration": 1.5,
    "throughput": 66.7,
    "reason_codes": {"0x10": 7},
    "latency_ms": {"p50": 1.0, "p90": 2.0, "p99": 3.0, "p99.9": 4.0, "max": 5.25},
    **dict.fromkeys(COUNTS, 100),
}


def rendered(render: Any, data: dict[str, Any]) -> str:
    console = Console(file=io.StringIO(), width=200, highlight=False)
    render(data, console)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_the_outcome_of_an_open_loop_names_the_rate_that_was_asked_for_and_the_one_that_was_reached() -> None:
    load = {"rate": 2000.0, "achieved": 1999.6, "topics": 3, "devices": 7, "payload_size": 1000}
    text = rendered(stress_publish.render, {**PUBLISHED, **load})
    assert "1,999.6 of 2,000.0 messages/s sent" in text
    assert [line.split()[-1] for line in text.splitlines() if line.startswith(("topics", "devices", "payload"))] == [
        "3",
        "7",
        "1,000",
    ]
    assert "open loop" not in rendered(stress_publish.render, PUBLISHED)


def test_a_complete_run_is_reported_as_accounted_for() -> None:
    text = rendered(audit.render, {**WHOLE.as_data(), "redelivered": None, "deleted": 100})
    assert "Every message of run r1 is accounted for." in text
    assert "deleted" in text
    assert "redelivered" not in text


def test_missing_sequence_numbers_are_listed_by_client_and_the_list_is_bounded() -> None:
    ranges = tuple(MissingRange(client, 10 * n, 10 * n + 4) for client in range(30) for n in range(20))
    report = replace(
        WHOLE, messages_stored=0, missing=3000, missing_ranges=(MissingRange(0, 7, 7), *ranges[20:]), corrupt=1
    )
    text = rendered(audit.render, {**report.as_data(), "corrupt_examples": ["client 1, \x1b[31mseq 2"]})
    assert "client 0 misses 1: seq 7\n" in text
    assert "client 1 misses 100: seq 0-4, 10-14" in text
    assert ", ..." in text
    assert "and 10 more clients" in text
    assert "\x1b" not in text
    assert "Run r1 is incomplete." in text


def test_the_outcome_of_a_load_names_counts_codes_and_latencies() -> None:
    text = rendered(stress_publish.render, {**PUBLISHED, "audit": WHOLE.as_data()})
    for words in ("0x10: 7", "p99.9 4.0 ms", "max 5.2 ms", "67 messages/s", "no subscriber", "accounted for"):
        assert words in text


def test_the_outcome_of_a_recording_names_its_bad_lines() -> None:
    bad = [{"line": 3, "reason": "json", "message": "the payload is not JSON"}]
    data = {**PUBLISHED, "run": None, "file": "x.jsonl", "bad_lines": 1, "first_bad_lines": bad, "reason_codes": {}}
    data["latency_ms"] = dict.fromkeys(PUBLISHED["latency_ms"])
    text = rendered(stress_publish.render, data)
    assert "line 3: the payload is not JSON (json)" in text
    assert "latency" not in text


def test_without_a_terminal_a_line_is_logged_per_stage_and_then_every_few_seconds(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "sensorsync")
    now = 0.0
    monkeypatch.setattr("sensorsync.console.stress_publish.time.monotonic", lambda: now)
    where = PublishProgress("publishing", "r1", 100)
    with stress_publish.StressPublishView() as view:
        view.show(where)
        view.show(replace(where, sent=10, acked=9))
        now = 2.5
        view.show(replace(where, sent=20, acked=15, not_acked=3, rate=7.0))
        view.show(replace(where, stage="waiting for the rows", sent=20, acked=20, stored=4))
    assert [record.getMessage() for record in caplog.records] == [
        "publishing (run r1)",
        "publishing: 15 of 100 acknowledged, 7/s, 3 not delivered",
        "waiting for the rows: 20 of 100 acknowledged, 4 stored",
    ]
    record = caplog.records[1]
    assert (record.event, record.acked, record.not_acked) == ("progress", 15, 3)  # type: ignore[attr-defined]
