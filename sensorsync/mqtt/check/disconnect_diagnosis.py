"""Diagnosis of a broker that closes the connection instead of answering CONNECT, and gives no reason.

Two requests to the broker find some of the causes. Neither carries user name or password.
"""

from __future__ import annotations

import asyncio
import ssl

from sensorsync.mqtt.check.handshake import open_raw_connection, tls_handshake
from sensorsync.mqtt.client.causes import CAUSES, Cause
from sensorsync.mqtt.client.diagnosis import cause_of_first_bytes, is_tls_record
from sensorsync.mqtt.client.options import ConnectOptions

_MQTT_3_1_1_CONNECT = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x0a\x00\x00"
"""CONNECT of MQTT 3.1.1 (section 3.1): a clean session, an empty client id, 10 s of keep-alive, no user name, no password."""


async def diagnose_disconnect(options: ConnectOptions) -> Cause:
    """Return the cause that makes the broker close the connection on CONNECT, or `closed_at_connect` when it cannot be
    determined.
    """
    if options.tls is None and await _port_speaks_tls(options):
        return CAUSES["tls_port"]
    answer = await _response_to(_MQTT_3_1_1_CONNECT, options)
    return cause_of_first_bytes(answer) or CAUSES["closed_at_connect"]


async def _port_speaks_tls(options: ConnectOptions) -> bool:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        return is_tls_record(bytes((await tls_handshake(options, context)).first_bytes))
    except OSError:
        return False


async def _response_to(packet: bytes, options: ConnectOptions) -> bytes:
    try:
        async with (
            open_raw_connection(options, options.tls) as (reader, writer),
            asyncio.timeout(options.connect_timeout),
        ):
            writer.write(packet)
            return await reader.read(16)
    except OSError:
        return b""
