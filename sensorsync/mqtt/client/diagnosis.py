"""Causes of failed connections, derived from an exception or from the first bytes of a peer. These functions do no I/O."""

from __future__ import annotations

import errno
import socket
import ssl
from typing import Final

from sensorsync.mqtt.client.causes import CAUSES, Cause

# X509_V_ERR_* of OpenSSL's x509_vfy.h.
_CAUSES_BY_VERIFY_CODE: Final = {
    2: "certificate_authority",  # unable to get issuer certificate
    7: "certificate_authority",  # signature failure: another authority of the same name
    9: "certificate_not_yet_valid",
    10: "certificate_expired",
    18: "certificate_self_signed",
    19: "certificate_authority",  # self-signed certificate in chain
    20: "certificate_authority",  # unable to get local issuer certificate
    21: "certificate_authority",  # unable to verify the first certificate
    62: "certificate_name",
    64: "certificate_name",  # IP address mismatch
}
# Beginnings or parts of OpenSSL's reason strings; the first match counts.
_CAUSES_BY_TLS_REASON: Final = (
    ("CERTIFICATE_REQUIRED", "client_certificate_required"),
    ("ALERT_UNKNOWN_CA", "client_certificate_rejected"),
    ("ALERT_BAD_CERTIFICATE", "client_certificate_rejected"),
    ("ALERT_CERTIFICATE", "client_certificate_rejected"),
    ("ALERT_UNSUPPORTED_CERTIFICATE", "client_certificate_rejected"),
    ("ALERT_DECRYPT_ERROR", "client_certificate_rejected"),
    ("ALERT_ACCESS_DENIED", "client_certificate_rejected"),
    ("PROTOCOL_VERSION", "tls_version"),
    ("UNSUPPORTED_PROTOCOL", "tls_version"),
    ("NO_PROTOCOLS_AVAILABLE", "tls_version"),
    ("WRONG_SSL_VERSION", "tls_version"),
    ("VERSION_TOO_LOW", "tls_version"),
    ("UNRECOGNIZED_NAME", "tls_server_name"),
    ("NO_APPLICATION_PROTOCOL", "tls_alpn"),
    ("WRONG_VERSION_NUMBER", "plaintext_port"),
    ("UNKNOWN_PROTOCOL", "plaintext_port"),
    ("PACKET_LENGTH_TOO_LONG", "plaintext_port"),
    ("RECORD_LAYER_FAILURE", "plaintext_port"),
    ("HTTP_REQUEST", "plaintext_port"),
    ("EOF", "handshake_cut"),
)
_TLS_RECORDS: Final = frozenset({0x14, 0x15, 0x16, 0x17})
_CONNACK: Final = 0x20
_DISCONNECT: Final = 0xE0
_MQTT_3_1_1_CONNACK: Final = bytes([_CONNACK, 2])
"""Type and length of a CONNACK up to MQTT 3.1.1. A CONNACK of MQTT 5 is always longer, because it has properties."""


def cause_of_os_error(error: OSError, *, in_handshake: bool = False) -> Cause:
    """Return the cause that makes a name or an address unreachable. `in_handshake`: TCP was already connected."""
    if isinstance(error, socket.gaierror):
        return CAUSES["name_server" if error.errno == socket.EAI_AGAIN else "name_unknown"]
    if isinstance(error, TimeoutError):
        return CAUSES["timeout"]
    # When several addresses fail with different texts, asyncio raises one error for all, without an errno.
    if isinstance(error, ConnectionRefusedError) or f"[Errno {errno.ECONNREFUSED}]" in str(error):
        return CAUSES["refused"]
    if error.errno in {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL}:
        return CAUSES["unreachable"]
    if isinstance(error, ConnectionError):
        return CAUSES["handshake_cut" if in_handshake else "connection_lost"]
    return CAUSES["unreachable"]


def cause_of_tls_error(error: ssl.SSLError, *, with_client_certificate: bool = False) -> Cause:
    """Return the cause of a failed TLS handshake. `with_client_certificate`: we presented a client certificate."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return CAUSES[_CAUSES_BY_VERIFY_CODE.get(error.verify_code, "certificate_rejected")]
    reason = (error.reason or "").upper().replace(" ", "_")
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        reason = "EOF"
    key = next((key for part, key in _CAUSES_BY_TLS_REASON if part in reason), "handshake_failed")
    if key == "client_certificate_rejected" and not with_client_certificate:
        key = "client_certificate_required"  # OpenSSL before 3.2 and others report it this way
    return CAUSES[key]


def cause_of_first_bytes(data: bytes) -> Cause | None:
    """Return the cause when `data`, the beginning of the answer to CONNECT, is not an answer of MQTT 5.

    Returns None when it may still become one.
    """
    if not data or data[0] == _DISCONNECT:
        return None
    if data[0] == _CONNACK:
        return CAUSES["protocol_version"] if data[:2] == _MQTT_3_1_1_CONNACK else None
    if is_tls_record(data):
        return CAUSES["tls_port"]
    return CAUSES["http_port" if b"HTTP/".startswith(data[:5]) else "not_mqtt"]


def is_tls_record(data: bytes) -> bool:
    """Return True when a peer's first bytes are a TLS record (RFC 8446, section 5.1)."""
    return len(data) >= 2 and data[0] in _TLS_RECORDS and data[1] == 3
