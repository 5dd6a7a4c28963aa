"""What every sink promises: one suite over SQLite and a real MariaDB or MySQL server."""

from __future__ import annotations

import json
import math
import random
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Protocol

import pytest

from sensorsync.pipeline.contract import BatchRejected, Reading, SinkMisconfigured, SinkUnavailable
from sensorsync.storage.open import open_store
from sensorsync.storage.store import RunRowsDiffer, Store
from tests.contract.conftest import Place
from tests.contract.writers import four_at_once
from tests.rows import ARRIVAL, reading, readings

Policy = Literal["first", "last", "newest"]
POLICIES: Sequence[Policy] = ("first", "last", "newest")


class Bench(Protocol):
    """One empty database under test."""

    def __call__(self, conflict: Policy = "first", *, role: str = "subscriber", prepare: bool = True) -> Store:
        """A store on it, with the account of this role; `prepare`: with our tables."""


@pytest.fixture
def bench(place: Place) -> Iterator[Bench]:
    stores: list[Store] = []

    def opened(conflict: Policy = "first", *, role: str = "subscriber", prepare: bool = True) -> Store:
        if prepare:
            place.prepare()
        else:
            place.allow(role)
        store = open_store(place.settings(role, conflict=conflict))
        stores.append(store)
        return store

    yield opened
    for store in stores:
        store.close()


def rows(store: Store) -> list[tuple[str, str, float | None]]:
    return [(row.device_id, row.ts, row.value) for row in store.rows_of_run("run")]


def stored(store: Store, **of: Any) -> float | None:
    (row,) = [row for row in store.rows_of_run("run") if row.ts == reading(**of).ts]
    return row.value


# -- all or nothing, counted ---------------------------------------------------------------------------------------------------


def test_a_batch_is_stored_and_its_new_rows_are_counted(bench: Bench) -> None:
    store = bench()
    sink = store.create_sink(0)
    assert sink.write(readings(10)) == 10
    assert rows(store) == [("run-1", row.ts, row.value) for row in readings(10)]
    assert sink.write([]) == 0
    sink.close()
    sink.close()


@pytest.mark.parametrize("policy", POLICIES)
def test_new_rows_are_counted_under_every_policy(bench: Bench, policy: Policy) -> None:
    store = bench(policy)
    sink = store.create_sink(0)
    assert sink.write(readings(10)) == 10
    assert sink.write(readings(10)) == 0, "the same batch again, as after a COMMIT whose answer was lost"
    assert sink.write(readings(15, received_at=ARRIVAL + 1)) == 5, "five new ones among redeliveries"
    assert sink.write([reading(3, received_at=ARRIVAL + 2)]) == 0, "a single redelivery"
    assert sink.write([reading(99)]) == 1, "a single new one"
    mixed = [reading(1, received_at=ARRIVAL - 9), reading(2, received_at=ARRIVAL + 9), reading(3), reading(77)]
    assert sink.write(mixed) == 1, "stale, fresh, equal and new together"
    assert store.count_run_rows("run") == 17
    sink.close()


@pytest.mark.parametrize("policy", POLICIES)
def test_a_key_that_is_twice_in_one_batch_is_one_row(bench: Bench, policy: Policy) -> None:
    store = bench(policy)
    sink = store.create_sink(0)
    batch = [reading(1, value=1.0), reading(2), reading(1, value=2.0, received_at=ARRIVAL + 1)]
    assert sink.write(batch) == 2
    assert stored(store, number=1) == (1.0 if policy == "first" else 2.0)
    sink.close()


@pytest.mark.parametrize(
    ("policy", "arrivals", "kept"),
    [
        ("first", (0, 5, 3), 0),
        ("last", (0, 5, 3), 2),
        ("newest", (0, 5, 3), 1),
        ("newest", (5, 0, 3), 0),
        ("newest", (0, 3, 5), 2),
        ("newest", (0, 0, 0), 0),
    ],
)
def test_a_conflict_is_decided_by_the_policy(
    bench: Bench, policy: Policy, arrivals: tuple[int, ...], kept: int
) -> None:
    """Under `newest` a stale redelivery never overwrites a newer value (trap 8)."""
    store = bench(policy)
    sink = store.create_sink(0)
    for value, arrival in enumerate(arrivals):
        sink.write([reading(1, value=float(value), received_at=ARRIVAL + arrival), reading(1000 + value)])
    assert stored(store, number=1) == float(kept)
    sink.close()


def test_a_refused_row_leaves_nothing_of_its_batch_and_the_sink_goes_on(bench: Bench) -> None:
    store = bench()
    sink = store.create_sink(0)
    bad = reading(5, payload="{not JSON")
    with pytest.raises(BatchRejected) as refusal:
        sink.write([*readings(5), bad, reading(6)])
    assert refusal.value.errno is not None
    assert store.count_run_rows("run") == 0
    with pytest.raises(BatchRejected):
        sink.write([bad])
    assert sink.write([*readings(5), reading(6)]) == 6
    sink.close()


@pytest.mark.parametrize(
    "change",
    [
        {"payload": '{"a":'},
        {"payload": ""},
        {"ts": "2026-13-45 99:00:00.000000"},
        {"device_id": "run-" + "x" * 300},
        {"metric": "m" * 129},
        {"unit": "u" * 65},
        {"value": math.nan},
        {"value": math.inf},
        {"payload": '"\ud800"'},
        {"event_id": b"x" * 17},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_can_never_be_stored_is_refused_alone_and_in_a_batch(bench: Bench, change: dict[str, Any]) -> None:
    store = bench()
    sink = store.create_sink(0)
    poison = reading(3, **change)
    for batch in ([poison], [reading(1), poison, reading(2)]):
        with pytest.raises(BatchRejected):
            sink.write(batch)
    assert sink.write([reading(1)]) == 1
    sink.close()


@pytest.mark.parametrize(
    "text",
    [
        "it's",
        'a "quote"',
        "back\\slash",
        "\\'; DROP TABLE sensor_readings; --",
        "naïve 🌡",
        "%s %(x)s %",
        "a\nb\t\x01\x7f\x1a",
    ],
)
def test_every_text_comes_back_as_it_was(bench: Bench, text: str) -> None:
    store = bench()
    sink = store.create_sink(0)
    row = reading(1, device_id=f"run-{text.strip()}", metric=text.strip(), topic=text, value_text=text)
    assert sink.write([row]) == 1
    assert sink.write([row]) == 0
    (back,) = store.rows_of_run("run")
    assert (back.device_id, back.metric) == (row.device_id, row.metric)
    sink.close()


@pytest.mark.parametrize("value", [0.1, -0.0, 1e308, 5e-324, 123456789.123456789, 1e22, float(2**53), None])
def test_a_number_comes_back_bit_for_bit(bench: Bench, value: float | None) -> None:
    store = bench()
    sink = store.create_sink(0)
    sink.write([reading(1, value=value)])
    assert repr(stored(store, number=1)) in {repr(value), repr(value).removeprefix("-") if value == 0 else ""}
    sink.close()


def test_ids_that_differ_in_case_or_accent_are_different_rows(bench: Bench) -> None:
    store = bench()
    sink = store.create_sink(0)
    names = ["run-a", "run-A", "run-á", "run-ß", "run-ss"]
    assert sink.write([reading(1, device_id=name) for name in names]) == len(names)
    assert {row.device_id for row in store.rows_of_run("run")} == set(names)
    sink.close()


def test_every_part_of_the_key_tells_rows_apart(bench: Bench) -> None:
    store = bench()
    sink = store.create_sink(0)
    changes: list[dict[str, Any]] = [
        {},
        {"device_id": "run-2"},
        {"metric": "m"},
        {"ts": "2026-01-02 03:04:05.999999"},
        {"event_id": b"y" * 16},
    ]
    assert sink.write([reading(1, **change) for change in changes]) == len(changes)
    sink.close()


# -- several writers -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
def test_four_writers_on_shuffled_overlapping_keys_do_not_deadlock(bench: Bench, policy: Policy) -> None:
    """Trap 8: unsorted, 90 of 240 such batches end in a deadlock."""
    store = bench(policy)

    def rows(_: random.Random, numbers: Sequence[int], turn: int) -> list[Reading]:
        return [reading(n, value=float(turn), received_at=ARRIVAL + turn) for n in numbers]

    new, errors = four_at_once(store, 30, rows)
    assert errors == []
    assert sum(new) == store.count_run_rows("run") == 60


# -- schema and audit ------------------------------------------------------------------------------------------------------------


def test_without_a_table_the_sink_raises_an_error_with_the_command_to_run(bench: Bench) -> None:
    store = bench(role="owner", prepare=False)
    for ask in (store.check_schema, lambda: store.create_sink(0).write([reading(1)])):
        with pytest.raises(SinkMisconfigured) as error:
            ask()
        assert error.value.hint is not None
        assert "sensorsync init-db" in error.value.hint


def test_a_migration_is_applied_once(bench: Bench) -> None:
    store = bench(role="owner", prepare=False)
    before = store.schema_state()
    first = store.migrate()
    second = store.migrate()
    assert not before.ready
    assert (first.newly_applied, second.newly_applied) == (before.pending_migrations, ())
    assert second.state.ready
    assert store.schema_state() == second.state
    store.check_schema()


def test_four_migrations_at_once_do_not_disturb_one_another(bench: Bench) -> None:
    stores = [bench(role="owner", prepare=False) for _ in range(4)]
    done: list[tuple[str, ...]] = []
    threads = [
        threading.Thread(target=lambda store=store: done.append(store.migrate().newly_applied)) for store in stores
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    assert len(done) == 4
    assert sum(len(applied) for applied in done) == len(stores[0].schema_state().applied_migrations)
    assert stores[0].schema_state().ready


def test_an_audit_reads_one_run_in_key_order_and_deletes_only_that(bench: Bench) -> None:
    store = bench()
    owner = bench(role="owner")
    sink = store.create_sink(0)
    mine = [reading(n, device_id=f"run-{n % 3}") for n in range(50)]
    others = [
        reading(n, device_id=name) for n, name in enumerate(("run", "run.", "run.-1", "runs-1", "ru-1", "run2-1"))
    ]
    sink.write([*mine, *others])
    found = list(store.rows_of_run("run"))
    assert [(row.device_id, row.metric, row.ts, row.event_id) for row in found] == sorted(
        (row.device_id, row.metric, row.ts, row.event_id) for row in mine
    )
    assert store.count_run_rows("run") == 50
    for expected in (0, 49, 51):
        with pytest.raises(RunRowsDiffer, match="50 rows"):
            owner.delete_run_rows("run", expected)
        assert store.count_run_rows("run") == 50
    assert owner.delete_run_rows("run", 50) == 50
    assert store.count_run_rows("run") == 0
    assert store.count_run_rows("run.") == 1
    sink.close()


def test_an_audit_may_stop_early(bench: Bench) -> None:
    store = bench()
    sink = store.create_sink(0)
    sink.write(readings(3000))
    reader = store.rows_of_run("run")
    next(reader)
    reader.close()  # type: ignore[attr-defined]
    assert sink.write([reading(9999)]) == 1
    sink.close()


def test_a_payload_comes_back_as_the_same_document(bench: Bench) -> None:
    store = bench()
    sink = store.create_sink(0)
    document = {"seq": 7, "text": 'it\'s \\ "x" 🌡', "deep": [1, {"a": None}], "big": 12345678901234567890}
    sink.write([reading(1, payload=json.dumps(document))])
    (row,) = store.rows_of_run("run")
    assert json.loads(row.payload) == document
    sink.close()


# -- health --------------------------------------------------------------------------------------------------------------------


def test_a_database_that_takes_rows_is_writable_and_asking_stores_none(bench: Bench) -> None:
    store = bench()
    store.check_writable()
    store.check_writable()
    assert rows(store) == []


def test_a_database_without_our_table_is_not_writable(bench: Bench) -> None:
    store = bench(role="owner", prepare=False)
    with pytest.raises((SinkMisconfigured, SinkUnavailable)):
        store.check_writable()
