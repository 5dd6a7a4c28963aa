"""Reason codes become errors with a cause and what to do."""

from __future__ import annotations

import mqtt5
import pytest

from sensorsync.mqtt.client.causes import cause_of_reason_code
from sensorsync.mqtt.client.errors import (
    BrokerRefused,
    BrokerUnavailable,
    SessionTakenOver,
    connack_error,
    disconnect_error,
    suback_error,
)
from sensorsync.mqtt.client.options import ConnectOptions

CONNACK_FAILURES = [
    code
    for name in dir(mqtt5.ConnAckReasonCode)
    if isinstance(code := getattr(mqtt5.ConnAckReasonCode, name), mqtt5.ConnAckReasonCode) and int(code) >= 0x80
]


def test_the_codec_has_failures_to_test() -> None:
    assert len(CONNACK_FAILURES) > 15


@pytest.mark.parametrize("code", CONNACK_FAILURES, ids=str)
def test_each_connack_failure_has_its_own_words(code: mqtt5.ConnAckReasonCode) -> None:
    error = connack_error("broker:1883", mqtt5.ConnAckPacket(reason_code=code, reason_str="because"))

    assert "broker:1883 refused the connection" in str(error)
    assert f"(0x{int(code):02X}): because" in str(error)
    assert "reason code" not in str(error)
    assert isinstance(error, BrokerRefused | BrokerUnavailable)


def test_a_wrong_password_is_lasting_and_a_busy_server_is_not() -> None:
    wrong = connack_error("b", mqtt5.ConnAckPacket(reason_code=mqtt5.ConnAckReasonCode.BAD_USER_NAME_OR_PASSWORD))
    busy = connack_error("b", mqtt5.ConnAckPacket(reason_code=mqtt5.ConnAckReasonCode.SERVER_BUSY))

    assert isinstance(wrong, BrokerRefused)
    assert isinstance(busy, BrokerUnavailable)


def test_a_session_taken_over_is_a_second_instance() -> None:
    packet = mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.SESSION_TAKEN_OVER)

    error = disconnect_error("b", packet)

    assert isinstance(error, SessionTakenOver)
    assert error.exit_code == 6


def test_missing_shared_subscriptions_are_reported() -> None:
    broker = ConnectOptions(host="b", port=1, client_id="me")

    error = suback_error(broker, "$share/g/t", mqtt5.SubAckReasonCode.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED)

    assert "shared subscriptions" in str(error)


def test_the_only_failure_that_mqtt_3_1_1_has_for_a_filter_is_taken_for_the_access_rules() -> None:
    old, new = (ConnectOptions(host="b", port=1, client_id="me", protocol=protocol) for protocol in ("3.1.1", "5"))

    assert "ACL" in str(suback_error(old, "t", mqtt5.SubAckReasonCode.UNSPECIFIED_ERROR).hint)
    assert "ACL" not in str(suback_error(new, "t", mqtt5.SubAckReasonCode.UNSPECIFIED_ERROR).hint)


def test_an_unknown_code_is_a_passing_fault() -> None:
    assert cause_of_reason_code(0xEE).permanent is False
    assert "0xEE" in cause_of_reason_code(0xEE).description
