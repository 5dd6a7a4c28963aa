"""`demo --drill`: what it breaks under load, and what it says about it."""

from __future__ import annotations

import asyncio
import json
from itertools import cycle
from pathlib import Path

import pytest

from sensorsync.commands.demo import DemoOptions, DemoProgress, run
from sensorsync.demo.service import find_program
from tests.conftest import need
from tests.integration.test_demo import demo, processes_with
from tests.services import DatabaseServer, Mosquitto, eventually

pytestmark = pytest.mark.timeout(540)


def test_subscribers_killed_in_turn_on_the_embedded_broker_lose_nothing(tmp_path: Path) -> None:
    pytest.importorskip("iotcore")
    envelope, log = demo(tmp_path, "--drill", "--messages", "40000")

    assert envelope["ok"], f"{json.dumps(envelope)}\n{log}"  # a text is shown whole
    data = envelope["data"]
    assert (data["published"], data["acked"], data["stored"], data["missing"]) == (40000, 40000, 40000, 0)
    assert len(data["faults"]) >= 2
    assert {fault["fault"] for fault in data["faults"]} == {"subscriber killed"}
    in_turn = zip(data["faults"], cycle(["one", "two"]))
    assert all(fault["target"] == instance for fault, instance in in_turn)
    for fault in data["faults"]:
        assert 0 < fault["stored"] < 40000
        assert fault["at"] >= 0 < fault["seconds"]
    assert "subscriber killed (one)" in log
    eventually(lambda: not processes_with(str(tmp_path)), "no process is left")


def test_database_and_broker_restarted_and_the_subscriber_killed_lose_nothing(tmp_path: Path) -> None:
    need(Mosquitto)
    if not find_program("mariadbd", "mysqld"):
        need(DatabaseServer)
    envelope, _ = demo(tmp_path, "--drill", "--messages", "30000", "--mysql", "--broker", "mosquitto")

    assert envelope["ok"], envelope
    data = envelope["data"]
    assert (data["acked"], data["stored"], data["missing"]) == (30000, 30000, 0)
    kinds = [fault["fault"] for fault in data["faults"]]
    assert set(kinds) == {"subscriber killed", "database restarted", "broker restarted"}
    assert kinds.count("subscriber killed") >= 2


def test_a_load_that_ends_before_the_faults_is_incomplete(tmp_path: Path) -> None:
    pytest.importorskip("iotcore")
    envelope, _ = demo(tmp_path, "--drill", "--messages", "1")
    assert envelope["exit_code"] == 5
    assert (
        "the load was over before the drill had all its faults: subscriber killed" in envelope["errors"][0]["message"]
    )
    assert (envelope["data"]["stored"], envelope["data"]["faults"]) == (1, [])


def test_the_last_progress_of_a_drill_equals_its_result() -> None:
    pytest.importorskip("iotcore")
    changes: list[DemoProgress] = []
    result = asyncio.run(run(DemoOptions(messages=3000, drill=True), changes.append))
    assert (result.data["acked"], result.data["stored"]) == (3000, 3000)
    assert (changes[-1].stage, changes[-1].acked, changes[-1].stored) == ("done", 3000, 3000)


def test_a_drill_makes_its_own_load(tmp_path: Path) -> None:
    envelope, _ = demo(tmp_path, "--drill", "--file", "some.jsonl")
    assert envelope["exit_code"] == 2
    assert "--file" in envelope["errors"][0]["hint"]
