"""Which engine it is: the one place that chooses."""

from __future__ import annotations

from sensorsync.mqtt.client.base import Conversation, Handler
from sensorsync.mqtt.client.establish import establish
from sensorsync.mqtt.client.native import Connection
from sensorsync.mqtt.client.options import ConnectOptions


async def connect(options: ConnectOptions, handler: Handler) -> Conversation:
    """Connect and shake hands within `options.connect_timeout` seconds.

    Raises BrokerUnavailable (try again later) or BrokerRefused (don't).
    """
    connection = _paho(options, handler) if options.engine == "paho" else Connection(options, handler)
    await establish(connection)
    return connection


def _paho(options: ConnectOptions, handler: Handler) -> Conversation:
    from sensorsync.mqtt.client.paho import PahoConnection  # noqa: PLC0415 - a sixth of the time that a process takes to start

    return PahoConnection(options, handler)
