"""What our CONNECT states."""

from __future__ import annotations

import pytest

from sensorsync.mqtt.client.options import ConnectOptions

RECEIVE_MAXIMUM = 0x21


@pytest.mark.parametrize(("wanted", "stated"), [(32, 32), (65_534, 65_534), (65_535, 65_534)])
def test_a_receive_maximum_is_always_stated_because_a_broker_may_take_a_small_one_where_there_is_none(
    wanted: int, stated: int
) -> None:
    packet = ConnectOptions("broker", 1883, "a-client", receive_maximum=wanted).connect_packet().write()

    assert bytes([RECEIVE_MAXIMUM]) + stated.to_bytes(2, "big") in packet
