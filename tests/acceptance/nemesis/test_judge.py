"""The judge itself is sound: it finds each breach, and nothing where there is none."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from typing import Any

import pytest

from tests.acceptance.nemesis.broker import Broker, BrokerFaults
from tests.acceptance.nemesis.evidence import Letter
from tests.acceptance.nemesis.judge import Judge
from tests.acceptance.nemesis.messages import Fate, Message, Stream
from tests.acceptance.nemesis.report import check_letters, check_rows
from tests.acceptance.nemesis.scripted_client import WINDOW, ScriptedClient, Store, Wrong
from tests.services import free_port

ROUGH = BrokerFaults(
    tear=0.05,
    dribble=0.2,
    resend=0.3,
    forget_acks=0.05,
    refuse=0.1,
    late_connack=0.05,
    late_suback=0.05,
    lose_session=0.3,
    server_disconnect=0.01,
)
"""Far more often than in a run."""


def _messages(count: int) -> list[Message]:
    stream = Stream(random.Random(1), poison=0.2, copies=0.0, big=0.02)
    return [stream.next() for _ in range(count)]


async def _judged(wrong: Wrong, level: int, faults: BrokerFaults, ids: str = "few", seconds: float = 20.0) -> Judge:
    """Let a scripted client take 600 messages, or be caught."""
    messages, store = _messages(600), Store()
    judge = Judge(store, time.monotonic)
    async with Broker(free_port(), judge, random.Random(2), window=WINDOW, ids=ids, faults=faults) as broker:
        client = ScriptedClient(broker.port, level, store, messages, wrong)
        running = asyncio.create_task(client.run())
        copies = [*messages, *messages[:50]]
        try:
            async with asyncio.timeout(seconds):
                for number, message in enumerate(copies):
                    broker.publish(message)
                    if number % 10 == 0:
                        await asyncio.sleep(0.005)
                    if number % 100 == 50 and faults is ROUGH:
                        broker.drop_one(lose_session=number % 200 == 50)
                    if number % 200 == 150 and wrong is Wrong.ACKS_AFTER_RECONNECT:
                        broker.drop_one(lose_session=False)
                    if judge.counts and wrong is not Wrong.NOTHING:
                        break
                while any(True for _ in broker.outstanding()) and not judge.counts:  # noqa: ASYNC110 - no event for it
                    await asyncio.sleep(0.01)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        if wrong is Wrong.NOTHING:
            assert len(judge.acknowledged) == 600
            if faults is ROUGH:
                happened = ("torn", "resends", "acks_forgotten", "sessions_lost")
                assert sum(broker.counts[name] for name in happened) >= 10, broker.counts
    return judge


@pytest.mark.parametrize("ids", ["next", "lowest", "few"])
@pytest.mark.parametrize("level", [4, 5])
def test_a_client_that_does_everything_right_gets_no_violation_whatever_the_broker_does(level: int, ids: str) -> None:
    judge = asyncio.run(_judged(Wrong.NOTHING, level, ROUGH, ids))

    assert judge.judged >= 650
    assert not judge.counts, judge.violations


@pytest.mark.parametrize("wrong", [wrong for wrong in Wrong if wrong is not Wrong.NOTHING])
def test_a_client_that_does_one_thing_wrong_is_found_out_for_that(wrong: Wrong) -> None:
    judge = asyncio.run(_judged(wrong, 5, BrokerFaults(), "next"))

    assert set(judge.counts) == {wrong.value}, judge.violations


class Table(Store):
    """What the end of a run finds."""

    def __init__(self, messages: list[Message]) -> None:
        super().__init__()
        self.found: list[tuple[Any, ...]] = [
            (*m.key, *m.values[:4], json.dumps(m.values.payload), None) for m in messages if m.key and m.values
        ]
        self.box: Counter[Letter] = Counter((m.topic, m.payload) for m in messages if m.fate is Fate.PARKED)

    def all_rows(self) -> list[tuple[Any, ...]]:
        return self.found

    def all_letters(self) -> Counter[Letter]:
        return self.box


def _end(messages: list[Message], table: Table) -> set[str]:
    judge = Judge(table, time.monotonic)
    check_rows(judge, table.all_rows(), messages)
    check_letters(judge, table.all_letters(), messages)
    return set(judge.counts)


def test_the_end_is_in_order_when_every_message_is_where_it_belongs() -> None:
    messages = _messages(100)

    assert _end(messages, Table(messages)) == set()


def test_the_end_finds_what_is_missing_changed_foreign_or_there_twice() -> None:
    messages = _messages(100)
    poison = next(m for m in messages if m.fate is Fate.PARKED)
    letter = (poison.topic, poison.payload)

    table = Table(messages)
    table.found.pop()
    assert _end(messages, table) == {"missing_row"}

    table = Table(messages)
    table.found[0] = (*table.found[0][:4], 12345.0, *table.found[0][5:])
    assert _end(messages, table) == {"changed_row"}

    table = Table(messages)
    table.found.append(("nobody", *table.found[0][1:]))
    assert _end(messages, table) == {"foreign_row"}

    table = Table(messages)
    del table.box[letter]
    assert _end(messages, table) == {"missing_letter"}

    table = Table(messages)
    table.box[letter] = 2
    assert _end(messages, table) == {"repeated_letter"}

    table = Table(messages)
    table.box["somewhere", b"x"] = 1
    assert _end(messages, table) == {"foreign_letter"}
