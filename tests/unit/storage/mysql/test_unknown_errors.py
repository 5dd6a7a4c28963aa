"""An error number that does not show whose fault it is: an outage parks nothing, a poison row is parked and stops no other.

The real sink and writer on a virtual clock, at 1 and at 500 messages a second.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorsync.pipeline.contract import DeadLetter, Delivery, Reading
from sensorsync.pipeline.writer import BatchWriter, RejectionBreaker
from sensorsync.runtime.backoff import Backoff
from sensorsync.storage.mysql.cluster_faults import find_rule
from sensorsync.storage.mysql.error_rule import ErrorAction
from sensorsync.storage.mysql.sink import MySqlSink
from tests.fakes.mysql import Failure, FakeMySql, TableAsVerified, VirtualClock

NUMBERS = (
    1016, 1034, 1105, 1296, 1297, 1637, 1812, 1814, 1815, 1874, 1877, 1881, 3168, 3185, 8022, 8027, 8028, *range(9001, 9009),
    1449, 1305, 1644, 1062, 1153, 1180, 1792, 3100, 9876, 1048, 1406,
)  # fmt: skip
NAMED = {**dict.fromkeys(NUMBERS, "words"), 1452: "a foreign key constraint fails (`db`.`audit`, CONSTRAINT `c`)"}
"""What was parked in an outage, and what else a trigger's own table can raise."""


def is_undecided(number: int, text: str) -> bool:
    """Return True for a number that is on no fixed list of outages: one row can be at fault."""
    rule = find_rule(number, text)
    return number != 1180 and (rule is None or rule.action in {ErrorAction.UNKNOWN, ErrorAction.REJECT})  # 1180: COMMIT


UNDECIDED = sorted(number for number, text in NAMED.items() if is_undecided(number, text))
BATCH = 1000
DEVICES = 10


@dataclass
class Box:
    letters: list[DeadLetter] = field(default_factory=list)

    def park(self, letters: Sequence[DeadLetter]) -> int:
        self.letters += letters
        return len(letters)


def decode(delivery: Delivery) -> Reading:
    number = int(delivery.payload)
    device = f"d{number % DEVICES}"
    return Reading(
        number.to_bytes(16), device, "m", "2026-01-01 00:00:00.000000", 1.0, None, None, "t", 1.0, json.dumps({"seq": number})
    )  # fmt: skip


class Simulation:
    """One writer, and messages that arrive at a steady rate."""

    def __init__(self, rate: float) -> None:
        self.clock = VirtualClock()
        self.mysql = FakeMySql(self.clock)
        self.box = Box()
        self.rate = rate
        self.sent = 0
        self.arriving = True
        self.settled: set[int] = set()
        self.parked_at: dict[int, float] = {}
        self.stored_when_parked = 0
        self.writer = BatchWriter(
            0,
            MySqlSink(self.mysql, verifier=TableAsVerified()),  # type: ignore[arg-type]
            self.box,
            decode,
            backoff=Backoff(0.1, 5.0),
            pause=self.clock.pause,
            breaker=RejectionBreaker(),
            wait_for_database=True,
            clock=self.clock,
        )

    def run(self, until: float) -> None:
        """Let time pass: messages arrive, batches are written, messages that were set aside are tried again."""
        while self.clock.now < until:
            arrived = int(self.clock.now * self.rate) if self.arriving else 0
            numbers = range(self.sent, min(self.sent + BATCH, arrived))
            if numbers:
                deliveries = [Delivery("t", b"%d" % number, 1, self.clock.now, None) for number in numbers]
                self.sent = numbers.stop
                report = self.writer.write(deliveries)
                self._settle([d for place, d in enumerate(deliveries) if place not in report.set_aside])
            else:
                self.clock.now += min(1 / self.rate, 0.05)
            if self.writer.retry_due_in() == 0.0:
                settled, _ = self.writer.retry_set_aside()
                self._settle(settled)

    def _settle(self, deliveries: Sequence[Delivery]) -> None:
        self.settled.update(int(delivery.payload) for delivery in deliveries)
        for letter in self.box.letters:
            if int(letter.payload) not in self.parked_at:
                self.parked_at[int(letter.payload)] = self.clock.now
                self.stored_when_parked = len(self.mysql.stored)

    def finish(self) -> None:
        """Send nothing more, and let all that was sent be decided."""
        self.arriving = False
        give_up = self.clock.now + 200
        while len(self.settled) < self.sent and self.clock.now < give_up:
            self.run(self.clock.now + 1)
        assert self.settled == set(range(self.sent)), "acknowledged are all, once decided"
        assert self.mysql.stored | self.parked_at.keys() == self.settled, "acked and gone"


def fail_from(clock: VirtualClock, step: str, failure: Failure, start: float, end: float) -> object:
    return lambda name, _, __: failure if name == step and start <= clock.now < end else None


@pytest.mark.parametrize(("step", "rate"), [("statement", 1), ("statement", 500), ("begin", 1), ("commit", 500)])
@pytest.mark.parametrize("number", sorted(NAMED))
def test_an_outage_with_any_number_parks_nothing_and_loses_nothing(number: int, step: str, rate: int) -> None:
    simulation = Simulation(rate)
    failure = (number, NAMED[number])
    simulation.mysql.fails = fail_from(simulation.clock, step, failure, 5, 42)  # type: ignore[assignment]
    simulation.run(43)
    simulation.finish()
    assert simulation.box.letters == []


@pytest.mark.parametrize("rate", [1, 500])
@pytest.mark.parametrize("number", UNDECIDED)
def test_poison_with_an_undecided_number_is_parked_within_two_minutes_and_the_others_go_on(
    number: int, rate: int
) -> None:
    simulation = Simulation(rate)
    poison = 10 * rate + 3
    simulation.mysql.fails = lambda step, rows, _: (
        (number, NAMED[number]) if step == "statement" and poison in rows else None
    )
    while not simulation.parked_at and simulation.clock.now < 140:
        simulation.run(simulation.clock.now + 1)
    assert list(simulation.parked_at) == [poison]
    took = simulation.parked_at[poison] - poison / rate
    assert took < 120
    if took > 5:
        assert simulation.stored_when_parked - poison >= took * rate / 5 - 2
    simulation.finish()
    assert simulation.box.letters[0].errno == number


def test_the_first_message_of_all_may_be_poison() -> None:
    simulation = Simulation(1)
    simulation.mysql.fails = lambda step, rows, _: (1644, "no") if step == "statement" and 0 in rows else None
    simulation.run(125)
    simulation.finish()
    assert list(simulation.parked_at) == [0]


def test_where_one_device_alone_is_refused_its_readings_are_kept_for_its_shard_may_be_away() -> None:
    simulation = Simulation(20)
    simulation.mysql.fails = lambda _, __, statement: (
        (1105, "denied tables") if 10 <= simulation.clock.now < 100 and "('d3'," in statement else None
    )
    simulation.run(99)
    assert len(simulation.mysql.stored) > 99 * 20 * 8 / 10, "the other shards go on"
    simulation.run(101)
    simulation.finish()
    assert simulation.box.letters == []


def test_once_a_number_is_known_to_be_about_rows_the_next_ones_are_judged_faster() -> None:
    simulation = Simulation(10)
    simulation.mysql.fails = lambda step, rows, _: (
        (1644, "no") if step == "statement" and any(row % 100 == 50 for row in rows) else None
    )
    simulation.run(120)
    waits = [when - number / 10 for number, when in sorted(simulation.parked_at.items())]
    assert 30 <= waits[0] < 120
    assert all(4 <= wait < 10 for wait in waits[5:])
    simulation.finish()


def test_a_batch_that_an_outage_splits_is_stored_whole_when_it_ends_meanwhile() -> None:
    simulation = Simulation(500)
    simulation.run(1)
    for refusals in (12, 200, 1200):
        left = iter(range(refusals))
        simulation.mysql.fails = lambda _, __, ___, left=left: (1406, "x") if next(left, None) is not None else None  # type: ignore[misc]
        simulation.run(simulation.clock.now + 3)
    simulation.finish()
    assert simulation.box.letters == []


@pytest.mark.parametrize("number", [3100, 1197, 8004])
def test_a_transaction_that_is_too_large_goes_through_in_smaller_ones(number: int) -> None:
    simulation = Simulation(500)
    simulation.run(1)
    refused: list[int] = []

    def counted(step: str, rows: list[int], _statement: str) -> Failure:
        if step != "commit" or len(rows) <= 100:
            return None
        refused.append(len(rows))
        return number, "too large"

    simulation.mysql.fails = counted
    simulation.clock.now += 20
    simulation.run(simulation.clock.now + 10)
    assert simulation.box.letters == []
    assert simulation.mysql.stored == simulation.settled
    assert len(refused) <= 5, "the size is remembered"
    simulation.mysql.fails = lambda _step, _rows, _statement: None
    simulation.mysql.largest = 0
    for _ in range(8):
        simulation.clock.now += 61
        simulation.sent = int(simulation.clock.now * simulation.rate) - BATCH
        simulation.run(simulation.clock.now + 0.1)
    assert simulation.mysql.largest > 100, "and forgotten after a while"


@given(st.integers(1, 12_000), st.sampled_from(["statement", "begin", "commit"]), st.text(max_size=40))
def test_for_any_number_an_outage_parks_nothing(number: int, step: str, text: str) -> None:
    simulation = Simulation(10)
    simulation.mysql.fails = fail_from(simulation.clock, step, (number, text), 5, 50)  # type: ignore[assignment]
    simulation.run(55)
    assert simulation.box.letters == []
