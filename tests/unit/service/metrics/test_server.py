"""The HTTP server: its responses, the requests that it rejects, and slow clients."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from sensorsync.config.sections.metrics import parse_listen_address
from sensorsync.errors import ConfigurationError, ExitCode
from sensorsync.service.metrics import server
from sensorsync.service.metrics.aggregator import MetricsAggregator
from tests.services.process import free_port
from tests.unit.service.metrics.process_reports import sample_report

Story = Callable[[int, MetricsAggregator], Awaitable[None]]


def play(story: Story) -> None:
    """Serve the aggregator of one healthy process, and run the story."""

    async def scene() -> None:
        aggregator, port = MetricsAggregator(1), free_port()
        aggregator.update(0, sample_report(10))
        async with server.metrics_server(f"127.0.0.1:{port}", aggregator):
            await story(port, aggregator)

    asyncio.run(scene())


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def ask(port: int, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body."""
    async with asyncio.timeout(5), connected(port) as (reader, writer):
        writer.write(request + b"\r\n\r\n")
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    line, *rest = head.decode().split("\r\n")
    return int(line.split()[1]), dict(header.split(": ", 1) for header in rest), body


def test_it_serves_metrics_health_and_readiness() -> None:
    async def story(port: int, aggregator: MetricsAggregator) -> None:
        status, headers, body = await ask(port, b"GET /metrics HTTP/1.1\r\nHost: x")
        assert (status, headers["Content-Length"]) == (200, str(len(body)))
        assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert b"\nsensorsync_rows_stored_total 10.0\n" in body
        _, headers, body = await ask(
            port, b"GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text;version=1.0.0"
        )
        assert headers["Content-Type"].startswith("application/openmetrics-text")
        assert body.endswith(b"# EOF\n")
        assert (await ask(port, b"GET /healthz?verbose HTTP/1.1"))[::2] == (200, b"OK\n")

        status, headers, body = await ask(port, b"GET /readyz HTTP/1.1")
        assert (status, headers["Content-Type"], json.loads(body)["ready"]) == (200, "application/json", True)
        aggregator.update(0, sample_report(links=0))
        status, _, body = await ask(port, b"GET /readyz HTTP/1.1")
        assert (status, json.loads(body)["ready"]) == (503, False)
        assert json.loads(body)["checks"]["broker"] == "no connection to the broker"
        assert json.loads(body)["checks"]["database"] == "ok"
        assert (await ask(port, b"GET /healthz HTTP/1.1"))[0] == 200

    play(story)


def test_a_process_that_serves_its_own_metrics_reports_at_each_request() -> None:
    async def story(port: int, aggregator: MetricsAggregator) -> None:
        aggregator.request_report = lambda: aggregator.update(0, sample_report(77))
        assert b"\nsensorsync_rows_stored_total 77.0\n" in (await ask(port, b"GET /metrics HTTP/1.1"))[2]

    play(story)


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /nothing HTTP/1.1", 404),
        (b"GET /metrics/.. HTTP/1.1", 404),
        (b"POST /metrics HTTP/1.1", 405),
        (b"hello", 400),
        (b"\xff\xfe", 400),
        (b"GET /\xff HTTP/1.1", 404),
        (b"GET /metrics HTTP/1.1\r\n" + b"\r\n".join([b"A: b"] * 200), 400),
    ],
)
def test_other_requests_are_rejected(request_line: bytes, status: int) -> None:
    async def story(port: int, _: MetricsAggregator) -> None:
        assert (await ask(port, request_line))[0] == status

    play(story)


def test_head_is_answered_without_a_body() -> None:
    async def story(port: int, _: MetricsAggregator) -> None:
        assert (await ask(port, b"HEAD /healthz HTTP/1.1"))[2] == b""

    play(story)


def test_a_request_without_end_is_disconnected() -> None:
    async def story(port: int, _: MetricsAggregator) -> None:
        async with asyncio.timeout(5), connected(port) as (reader, writer):
            writer.write(b"GET /" + b"x" * 100_000)
            assert await _rest(reader) == b""
        assert (await ask(port, b"GET /healthz HTTP/1.1"))[0] == 200

    play(story)


def test_slow_clients_are_disconnected_and_do_not_delay_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_TIMEOUT", 1.0)

    async def story(port: int, _board: MetricsAggregator) -> None:
        began = time.monotonic()
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(server.MAX_CONNECTIONS - 1)]
        for _, writer in silent:
            writer.write(b"GET /metrics HTTP/1.1\r\n")
        assert (await ask(port, b"GET /healthz HTTP/1.1"))[0] == 200
        assert time.monotonic() - began > 0.9 or not any(reader.at_eof() for reader, _ in silent)
        for reader, writer in silent:
            async with asyncio.timeout(5):
                assert await _rest(reader) == b""
            writer.transport.abort()

    play(story)


def test_connections_above_the_maximum_are_closed_at_once() -> None:
    async def story(port: int, _board: MetricsAggregator) -> None:
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(server.MAX_CONNECTIONS)]
        async with asyncio.timeout(5), connected(port) as (refused, _):
            assert await _rest(refused) == b""
        for _, writer in held:
            writer.transport.abort()
        async with asyncio.timeout(5):
            while not await _is_let_in(port):
                pass

    play(story)


async def _is_let_in(port: int) -> bool:
    async with connected(port) as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\n\r\n")
        return (await _rest(reader)).startswith(b"HTTP/1.1 200")


async def _rest(reader: asyncio.StreamReader) -> bytes:
    """Read until the end of the connection, even if it is reset."""
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


def test_a_port_that_is_taken_is_a_configuration_error_that_names_the_setting() -> None:
    async def story(port: int, aggregator: MetricsAggregator) -> None:
        with pytest.raises(ConfigurationError, match=f"metrics.listen: cannot listen on 127.0.0.1:{port}") as caught:
            async with server.metrics_server(f"127.0.0.1:{port}", aggregator):
                pass
        assert "another program has this port" in str(caught.value)
        assert caught.value.exit_code is ExitCode.USAGE

    play(story)


def test_an_address_of_another_machine_is_a_configuration_error() -> None:
    async def scene() -> None:
        with pytest.raises(ConfigurationError, match=r"cannot listen on 192\.0\.2\.1"):
            async with server.metrics_server("192.0.2.1:9464", MetricsAggregator(1)):
                pass

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("9464", ("127.0.0.1", 9464)),
        (":9464", ("0.0.0.0", 9464)),  # noqa: S104 - nothing listens there
        ("localhost:1", ("localhost", 1)),
        ("[::1]:9464", ("::1", 9464)),
    ],
)
def test_an_address_may_be_short(text: str, address: tuple[str, int]) -> None:
    assert parse_listen_address(text) == address


@pytest.mark.parametrize("text", ["", "x", "host:", "host:0", "70000", "a b:1", "::1:9464", "http://x:1"])
def test_an_invalid_address_is_reported(text: str) -> None:
    with pytest.raises(ValueError, match="must be HOST:PORT"):
        parse_listen_address(text)
