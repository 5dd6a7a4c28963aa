"""A broker that hangs up instead of answering CONNECT says nothing about why. Some of it can be found out.

Neither question carries user name or password.
"""

from __future__ import annotations

import asyncio
import ssl

from sensorsync.mqtt.check.handshake import handshake, raw_connection
from sensorsync.mqtt.client.causes import CAUSES, Cause
from sensorsync.mqtt.client.diagnosis import of_first_bytes, speaks_tls
from sensorsync.mqtt.client.options import ConnectOptions

_CONNECT_OF_3_1_1 = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x0a\x00\x00"
"""CONNECT of MQTT 3.1.1 (section 3.1): a clean session, an empty client id, 10 s of keep-alive, no user name, no password."""


async def cause_of_hang_up(options: ConnectOptions) -> Cause:
    """Why the broker hangs up on our CONNECT; `closed_at_connect` when that can't be told."""
    if options.tls is None and await _speaks_tls(options):
        return CAUSES["tls_port"]
    answer = await _answer_to(_CONNECT_OF_3_1_1, options)
    return of_first_bytes(answer) or CAUSES["closed_at_connect"]


async def _speaks_tls(options: ConnectOptions) -> bool:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        return speaks_tls(bytes((await handshake(options, context)).first))
    except OSError:
        return False


async def _answer_to(packet: bytes, options: ConnectOptions) -> bytes:
    try:
        async with raw_connection(options, options.tls) as (reader, writer), asyncio.timeout(options.connect_timeout):
            writer.write(packet)
            return await reader.read(16)
    except OSError:
        return b""
