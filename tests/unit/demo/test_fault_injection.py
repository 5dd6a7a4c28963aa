"""When the drill of `demo` strikes: never so soon after a fault, or so near to the end, that the embedded broker loses messages."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest

from sensorsync.config import DatabaseSettings
from sensorsync.demo import Sandbox, Service, Subscribers
from sensorsync.demo import fault_injection as drill
from sensorsync.pipeline.contract import SinkUnavailable

TOTAL = 20_000
SERVICES = {"broker": cast(Service, SimpleNamespace(name="broker"))}


class Load:
    """A store into which rows come: `per_look` between two looks at it, `per_restart` while something is mended.

    After a fault it does not answer `silent` times. The publishers are done when `published` messages are stored.
    """

    instances = ("one", "two")

    def __init__(self, per_look: int, per_restart: int, *, silent: int = 0, published: int = 0) -> None:
        self.per_look = per_look
        self.per_restart = per_restart
        self.silent = silent
        self.published = published
        self.stored = 0
        self.kills: list[int] = []
        self.restarts: list[int] = []
        self.mended: list[int] = []
        self._unanswered = 0

    def count_run_rows(self, run: str) -> int:
        assert run == "some run"
        self.stored = min(TOTAL, self.stored + self.per_look)
        if self._unanswered:
            self._unanswered -= 1
            raise SinkUnavailable("busy")
        return self.stored

    def close(self) -> None:
        pass

    async def kill(self, _: str) -> None:
        self.kills.append(self.stored)

    async def start(self, _: str) -> None:
        self.stored = min(TOTAL, self.stored + self.per_restart)
        self.mended.append(self.stored)
        self._unanswered = self.silent

    async def restart_service(self, _: Service) -> None:
        self.restarts.append(self.stored)
        await self.start("")

    def provoke(self, monkeypatch: pytest.MonkeyPatch, *, mosquitto: bool = False) -> drill.FaultInjection:
        monkeypatch.setattr(drill, "open_store", lambda _: self)
        monkeypatch.setattr(drill, "_POLL", 0.0)
        made = drill.FaultInjection(
            cast(Sandbox, self),
            cast(Subscribers, self),
            DatabaseSettings(),
            "some run",
            TOTAL,
            services=SERVICES if mosquitto else {},
            all_published=lambda: self.stored >= self.published,
            embedded_broker=not mosquitto,
            on_fault=lambda _: None,
        )
        asyncio.run(made.run())
        return made


def test_faults_are_spread_over_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    load = Load(per_look=50, per_restart=150)
    made = load.provoke(monkeypatch)
    assert load.kills == pytest.approx([1600, 5200, 8800, 12_400, 16_000], abs=load.per_look)
    assert [fault.target for fault in made.faults] == ["one", "two", "one", "two", "one"]
    assert made.skipped == []


@pytest.mark.parametrize("silent", [0, 3])
@pytest.mark.parametrize("per_restart", [0, 200, 3000, 4000, 8000, 15_700])
def test_a_fault_waits_until_what_was_held_at_the_one_before_is_stored_and_spares_the_end(
    per_restart: int, silent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Load(per_look=50, per_restart=per_restart, silent=silent)
    load.provoke(monkeypatch)
    assert load.kills
    assert max(load.kills) <= TOTAL - 2000
    assert all(
        then - mended >= drill.MIN_ROWS_BETWEEN_FAULTS
        for mended, then in zip(load.mended, load.kills[1:], strict=False)
    )


def test_a_load_that_is_stored_during_the_first_restart_leaves_out_the_other_faults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load = Load(per_look=50, per_restart=TOTAL)
    made = load.provoke(monkeypatch)
    assert [fault.fault for fault in made.faults] == ["subscriber killed"]


def test_the_broker_is_not_restarted_before_everything_is_published_and_then_at_the_very_end_if_need_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load = Load(per_look=50, per_restart=0, published=TOTAL - 100)
    made = load.provoke(monkeypatch, mosquitto=True)
    assert load.restarts == [TOTAL - 100]
    assert made.skipped == []
