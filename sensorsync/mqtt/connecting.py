"""Which engine it is: the one place that chooses."""

from __future__ import annotations

from sensorsync.mqtt.connection import Connection
from sensorsync.mqtt.conversation import Conversation, Handler
from sensorsync.mqtt.dialling import establish
from sensorsync.mqtt.options import ConnectOptions


async def connect(options: ConnectOptions, handler: Handler) -> Conversation:
    """Connect and shake hands within `options.connect_timeout` seconds.

    Raises BrokerUnavailable (try again later) or BrokerRefused (don't).
    """
    connection = _paho(options, handler) if options.engine == "paho" else Connection(options, handler)
    await establish(connection)
    return connection


def _paho(options: ConnectOptions, handler: Handler) -> Conversation:
    from sensorsync.mqtt.paho import PahoConnection  # noqa: PLC0415 - a sixth of the time that a process takes to start

    return PahoConnection(options, handler)
