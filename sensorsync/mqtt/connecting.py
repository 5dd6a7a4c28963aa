"""From an address to a connection: TCP, TLS and the MQTT handshake, or an error in words."""

from __future__ import annotations

import asyncio
import ssl

from sensorsync.mqtt.causes import CAUSES
from sensorsync.mqtt.connection import Connection, Handler
from sensorsync.mqtt.diagnosis import of_os_error, of_tls_error
from sensorsync.mqtt.options import ConnectOptions
from sensorsync.mqtt.reasons import BrokerUnavailable, broker_error

_CUT = "the connection was cut during the handshake, which is what a port without TLS does"


async def connect(options: ConnectOptions, handler: Handler) -> Connection:
    """Connect and shake hands within `options.connect_timeout` seconds.

    Raises BrokerUnavailable (try again later) or BrokerRefused (don't).
    """
    where = options.where
    connection = Connection(options, handler)
    dialling: asyncio.Task[object] | None = None
    shaken = False
    try:
        async with asyncio.timeout(options.connect_timeout):
            loop = asyncio.get_running_loop()
            server_name = (options.server_name or options.host) if options.tls else None
            dialling = loop.create_task(
                loop.create_connection(
                    lambda: connection,
                    options.host,
                    options.port,
                    ssl=options.tls,
                    server_hostname=server_name,
                    happy_eyeballs_delay=0.25,  # RFC 8305: a dead address must not cost us the living one
                )
            )
            # A race of addresses that is cancelled after somebody won leaves the winner's socket open: let it end by itself.
            await asyncio.shield(dialling)
            await asyncio.shield(connection.handshake)
        shaken = True
    except TimeoutError as error:
        message = f"broker {where} did not answer within {options.connect_timeout:g} s"
        raise BrokerUnavailable(message, cause=CAUSES["timeout"]) from error
    except ssl.SSLError as error:
        cause = of_tls_error(error, with_certificate=options.has_certificate)
        raise broker_error(cause, f"TLS with broker {where} failed: {cause.cause} ({_words(error)})") from error
    except OSError as error:
        cut = options.tls is not None and isinstance(error, ConnectionResetError | ConnectionAbortedError)
        if cut:
            raise BrokerUnavailable(
                f"TLS with broker {where} failed: {_CUT}", cause=CAUSES["plaintext_port"]
            ) from error
        message = f"broker {where} cannot be reached: {error.strerror or error}"
        raise BrokerUnavailable(message, cause=of_os_error(error)) from error
    finally:
        if not shaken:
            connection.handshake.cancel()
            connection.abort(None)
            if dialling is not None and not dialling.done():
                dialling.add_done_callback(lambda task: _drop(task, connection))
    return connection


def _words(error: ssl.SSLError) -> str:
    """OpenSSL's own words: people search the web for them."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    return error.reason or str(error)


def _drop(dialling: asyncio.Task[object], connection: Connection) -> None:
    """Nobody waits for this connection any more."""
    if not dialling.cancelled() and dialling.exception() is None:
        connection.abort(None)
