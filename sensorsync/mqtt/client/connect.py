"""Connecting with a time-out, and the translation of each failure into an error with a cause."""

from __future__ import annotations

import asyncio
import ssl

from sensorsync.mqtt.client.base import BrokerConnection
from sensorsync.mqtt.client.causes import CAUSES
from sensorsync.mqtt.client.diagnosis import cause_of_os_error, cause_of_tls_error
from sensorsync.mqtt.client.errors import BrokerUnavailable, broker_error

_CUT_MESSAGE = "the connection was cut during the handshake, which is what a port without TLS does"


async def connect_with_timeout(connection: BrokerConnection) -> None:
    """Connect by TCP and TLS, send CONNECT and wait for CONNACK, within `connect_timeout` seconds of the connection's options.

    Raises BrokerUnavailable (try again later) or BrokerRefused (do not try again).
    """
    options = connection.options
    where = options.address
    connect_task: asyncio.Task[None] | None = None
    shaken = False
    try:
        async with asyncio.timeout(options.connect_timeout):
            connect_task = asyncio.get_running_loop().create_task(connection.connect())
            # If asyncio's race between addresses is cancelled after one has connected, that one's socket stays open.
            await asyncio.shield(connect_task)
            await asyncio.shield(connection.handshake)
        shaken = True
    except TimeoutError as error:
        message = f"broker {where} did not answer within {options.connect_timeout:g} s"
        raise BrokerUnavailable(message, cause=CAUSES["timeout"]) from error
    except ssl.SSLError as error:
        cause = cause_of_tls_error(error, with_client_certificate=options.has_client_certificate)
        raise broker_error(
            cause, f"TLS with broker {where} failed: {cause.description} ({_openssl_text(error)})"
        ) from error
    except OSError as error:
        cut = options.tls is not None and isinstance(error, ConnectionResetError | ConnectionAbortedError)
        if cut:
            raise BrokerUnavailable(
                f"TLS with broker {where} failed: {_CUT_MESSAGE}", cause=CAUSES["plaintext_port"]
            ) from error
        message = f"broker {where} cannot be reached: {error.strerror or error}"
        raise BrokerUnavailable(message, cause=cause_of_os_error(error)) from error
    finally:
        if not shaken:
            connection.handshake.cancel()
            connection.abort(None)
            if connect_task is not None and not connect_task.done():
                connect_task.add_done_callback(lambda task: _abort_if_connected(task, connection))


def _openssl_text(error: ssl.SSLError) -> str:
    """Return OpenSSL's own text, because people search the web for it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    return error.reason or str(error)


def _abort_if_connected(connect_task: asyncio.Task[None], connection: BrokerConnection) -> None:
    """Abort a connection that was opened after its caller stopped waiting."""
    if not connect_task.cancelled() and connect_task.exception() is None:
        connection.abort(None)
