"""What every sink promises about tables of the user's own: one suite over SQLite and a real MariaDB or MySQL server."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from sensorsync.messages.reading import Column, TableRow, TargetTable
from sensorsync.messages.reading.rows import ColumnValue
from sensorsync.pipeline.contract import BatchRejected, Row, SinkMisconfigured, SinkUnavailable, SinkVerificationFailed
from sensorsync.storage.open import open_store
from sensorsync.storage.store import Store
from tests.contract.conftest import Place
from tests.contract.writers import four_at_once
from tests.rows import reading
from tests.target_tables import ALARMS, STATE, Ground, alarm, first, state

Open = Callable[..., Store]


@pytest.fixture
def ground(place: Place) -> Ground:
    return Ground(place)


@pytest.fixture
def opened(place: Place) -> Iterator[Open]:
    """A store that writes to these tables, with the account of the subscriber."""
    stores: list[Store] = []

    def store(*tables: TargetTable) -> Store:
        made = open_store(place.settings(), tables)
        stores.append(made)
        return made

    yield store
    for made in stores:
        made.close()


@pytest.fixture
def store(ground: Ground, opened: Open) -> Store:
    """With `machine_state` (last) and `alarms` (first)."""
    ground.make(STATE, ALARMS)
    return opened(STATE, ALARMS)


def mixed(count: int) -> list[Row]:
    """Readings, states and alarms by turns, `count` of each."""
    return [row for number in range(count) for row in (state(number), reading(number), alarm(number))]


TABLES = ("machine_state", "sensor_readings", "alarms")


# -- all or nothing, counted -----------------------------------------------------------------------------------------------


def test_a_batch_of_several_tables_is_stored_and_counted_and_again_nothing_is_new(store: Store, ground: Ground) -> None:
    store.check_schema()
    sink = store.create_sink(0)
    assert sink.write(mixed(5)) == 15
    assert sink.write(mixed(5)) == 0, "the same batch again, as after a COMMIT whose answer was lost"
    assert sink.write(mixed(7)) == 6, "two new ones of each among redeliveries"
    assert sink.write([state(99)]) == sink.write([alarm(99)]) == 1, "a table alone"
    assert sink.write([state(99)]) == sink.write([alarm(99)]) == 0
    assert ground.count(*TABLES) == [8, 7, 8]
    sink.close()


def test_ten_thousand_rows_of_three_tables_are_there_once(store: Store, ground: Ground) -> None:
    rows = mixed(3334)
    random.Random(7).shuffle(rows)
    sink = store.create_sink(0)
    assert sink.write(rows) == len(rows) == 10_002
    assert sink.write(rows[::-1]) == 0
    assert ground.count(*TABLES) == [3334] * 3
    assert ground.run("SELECT SUM(pieces), SUM(celsius) FROM machine_state") == [
        (sum(range(3334)), sum(20.5 + number for number in range(3334)))
    ]
    sink.close()


POISON = {
    "null": state(9, machine=None),
    "nan": state(9, celsius=math.nan),
    "infinity": state(9, celsius=-math.inf),
    "surrogate": state(9, note="\ud800"),
    "integer": state(9, pieces=2**80),
    "digits": state(9, pieces=10**5000),
}


def test_a_row_that_can_never_be_stored_leaves_nothing_of_its_batch_and_the_sink_goes_on(
    store: Store, ground: Ground
) -> None:
    sink = store.create_sink(0)
    for poison in POISON.values():
        for batch in ([poison], [*mixed(2), poison, *mixed(5)]):
            with pytest.raises(BatchRejected):
                sink.write(batch)
            assert ground.count(*TABLES) == [0, 0, 0]
    assert sink.write(mixed(3)) == 9
    sink.close()


def test_a_bad_reading_leaves_no_row_of_a_target_table(store: Store, ground: Ground) -> None:
    sink = store.create_sink(0)
    with pytest.raises(BatchRejected):
        sink.write([*mixed(3), reading(9, payload="{not JSON")])
    assert ground.count(*TABLES) == [0, 0, 0]
    sink.close()


# -- policies --------------------------------------------------------------------------------------------------------------


def celsius(ground: Ground) -> list[float | None]:
    return [row[0] for row in ground.run("SELECT celsius FROM machine_state ORDER BY at")]


def test_under_first_a_redelivery_changes_nothing_and_under_last_it_replaces_all_columns(
    ground: Ground, opened: Open
) -> None:
    ground.make(STATE)
    for table, kept in ((first(STATE), [1.0, 2.0]), (STATE, [None, 2.0])):
        sink = opened(table).create_sink(0)
        sink.write([state(1, table, celsius=1.0), state(2, table, celsius=2.0)])
        assert sink.write([state(1, table, celsius=None, note="again")]) == 0
        assert celsius(ground) == kept
        assert ground.run("SELECT note FROM machine_state ORDER BY at")[0] == ((None,) if kept[0] else ("again",))
        sink.close()


@pytest.mark.parametrize("conflict", ["first", "last"])
def test_a_key_that_is_twice_in_one_batch_is_one_row(ground: Ground, opened: Open, conflict: str) -> None:
    ground.make(STATE)
    table = STATE if conflict == "last" else first(STATE)
    sink = opened(table).create_sink(0)
    batch = [state(1, table, celsius=1.0), state(2, table), state(1, table, celsius=3.0)]
    assert sink.write(batch) == 2
    assert sink.write(batch) == 0
    assert celsius(ground)[0] == (1.0 if conflict == "first" else 3.0)
    sink.close()


def test_a_table_of_nothing_but_its_key_takes_rows_under_last(ground: Ground, opened: Open) -> None:
    table = TargetTable("seen", (Column("device", "text"),), key=("device",), conflict="last")
    ground.make(table)
    sink = opened(table).create_sink(0)
    rows = [TableRow(table, (name,), None) for name in ("b", "a", "b")]
    assert [sink.write(rows), sink.write(rows)] == [2, 0]
    sink.close()


# -- values ----------------------------------------------------------------------------------------------------------------

TEXTS = [
    "it's",
    'a "quote"',
    "back\\slash",
    "\\'; DROP TABLE machine_state; --",
    "naïve 🌡",
    "%s %(x)s %",
    "a\nb\t\x01\x7f\x1a",
    "",
]


def test_every_text_comes_back_as_it_was(store: Store, ground: Ground) -> None:
    sink = store.create_sink(0)
    rows = [state(1, machine=text, note=text, document=json.dumps(text), anything=text) for text in TEXTS]
    assert [sink.write(rows), sink.write(rows)] == [len(TEXTS), 0]
    found = ground.run("SELECT machine, note, document, anything FROM machine_state")
    assert sorted(row[0] for row in found) == sorted(TEXTS)
    for machine, note, document, anything in found:
        assert (note, json.loads(document), anything) == (machine, machine, machine)
    sink.close()


def test_every_kind_of_value_comes_back_as_it_was(store: Store, ground: Ground) -> None:
    sink = store.create_sink(0)
    numbers = [0.1, -0.0, 1e308, 5e-324, 123456789.123456789, 1e22, 3, -7, None]
    integers = [0, -1, 2**63 - 1, -(2**63), None]
    sink.write([state(place, celsius=number) for place, number in enumerate(numbers)])
    sink.write([state(100 + place, pieces=number, running=None) for place, number in enumerate(integers)])
    sink.write([state(200, running=True), state(201, running=False), state(202, message=bytes(range(240, 256)))])
    rows = ground.run("SELECT celsius, pieces, running, message FROM machine_state ORDER BY at")
    assert [row[0] for row in rows[: len(numbers)]] == numbers
    assert [row[1:3] for row in rows[len(numbers) : -3]] == [(number, None) for number in integers]
    assert [row[2] for row in rows[-3:-1]] == [1, 0]
    assert rows[-1][3] == bytes(range(240, 256))
    sink.close()


def test_keys_of_numbers_and_texts_are_rows_side_by_side(ground: Ground, opened: Open) -> None:
    """Python does not compare a number with a text: such a batch could not be sorted."""
    table = TargetTable(
        "mixed", (Column("slot", None), Column("part", None), Column("v", "number")), key=("slot", "part")
    )
    ground.make(table)
    sink = opened(table).create_sink(0)
    keys: list[tuple[ColumnValue, ColumnValue]] = [(2, "a"), ("x", 1.5), (1, "b"), ("x", "y"), (True, "c"), (2, 7)]
    rows = [TableRow(table, (*key, 1.0), None) for key in keys]
    assert [sink.write(rows), sink.write(rows[::-1])] == [6, 0]
    sink.close()


def test_a_name_needs_no_luck(ground: Ground, opened: Open) -> None:
    for name in ("order", "two words", "per%cent %s", "ärger", "a;b", "key"):
        table = TargetTable(name, (Column(name, "text"), Column("select", "number")), key=(name,), conflict="last")
        ground.make(table)
        store = opened(table)
        store.check_schema()
        store.check_writable()
        sink = store.create_sink(0)
        rows = [TableRow(table, ("k", value), None) for value in (1.0, 2.0)]
        assert [sink.write(rows[:1]), sink.write(rows[1:])] == [1, 0], name
        sink.close()


# -- somebody else's keys and triggers ---------------------------------------------------------------------------------------


def test_a_row_never_changes_another_one_that_it_meets_under_another_unique_key(store: Store, ground: Ground) -> None:
    """ON DUPLICATE KEY UPDATE changes whatever row it meets, and a no-op would swallow the new one."""
    drop = "DROP INDEX by_piece" + (" ON machine_state" if ground.is_mysql else "")
    for table in (STATE, first(STATE)):
        ground.run("DELETE FROM machine_state")
        sink = store.create_sink(0)
        sink.write([state(1, table, pieces=1)])
        ground.run("CREATE UNIQUE INDEX by_piece ON machine_state (pieces)")
        for batch in (
            [state(2, table, pieces=1)],
            [state(2, table, pieces=1), state(3, table), state(1, table, pieces=1)],
        ):
            with pytest.raises(SinkVerificationFailed, match="machine_state has another unique key, by_piece"):
                sink.write(batch)
        assert ground.run("SELECT celsius, pieces FROM machine_state") == [(21.5, 1)]
        ground.run(drop)
        assert sink.write([state(1, table, pieces=1), state(4, table)]) == 1
        sink.close()


def test_what_a_trigger_writes_is_not_counted(store: Store, ground: Ground) -> None:
    insert = "INSERT INTO copies (n) VALUES (NEW.pieces)"
    body = insert if ground.is_mysql else f"BEGIN {insert}; END"
    ground.run(
        "CREATE TABLE copies (n INT)",
        f"CREATE TRIGGER copying AFTER INSERT ON machine_state FOR EACH ROW {body}",
    )
    sink = store.create_sink(0)
    assert [sink.write([state(1), state(2)]), sink.write([state(2), state(3)])] == [2, 1]
    assert len(ground.run("SELECT n FROM copies")) >= 3
    sink.close()


# -- several writers ---------------------------------------------------------------------------------------------------------


def test_four_writers_on_shuffled_overlapping_keys_of_several_tables_do_not_deadlock(
    store: Store, ground: Ground
) -> None:
    def rows(random_numbers: random.Random, numbers: Sequence[int], turn: int) -> list[Row]:
        mixed: list[Row] = [
            row for n in numbers for row in (alarm(n), state(n, celsius=float(turn)), reading(n, value=float(turn)))
        ]
        random_numbers.shuffle(mixed)
        return mixed

    new, errors = four_at_once(store, 20, rows)
    assert errors == []
    assert sum(new) == 180
    assert ground.count(*TABLES) == [60, 60, 60]


# -- a table that is not there -------------------------------------------------------------------------------------------------


def test_a_table_that_vanishes_stops_the_writer_and_the_health_check_sees_it(store: Store, ground: Ground) -> None:
    sink = store.create_sink(0)
    sink.write(mixed(1))
    ground.run("DROP TABLE alarms")
    with pytest.raises(SinkMisconfigured) as error:
        sink.write(mixed(2))
    assert "init-db" in (error.value.hint or "")
    assert ground.count("machine_state", "sensor_readings") == [1, 1]
    with pytest.raises((SinkMisconfigured, SinkUnavailable)):
        store.check_writable()
    assert not store.schema_state().ready
    sink.close()


def test_a_row_of_an_equal_table_that_is_another_object_is_stored(store: Store, ground: Ground) -> None:
    sink = store.create_sink(0)
    rows: list[Any] = [alarm(number, replace(ALARMS)) for number in range(3)]
    assert sink.write([*rows, alarm(3)]) == 4
    assert ground.count("alarms") == [4]
    sink.close()
