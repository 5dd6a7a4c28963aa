"""When the drill of `demo` strikes: never so soon after a fault, or so near to the end, that the embedded broker loses messages."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from sensorsync import drill
from sensorsync.config import DatabaseSettings
from sensorsync.private import Sandbox, Subscribers

TOTAL = 20_000


class Load:
    """A store into which rows come: `per_look` between two looks at it, `per_restart` while a killed subscriber starts again."""

    instances = ("one", "two")

    def __init__(self, per_look: int, per_restart: int) -> None:
        self.per_look = per_look
        self.per_restart = per_restart
        self.stored = 0
        self.kills: list[int] = []
        self.mended: list[int] = []

    def count_run(self, run: str) -> int:
        assert run == "some run"
        self.stored = min(TOTAL, self.stored + self.per_look)
        return self.stored

    def close(self) -> None:
        pass

    async def kill(self, _: str) -> None:
        self.kills.append(self.stored)

    async def start(self, _: str) -> None:
        self.stored = min(TOTAL, self.stored + self.per_restart)
        self.mended.append(self.stored)


async def provoke(load: Load, monkeypatch: pytest.MonkeyPatch) -> drill.Drill:
    monkeypatch.setattr(drill, "open_store", lambda _: load)
    made = drill.Drill(
        cast(Sandbox, None),
        cast(Subscribers, load),
        DatabaseSettings(),
        "some run",
        TOTAL,
        services={},
        tell=lambda _: None,
    )
    await made.provoke()
    return made


def test_faults_are_spread_over_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    load = Load(per_look=50, per_restart=150)
    made = asyncio.run(provoke(load, monkeypatch))
    assert load.kills == pytest.approx([1600, 5200, 8800, 12_400, 16_000], abs=load.per_look)
    assert [fault.target for fault in made.faults] == ["one", "two", "one", "two", "one"]
    assert made.left_out == []


@pytest.mark.parametrize("per_restart", [0, 200, 3000, 4000, 8000, 15_700])
def test_a_fault_waits_until_what_was_held_at_the_one_before_is_stored_and_spares_the_end(
    per_restart: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Load(per_look=50, per_restart=per_restart)
    asyncio.run(provoke(load, monkeypatch))
    assert load.kills
    assert max(load.kills) <= TOTAL - 2000
    assert all(then - mended >= drill.APART for mended, then in zip(load.mended, load.kills[1:], strict=False))


def test_a_load_that_is_stored_during_the_first_restart_leaves_out_the_other_faults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load = Load(per_look=50, per_restart=TOTAL)
    made = asyncio.run(provoke(load, monkeypatch))
    assert [fault.fault for fault in made.faults] == ["subscriber killed"]
