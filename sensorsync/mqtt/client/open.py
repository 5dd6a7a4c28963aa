"""Opening of a connection. This is the one place that chooses the engine."""

from __future__ import annotations

from sensorsync.mqtt.client.base import BrokerConnection, ConnectionHandler
from sensorsync.mqtt.client.connect import connect_with_timeout
from sensorsync.mqtt.client.native import NativeConnection
from sensorsync.mqtt.client.options import ConnectOptions


async def open_connection(options: ConnectOptions, handler: ConnectionHandler) -> BrokerConnection:
    """Connect and complete the MQTT handshake within `options.connect_timeout` seconds.

    Raises BrokerUnavailable (try again later) or BrokerRefused (do not try again).
    """
    connection = (
        _make_paho_connection(options, handler) if options.engine == "paho" else NativeConnection(options, handler)
    )
    await connect_with_timeout(connection)
    return connection


def _make_paho_connection(options: ConnectOptions, handler: ConnectionHandler) -> BrokerConnection:
    from sensorsync.mqtt.client.paho import PahoConnection  # noqa: PLC0415 - it takes a sixth of a process's start-up time

    return PahoConnection(options, handler)
