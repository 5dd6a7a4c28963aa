"""The ledger: which messages may be acknowledged, when, and on which connection."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sensorsync.pipeline.contract import AckToken
from sensorsync.pipeline.ledger import AckLedger


def opened() -> AckLedger:
    ledger = AckLedger(0)
    ledger.start_epoch()
    return ledger


def take(ledger: AckLedger, packet_id: int, payload: bytes = b"", *, dup: bool = False) -> AckToken:
    token = ledger.issue_token(packet_id, dup, "t", payload or str(packet_id).encode())
    assert token is not None
    return token


def test_acks_are_released_in_arrival_order() -> None:
    ledger = opened()
    first, second, third = (take(ledger, packet_id) for packet_id in (11, 12, 13))

    assert ledger.settle([third]) == []
    assert ledger.settle([second]) == []
    assert ledger.settle([first]) == [11, 12, 13]


def test_a_late_ack_is_not_sent_on_a_new_connection() -> None:
    ledger = opened()
    old = take(ledger, 5, b"old")

    ledger.start_epoch()
    new = take(ledger, 5, b"new")

    assert ledger.settle([old]) == []
    assert ledger.settle([new]) == [5]


def test_deliveries_of_earlier_epochs_are_counted_until_they_are_settled() -> None:
    ledger = opened()
    tokens = [take(ledger, packet_id) for packet_id in range(1, 6)]
    ledger.settle(tokens[2:3])

    ledger.start_epoch()

    assert (ledger.in_flight, ledger.stale_deliveries) == (0, 4)
    ledger.settle(tokens[:2])
    assert ledger.stale_deliveries == 2


def test_a_resend_of_an_unsettled_message_is_recognised() -> None:
    ledger = opened()
    token = take(ledger, 7, b"x")

    assert ledger.is_resend_of_unsettled(7, "t", b"x")
    assert not ledger.is_resend_of_unsettled(7, "t", b"y")
    assert not ledger.is_resend_of_unsettled(7, "u", b"x")
    assert not ledger.is_resend_of_unsettled(8, "t", b"x")
    assert ledger.settle([token]) == [7]
    assert not ledger.is_resend_of_unsettled(7, "t", b"x")


def test_a_packet_id_reused_before_its_ack_is_acknowledged_once_after_the_last() -> None:
    ledger = opened()
    first = take(ledger, 7, b"one")
    second = take(ledger, 7, b"two")

    assert ledger.settle([first]) == []
    assert ledger.settle([second]) == [7]


def test_a_duplicate_of_an_acknowledged_id_is_written_but_not_acknowledged() -> None:
    ledger = opened()
    ledger.settle([take(ledger, 7, b"one")])

    assert ledger.issue_token(7, True, "t", b"one") is None
    # ... but the next message under this id is not a duplicate, and is to be acknowledged.
    assert ledger.settle([take(ledger, 7, b"two")]) == [7]


def test_a_new_message_with_dup_under_an_acknowledged_id_is_acknowledged() -> None:
    # A broker may send another subscriber's unacknowledged message to this one, with DUP set, under any packet id.
    ledger = opened()
    ledger.settle([take(ledger, 7, b"one")])

    assert ledger.settle([take(ledger, 7, b"two", dup=True)]) == [7]


def test_after_a_reconnect_a_redelivery_is_acknowledged_whatever_its_dup_flag() -> None:
    ledger = opened()
    ledger.settle([take(ledger, 7, b"one")])

    ledger.start_epoch()

    assert ledger.settle([take(ledger, 7, b"one", dup=True)]) == [7]


def test_settling_twice_acknowledges_once() -> None:
    ledger = opened()
    token, other = take(ledger, 1), take(ledger, 2)

    assert ledger.settle([token]) == [1]
    assert ledger.settle([token]) == []
    assert ledger.settle([other, other]) == [2]
    assert ledger.in_flight == 0


@given(st.data())
def test_for_any_schedule_the_acks_of_an_epoch_are_a_prefix_of_its_arrivals(data: st.DataObject) -> None:
    ledger = opened()
    arrived: list[int] = []
    acked: list[int] = []
    open_tokens: list[AckToken] = []
    packet_ids = iter(range(1, 60_000))
    for _ in range(data.draw(st.integers(1, 60))):
        step = data.draw(st.sampled_from(["arrive", "arrive", "settle", "reconnect"]))
        if step == "arrive":
            token = take(ledger, next(packet_ids))
            arrived.append(token.packet_id)
            open_tokens.append(token)
        elif step == "settle" and open_tokens:
            chosen = data.draw(st.lists(st.sampled_from(open_tokens), unique=True))
            open_tokens = [token for token in open_tokens if token not in chosen]
            acked += ledger.settle(chosen)
        elif step == "reconnect":
            ledger.start_epoch()
            arrived, acked = [], []
        assert acked == arrived[: len(acked)]
        assert ledger.in_flight == len(arrived) - len(acked)
        assert ledger.stale_deliveries == sum(token.epoch != ledger.epoch for token in open_tokens)
    acked += ledger.settle(open_tokens)
    assert acked == arrived
    assert (ledger.in_flight, ledger.stale_deliveries) == (0, 0)


@given(st.lists(st.tuples(st.integers(1, 4), st.booleans(), st.booleans()), max_size=80))
def test_with_reused_packet_ids_no_id_is_acknowledged_while_its_latest_message_is_unsettled(
    steps: list[tuple[int, bool, bool]],
) -> None:
    ledger = opened()
    unsettled: list[AckToken] = []
    for number, (packet_id, duplicate, settle_oldest) in enumerate(steps):
        token = ledger.issue_token(packet_id, duplicate, "t", str(number).encode())
        if token is not None:
            unsettled.append(token)
        if settle_oldest and unsettled:
            for released in ledger.settle([unsettled.pop(0)]):
                assert all(open_token.packet_id != released for open_token in unsettled)
