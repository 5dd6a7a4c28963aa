"""What the messages of a run say follows from run, client and sequence number, but for the time."""

from __future__ import annotations

import itertools
import uuid
from collections import Counter
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorsync.loadtest import MAX_PAYLOAD, GeneratedMessages, Run, is_run_id, new_run_id, topics_for_client
from sensorsync.loadtest.messages import client_seed, event_id_tail, value_of
from sensorsync.messages.reading import Reading, ReadingDecoder

RUN = Run("r20261124-2015-ab12", 10, 3)
NOW = datetime(2026, 11, 24, 20, 15, 3, 123456, tzinfo=UTC).timestamp()


def decoded(payload: bytes) -> Reading:
    found = ReadingDecoder().decode(payload, "t", 0.0)
    assert isinstance(found, Reading), found
    return found


def test_a_message_is_a_reading_with_its_place_in_the_run() -> None:
    feed = GeneratedMessages(RUN, 2)
    feed.take(1, NOW)
    (payload,) = feed.take(1, NOW).payloads
    found = decoded(payload)
    assert (found.device_id, found.metric) == ("r20261124-2015-ab12-00002", "load")
    assert found.ts == "2026-11-24 20:15:03.123456"
    assert found.value == value_of(client_seed(RUN.id, 2), 1)
    assert found.event_id[6:] == event_id_tail(RUN.id, 2) + (1).to_bytes(4, "big")
    event = uuid.UUID(bytes=found.event_id)
    assert (event.version, event.variant) == (7, uuid.RFC_4122)
    assert int.from_bytes(found.event_id[:6], "big") == int(NOW * 1000)
    place = {"run": RUN.id, "client": 2, "clients": 3, "seq": 1, "of": 10}
    assert {name: orjson.loads(payload)[name] for name in place} == place


def test_the_shares_of_the_clients_are_all_of_the_run_and_nearly_even() -> None:
    assert [RUN.message_count(client) for client in range(3)] == [4, 3, 3]
    for client in range(3):
        feed = GeneratedMessages(RUN, client)
        taken = [orjson.loads(payload)["seq"] for _ in range(3) for payload in feed.take(2, NOW).payloads]
        assert taken == list(range(RUN.message_count(client)))
        assert feed.exhausted
        assert feed.take(5, NOW).payloads == []


@given(st.integers(0, 2**20 - 1), st.integers(0, 2**32 - 1))
def test_values_are_eighths_that_a_double_and_a_decimal_keep(client: int, seq: int) -> None:
    value = value_of(client_seed("r", client), seq)
    assert 0 <= value < 131072
    assert value * 8 == int(value * 8)
    assert float(f"{value:.3f}") == value


def test_event_ids_of_clients_and_runs_differ() -> None:
    clients = [0, 1, 15, 16, 65535, 65536, 2**20 - 1]
    tails = {event_id_tail(run, client) for run in ("a", "b", "c") for client in clients}
    assert len(tails) == 3 * len(clients)


def test_run_ids_sort_by_time_and_are_run_ids() -> None:
    first, second = new_run_id(datetime(2026, 9, 30, 23, 59, tzinfo=UTC)), new_run_id(datetime(2026, 10, 1, tzinfo=UTC))
    assert first < second
    assert is_run_id(first)
    assert first.startswith("r20260930-2359-")


@pytest.mark.parametrize(("clients", "devices"), [(3, 7), (3, 3), (7, 3), (1, 5), (5, 1)])
def test_every_device_has_messages_and_belongs_to_one_client_if_there_are_enough(clients: int, devices: int) -> None:
    run = Run("r", 100 * clients, clients, devices)
    owners: dict[str, set[int]] = {}
    for client in range(clients):
        found = [decoded(payload).device_id for payload in GeneratedMessages(run, client).take(100, NOW).payloads]
        assert found == [run.device_id(client, seq) for seq in range(100)]
        assert len(set(found)) == run.device_count(client)
        for device in found:
            owners.setdefault(device, set()).add(client)
    assert set(owners) == {f"r-{number:05d}" for number in range(devices)}
    assert devices < clients or all(len(clients_of_it) == 1 for clients_of_it in owners.values())


@pytest.mark.parametrize("size", [1, 150, 1000, MAX_PAYLOAD])
def test_a_message_has_its_size_at_least_and_little_more_and_a_subscriber_takes_it(size: int) -> None:
    run = Run("r", 2000, 2, 100_000, size)
    plain = len(GeneratedMessages(Run("r", 2000, 2, 100_000), 1).take(1, NOW).payloads[0])
    for payload in GeneratedMessages(run, 1).take(20 if size > 1000 else 1000, NOW).payloads:
        assert size <= len(payload) < max(size + 20, plain + 50)
        assert decoded(payload).payload


def test_a_client_goes_through_the_topics_in_turn_and_all_clients_through_all_of_them() -> None:
    assert list(itertools.islice(topics_for_client(1, 3, "a/b", None), 3)) == ["a/b"] * 3
    assert list(itertools.islice(topics_for_client(1, 3, "a/b", 4), 4)) == ["a/b/1", "a/b/0", "a/b/3", "a/b/2"]
    used = Counter(
        topic for client in range(8) for topic in itertools.islice(topics_for_client(client, 8, "t", 12), 30)
    )
    assert used == {f"t/{number}": 20 for number in range(12)}


@pytest.mark.parametrize("wrong", [{"devices": 0}, {"payload_size": -1}, {"payload_size": MAX_PAYLOAD + 1}])
def test_a_run_has_devices_and_a_size_that_a_reading_can_have(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"devices|padded"):
        Run("r", 1, 1, **wrong)


@pytest.mark.parametrize("wrong", ["", "-a", "a b", "a'", "a.b", "x" * 65, 'a"', "ü"])
def test_what_cannot_name_a_run_is_refused(wrong: str) -> None:
    assert not is_run_id(wrong)
    with pytest.raises(ValueError, match="run id"):
        Run(wrong, 1, 1)


@pytest.mark.parametrize(("messages", "clients"), [(0, 1), (1, 0), (2**32 + 1, 1), (1, 2**20 + 1)])
def test_a_run_has_messages_and_clients_within_the_bits_of_an_event_id(messages: int, clients: int) -> None:
    with pytest.raises(ValueError, match="a run has"):
        Run("r", messages, clients)
