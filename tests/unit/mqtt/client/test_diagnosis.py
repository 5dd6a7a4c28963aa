"""Exceptions and first bytes become causes of the one table."""

from __future__ import annotations

import errno
import socket
import ssl
from collections import Counter

import mqtt5
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorsync.mqtt.client.causes import CAUSES, GuideSection, cause_of_reason_code
from sensorsync.mqtt.client.causes.codes import REASON_CODES
from sensorsync.mqtt.client.causes.network import CERTIFICATES, HANDSHAKE, NETWORK, TLS_FILES
from sensorsync.mqtt.client.causes.service import ACCESS, DELIVERY, LOGIN
from sensorsync.mqtt.client.diagnosis import cause_of_first_bytes, cause_of_os_error, cause_of_tls_error, is_tls_record

ALL = (*NETWORK, *CERTIFICATES, *HANDSHAKE, *TLS_FILES, *LOGIN, *ACCESS, *DELIVERY, *REASON_CODES)


def test_no_key_and_no_code_stands_twice_in_the_table() -> None:
    assert [key for key, count in Counter(one.key for one in ALL).items() if count > 1] == []
    codes = Counter(one.reason_code for one in ALL if one.reason_code is not None)
    assert [code for code, count in codes.items() if count > 1] == []


def test_every_failure_that_the_codec_knows_has_words_of_its_own() -> None:
    for kind in (mqtt5.ConnAckReasonCode, mqtt5.DisconnectReasonCode, mqtt5.SubAckReasonCode, mqtt5.PubAckReasonCode):
        for name in vars(kind):
            code = getattr(kind, name)
            if isinstance(code, kind) and int(code) >= 0x80 and name != "PACKET_ID_IN_USE":
                assert cause_of_reason_code(int(code)).key in CAUSES, name


@pytest.mark.parametrize(
    "cause", [one for one in ALL if one.section is not GuideSection.CODES], ids=lambda one: one.key
)
def test_every_cause_of_a_chapter_has_a_remedy(cause: object) -> None:
    assert getattr(cause, "hint", None)


@pytest.mark.parametrize(
    ("error", "key"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "name_unknown"),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), "name_server"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "x"), "refused"),
        (OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 1), [Errno 111] ..."), "refused"),
        (TimeoutError(), "timeout"),
        (OSError(errno.ETIMEDOUT, "x"), "timeout"),
        (OSError(errno.EHOSTUNREACH, "x"), "unreachable"),
        (OSError(errno.ENETUNREACH, "x"), "unreachable"),
        (ConnectionResetError(), "connection_lost"),
    ],
    ids=str,
)
def test_errors_of_the_network(error: OSError, key: str) -> None:
    assert cause_of_os_error(error).key == key


def tls_error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("reason", "key"),
    [
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "client_certificate_required"),
        ("TLSV1_ALERT_UNKNOWN_CA", "client_certificate_rejected"),
        ("SSLV3_ALERT_BAD_CERTIFICATE", "client_certificate_rejected"),
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", "client_certificate_rejected"),
        ("TLSV1_ALERT_PROTOCOL_VERSION", "tls_version"),
        ("UNSUPPORTED_PROTOCOL", "tls_version"),
        ("TLSV1_UNRECOGNIZED_NAME", "tls_server_name"),
        ("TLSV1_ALERT_NO_APPLICATION_PROTOCOL", "tls_alpn"),
        ("WRONG_VERSION_NUMBER", "plaintext_port"),
        ("record layer failure", "plaintext_port"),
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", "handshake_failed"),
        ("UNEXPECTED_EOF_WHILE_READING", "handshake_cut"),
        ("SOMETHING_NEW", "handshake_failed"),
    ],
)
def test_errors_of_the_handshake(reason: str, key: str) -> None:
    assert cause_of_tls_error(tls_error(reason), with_client_certificate=True).key == key


def test_a_certificate_that_nobody_sent_cannot_be_wrong() -> None:
    assert cause_of_tls_error(tls_error("SSLV3_ALERT_BAD_CERTIFICATE")).key == "client_certificate_required"


@pytest.mark.parametrize(
    ("code", "key"),
    [
        (9, "certificate_not_yet_valid"),
        (10, "certificate_expired"),
        (18, "certificate_self_signed"),
        (19, "certificate_authority"),
        (20, "certificate_authority"),
        (62, "certificate_name"),
        (64, "certificate_name"),
        (26, "certificate_rejected"),
    ],
)
def test_errors_of_the_certificate(code: int, key: str) -> None:
    error = ssl.SSLCertVerificationError(1, "x")
    error.verify_code = code
    assert cause_of_tls_error(error).key == key


@pytest.mark.parametrize(
    ("data", "key"),
    [
        (b"\x20\x02\x00\x01", "protocol_version"),
        (b"\x20\x02\x00\x05", "protocol_version"),
        (b"\x15\x03\x03\x00\x02\x02\x46", "tls_port"),
        (b"HTTP/1.1 400 Bad Request", "http_port"),
        (b"HT", "http_port"),
        (b"SSH-2.0-x", "not_mqtt"),
        (b"\x00", "not_mqtt"),
    ],
)
def test_first_bytes_that_are_not_mqtt_5(data: bytes, key: str) -> None:
    cause = cause_of_first_bytes(data)
    assert cause is not None
    assert cause.key == key


@given(st.integers(0, 80))
def test_a_connack_and_a_disconnect_are_never_mistaken_however_they_are_cut(length: int) -> None:
    for packet in (
        mqtt5.ConnAckPacket(),
        mqtt5.ConnAckPacket(reason_code=mqtt5.ConnAckReasonCode.BANNED, reason_str="x" * 60),
        mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.SERVER_BUSY),
    ):
        assert cause_of_first_bytes(packet.write()[:length]) is None
        assert not is_tls_record(packet.write()[:length])
