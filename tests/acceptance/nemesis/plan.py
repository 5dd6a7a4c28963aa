"""The plan of one run, all of it drawn from its seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from enum import StrEnum

from tests.acceptance.nemesis.broker import BrokerFaults
from tests.acceptance.nemesis.injections import DatabaseFaults, Kind, Phase, numbers

ENGINES = (("native", "5", 1), ("native", "5", 2), ("paho", "5", 1), ("paho", "3.1.1", 1))
"""Engine, protocol and links: one after the other over consecutive seeds."""


class Deed(StrEnum):
    """What the conductor does."""

    KILL = "kill"
    """kill -9 of a subscriber; it is started again later."""
    STOP = "stop"
    """SIGTERM, the same."""
    SMALL_BOX = "small_box"
    """SIGTERM, and the next life has a small dead-letter box, which large poison fills."""
    FLOOD = "flood"
    """As much large poison as fills a small box."""
    LOCK_BOX = "lock_box"
    """Another program holds the box's write lock for a while."""
    PATH_DOWN = "path_down"
    """The database cannot be reached for a while."""
    PATH_FROZEN = "path_frozen"
    """Nothing passes between subscriber and database for a while."""
    PATH_CUT = "path_cut"
    """All connections to the database are reset."""
    LOCK_TABLE = "lock_table"
    """Another program holds a read lock on the table for a while: writers wait, and time out."""
    ALTER = "alter"
    """A harmless change of the table."""
    BROKER_DOWN = "broker_down"
    DROP = "drop"
    """One connection to the broker is reset."""
    LOSE_SESSION = "lose_session"
    """The same, and its session is lost."""
    BLACK_HOLE = "black_hole"
    """One connection to the broker stays up, and nothing passes on it any more."""
    HOLD = "hold"
    """The broker sends nothing for a while."""


_WEIGHTS = {
    Deed.KILL: 2,
    Deed.STOP: 1,
    Deed.SMALL_BOX: 1,
    Deed.LOCK_BOX: 2,
    Deed.PATH_DOWN: 2,
    Deed.PATH_FROZEN: 2,
    Deed.PATH_CUT: 4,
    Deed.ALTER: 2,
    Deed.BROKER_DOWN: 1,
    Deed.DROP: 6,
    Deed.LOSE_SESSION: 8,
    Deed.HOLD: 1,
    Deed.BLACK_HOLE: 1,
    Deed.LOCK_TABLE: 2,
}
_LONGEST = {
    Deed.KILL: 0.5,
    Deed.STOP: 0.5,
    Deed.SMALL_BOX: 0.5,
    Deed.LOCK_BOX: 2.0,
    Deed.PATH_DOWN: 1.0,
    Deed.PATH_FROZEN: 1.8,
    Deed.BROKER_DOWN: 0.7,
    Deed.HOLD: 0.5,
    Deed.LOCK_TABLE: 1.5,
}


TARGETS = 8
HASTY = 6


@dataclass(frozen=True, slots=True)
class Combination:
    """How the subscribers run."""

    engine: str
    protocol: str
    links: int
    instances: int
    processes: int
    workers: int
    batch_size: int
    window: int
    """Of the broker, for each connection."""
    ids: str
    """How the broker chooses packet ids."""
    wait_for_database: bool
    conflict: str


@dataclass(frozen=True, slots=True)
class Action:
    """A deed `at` seconds after the first subscriber is there; `seconds` is how long it lasts."""

    at: float
    deed: Deed
    target: int
    """Which subscriber, modulo their number; from HASTY on, it is ended even while it starts."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a seed decides. `rate`: messages a second; `poison`, `copies` and `big` are shares of them."""

    seed: int
    seconds: float
    combination: Combination
    rate: float
    poison: float
    copies: float
    big: float
    broker: BrokerFaults
    database: DatabaseFaults
    actions: tuple[Action, ...] = field(repr=False)
    small_box: bool = False
    """The first lives have a small dead-letter box."""


def draw(seed: int, seconds: float) -> Plan:
    """Draw the plan of a seed."""
    rng = random.Random(seed)
    engine, protocol, links = ENGINES[seed % len(ENGINES)]
    combination = Combination(
        engine=engine,
        protocol=protocol,
        links=links,
        instances=rng.choice((1, 1, 2)),
        processes=rng.choice((1, 1, 1, 2)),
        workers=rng.choice((1, 2, 4)),
        batch_size=rng.choice((1, 10, 50, 200)),
        window=rng.choice((1, 10, 20, 100, 1000)),
        ids=rng.choice(("next", "lowest", "few")),
        wait_for_database=rng.random() < 0.9,
        conflict=rng.choice(("first", "last", "newest")),
    )
    share = rng.choice((1.0, 3.0, 8.0))
    broker = BrokerFaults(
        tear=0.004 * share,
        dribble=rng.choice((0.0, 0.1)),
        resend=0.03 * share,
        forget_acks=0.004 * share,
        refuse=0.05,
        late_connack=0.2,
        late_suback=0.2,
        lose_session=rng.choice((0.1, 0.4)),
        server_disconnect=0.001 * share,
    )
    wild = rng.choice((0.5, 1.0, 3.0))
    rates = {
        Phase.CONNECT: 0.04 * wild,
        Phase.SETUP: 0.01 * wild,
        Phase.BEGIN: 0.03 * wild,
        Phase.INSERT: 0.04 * wild,
        Phase.COMMIT: 0.05 * wild,
        Phase.OTHER: 0.01 * wild,
    }
    return Plan(
        seed=seed,
        seconds=seconds,
        combination=combination,
        rate=rng.choice((50.0, 200.0, 400.0)),
        poison=rng.choice((0.0, 0.02, 0.1)),
        copies=0.03,
        big=0.01,
        broker=broker,
        database=DatabaseFaults(rates, numbers(undecided=True)),
        actions=_actions(rng, seconds),
    )


def draw_for_planted_faults(seed: int, seconds: float, *, full_box: bool) -> Plan:
    """Draw a plan that presses on the guards.

    While the database stands still, connections and sessions are lost; or the dead-letter box is full.
    """
    plan = draw(seed * len(ENGINES), seconds)  # the native engine with one link
    combination = replace(
        plan.combination, instances=1, processes=1, workers=2, batch_size=20, window=20, wait_for_database=True
    )
    kinds = (Kind.ERROR_BEFORE, Kind.ERROR_AFTER, Kind.CUT_BEFORE, Kind.CUT_AFTER)
    database = DatabaseFaults({Phase.INSERT: 0.03, Phase.COMMIT: 0.03}, numbers(undecided=False), kinds)
    deeds: list[Action] = []
    for beat in range(1, int(seconds / 2)):
        # Sessions are lost while the database stands still: the messages of the second connection wait for it when the third one
        # is there, whose messages have the same places in the order of arrival.
        deeds.append(Action(beat * 2.0, Deed.PATH_FROZEN, 0, 1.4))
        deeds += [Action(beat * 2.0 + later, Deed.LOSE_SESSION, 0, 0.0) for later in (0.1, 0.5, 0.9)]
    return replace(
        plan,
        combination=combination,
        rate=300.0,
        poison=0.02,
        broker=BrokerFaults(lose_session=0.5, resend=0.1, tear=0.002),
        database=database,
        actions=(Action(0.3, Deed.FLOOD, 0, 0.0),) if full_box else tuple(deeds),
        small_box=full_box,
    )


def _actions(rng: random.Random, seconds: float) -> tuple[Action, ...]:
    deeds, weights = list(_WEIGHTS), list(_WEIGHTS.values())
    chosen = rng.choices(deeds, weights, k=max(1, round(1.5 * seconds)))
    drawn = [
        Action(
            round(rng.random() * seconds, 2),
            deed,
            rng.randrange(TARGETS),
            round(rng.random() * _LONGEST.get(deed, 0.0), 2),
        )
        for deed in chosen
    ]
    return tuple(sorted(drawn, key=lambda action: action.at))
