"""From an address to a connection: TCP, TLS and the MQTT handshake, or an error in words."""

from __future__ import annotations

import asyncio
import ssl

from sensorsync.mqtt.connection import Connection, Handler
from sensorsync.mqtt.options import ConnectOptions
from sensorsync.mqtt.reasons import BrokerRefused, BrokerUnavailable


async def connect(options: ConnectOptions, handler: Handler) -> Connection:
    """Connect and shake hands within `options.connect_timeout` seconds.

    Raises BrokerUnavailable (try again later) or BrokerRefused (don't).
    """
    where = options.where
    connection: Connection | None = None
    shaken = False
    try:
        async with asyncio.timeout(options.connect_timeout):
            loop = asyncio.get_running_loop()
            server_name = (options.server_name or options.host) if options.tls else None
            _, connection = await loop.create_connection(
                lambda: Connection(options, handler),
                options.host,
                options.port,
                ssl=options.tls,
                server_hostname=server_name,
                happy_eyeballs_delay=0.25,  # RFC 8305: a dead address must not cost us the living one
            )
            await asyncio.shield(connection.handshake)
        shaken = True
    except TimeoutError as error:
        raise BrokerUnavailable(
            f"broker {where} did not answer within {options.connect_timeout:g} s",
            hint="check mqtt.host and mqtt.port, and whether a firewall is in the way",
        ) from error
    except ssl.SSLCertVerificationError as error:
        raise BrokerRefused(
            f"the certificate of {where} was not accepted: {error.verify_message}",
            hint="set mqtt.tls.ca_file (CA_CERT_PATH) to the CA that signed it, and mqtt.host to a name that it carries",
        ) from error
    except ssl.SSLError as error:
        raise BrokerRefused(
            f"TLS with {where} failed: {error.reason or error}",
            hint="is this a TLS port? MQTT over TLS is usually on 8883",
        ) from error
    except OSError as error:
        raise BrokerUnavailable(
            f"broker {where} cannot be reached: {error.strerror or error}",
            hint="check mqtt.host and mqtt.port (MQTT_BROKER_HOST)",
        ) from error
    finally:
        if connection is not None and not shaken:
            connection.abort(None)
            connection.handshake.cancel()
    return connection
