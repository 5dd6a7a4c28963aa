"""The HTTP server of /metrics, /healthz and /readyz, on the event loop.

An answer shows that the loop is alive. The server reads one small request for each connection, answers and closes the connection.
A client that sends or receives too slowly is disconnected, and nothing else waits for it.
"""

from __future__ import annotations

import asyncio
import errno
import http.client
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from io import BytesIO
from typing import Final, NamedTuple

from sensorsync.config.sections.metrics import parse_listen_address
from sensorsync.errors import ConfigurationError
from sensorsync.service.metrics.aggregator import MetricsAggregator
from sensorsync.service.metrics.exposition import exposition

logger = logging.getLogger(__name__)

REQUEST_TIMEOUT: Final = 5.0
"""Seconds for a client to send its request and to receive the answer."""
MAX_CONNECTIONS: Final = 32
"""Maximum number of open connections. Further ones are closed at once."""
_MAX_HEADER_BYTES: Final = 8192
_TEXT_PLAIN: Final = "text/plain; charset=utf-8"


class HttpResponse(NamedTuple):
    """The response to one request."""

    status: HTTPStatus
    content_type: str
    body: bytes


@asynccontextmanager
async def metrics_server(listen: str, aggregator: MetricsAggregator) -> AsyncIterator[None]:
    """Serve `aggregator` on HOST:PORT until the block ends. Raises ConfigurationError when the address cannot be used."""
    host, port = parse_listen_address(listen)
    clients: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(clients) >= MAX_CONNECTIONS:
            writer.transport.abort()
            return

        def ended(task: asyncio.Task[None]) -> None:
            clients.discard(task)
            writer.transport.abort()  # here, so that it also runs for a task that is cancelled before it starts

        task = asyncio.get_running_loop().create_task(_handle_client(aggregator, reader, writer))
        clients.add(task)
        task.add_done_callback(ended)

    try:
        server = await asyncio.start_server(connected, host, port, limit=_MAX_HEADER_BYTES)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        why = "another program has this port" if taken else error.strerror or str(error)
        raise ConfigurationError(
            f"metrics.listen: cannot listen on {listen}: {why}", hint="Choose another port with --metrics HOST:PORT."
        ) from None
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    logger.info("metrics and health on http://%s", where, extra={"event": "metrics_served", "address": where})
    try:
        yield
    finally:
        server.close()
        for task in clients:
            task.cancel()
        await asyncio.gather(*clients, return_exceptions=True)


async def _handle_client(
    aggregator: MetricsAggregator, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    try:
        async with asyncio.timeout(REQUEST_TIMEOUT):
            with suppress(
                OSError, EOFError, asyncio.LimitOverrunError
            ):  # the client disconnected, or it does not speak HTTP
                writer.write(_response_bytes(aggregator, await reader.readuntil(b"\r\n\r\n")))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
    except TimeoutError:
        logger.debug("a client of metrics.listen timed out", extra={"event": "metrics_client_slow"})


def _response_bytes(aggregator: MetricsAggregator, head: bytes) -> bytes:
    """Return the complete response to a request whose request line and headers are `head`."""
    line, _, rest = head.partition(b"\r\n")
    method = b"GET"
    try:
        method, target, _ = line.split(b" ")
        accept = http.client.parse_headers(BytesIO(rest)).get("Accept", "")
    except (ValueError, http.client.HTTPException):
        answered = _text_response(HTTPStatus.BAD_REQUEST)
    else:
        known = method in {b"GET", b"HEAD"}
        answered = (
            handle_request(aggregator, target.decode("latin-1"), accept)
            if known
            else _text_response(HTTPStatus.METHOD_NOT_ALLOWED)
        )
    headers = (
        f"HTTP/1.1 {answered.status.value} {answered.status.phrase}\r\nContent-Type: {answered.content_type}\r\n"
        f"Content-Length: {len(answered.body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return headers.encode("latin-1") + (b"" if method == b"HEAD" else answered.body)


def handle_request(aggregator: MetricsAggregator, target: str, accept: str = "") -> HttpResponse:
    """Return the response for `target`, a path that may have a query."""
    match target.partition("?")[0]:
        case "/metrics":
            aggregator.request_report()
            body, content_type = exposition(aggregator, accept)
            return HttpResponse(HTTPStatus.OK, content_type, body)
        case "/healthz":
            return _text_response(HTTPStatus.OK)
        case "/readyz":
            aggregator.request_report()
            checks = aggregator.checks()
            ready = not any(checks.values())
            document = {"ready": ready, "checks": {check: problem or "ok" for check, problem in checks.items()}}
            status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
            return HttpResponse(status, "application/json", json.dumps(document, indent=2).encode() + b"\n")
        case "/":
            return HttpResponse(HTTPStatus.OK, _TEXT_PLAIN, b"/metrics\n/healthz\n/readyz\n")
        case _:
            return _text_response(HTTPStatus.NOT_FOUND)


def _text_response(status: HTTPStatus) -> HttpResponse:
    return HttpResponse(status, _TEXT_PLAIN, f"{status.phrase}\n".encode())
