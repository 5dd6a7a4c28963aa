"""What both engines promise, whatever they speak and over what: one suite over mosquitto, native and paho."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sensorsync.config import Settings
from sensorsync.errors import SensorsyncError
from sensorsync.mqtt.client import open as connecting
from sensorsync.mqtt.client.errors import BrokerRefused, BrokerUnavailable
from sensorsync.mqtt.client.options import connect_options
from sensorsync.mqtt.client.paho import connection
from sensorsync.mqtt.client.paho.connection import _NullHandler as Nobody
from sensorsync.mqtt.publisher.feed import Burst
from sensorsync.mqtt.publisher.publisher import Publisher
from sensorsync.mqtt.subscriber.source import MqttSource
from sensorsync.pipeline.contract import AckToken, Delivery
from sensorsync.pipeline.counters import PipelineCounters
from sensorsync.runtime.backoff import Backoff
from tests.conftest import Certificates, Mosquitto, need

pytestmark = pytest.mark.broker


class Route(NamedTuple):
    """An engine, what it speaks, and over what."""

    client: str
    protocol: str
    carrier: str


ROUTES = [
    *(Route("native", "5", carrier) for carrier in ("tcp", "tls")),
    *(Route("paho", "5", carrier) for carrier in ("tcp", "tls", "ws", "wss")),
    *(Route("paho", "3.1.1", carrier) for carrier in ("tcp", "wss")),
]
each_route = pytest.mark.parametrize("route", ROUTES, ids=" ".join)
each_dialect = pytest.mark.parametrize(
    "route",  # mosquitto is slow with WebSockets
    [Route("native", "5", "tcp"), Route("paho", "5", "tls"), Route("paho", "3.1.1", "wss")],
    ids=" ".join,
)


@pytest.fixture(scope="module")
def broker(certificates: Certificates) -> Iterator[Mosquitto]:
    need(Mosquitto)
    with Mosquitto(tls=certificates, websockets=True, users={"sensors": "right"}) as broker:
        yield broker


class Place:
    """The settings of one test: its own topics, client ids and state."""

    def __init__(self, broker: Mosquitto, route: Route, state: Path) -> None:
        self.topic = f"t/{secrets.token_hex(4)}"
        self._broker = broker
        self._route = route
        self._state = state

    def settings(self, **mqtt: object) -> Settings:
        secure = self._route.carrier in {"tls", "wss"}
        ports = {
            "tcp": self._broker.port,
            "tls": self._broker.tls_port,
            "ws": self._broker.websocket_port,
            "wss": self._broker.secure_websocket_port,
        }
        return Settings.model_validate(
            {
                "mqtt": {
                    "client": self._route.client,
                    "protocol": self._route.protocol,
                    "transport": "websockets" if self._route.carrier in {"ws", "wss"} else "tcp",
                    "host": "localhost" if secure else "127.0.0.1",
                    "port": ports[self._route.carrier],
                    "tls": {"ca_file": self._broker.tls.authority} if secure and self._broker.tls else {},
                    "username": "sensors",
                    "password": "right",
                    "instance": self.topic.replace("/", "-"),
                    "group": self.topic.replace("/", "-"),
                    "topics": [self.topic],
                    "connections": 1,
                    "drain_quiet": 0.1,
                    "backoff_min": 0.01,
                    "backoff_max": 0.1,
                    **mqtt,
                },
                "state_dir": str(self._state),
            }
        )


@pytest.fixture
def place(broker: Mosquitto, route: Route, tmp_path: Path) -> Place:
    return Place(broker, route, tmp_path)


class Given:
    """A feed of these payloads."""

    def __init__(self, payloads: Sequence[bytes]) -> None:
        self._left = list(payloads)

    @property
    def exhausted(self) -> bool:
        return not self._left

    def take(self, limit: int, now: float) -> Burst:
        taken, self._left = self._left[:limit], self._left[limit:]
        return Burst(taken, repeat(now))

    def due_in(self, now: float) -> float:
        return 0.0


class Basin:
    """An inlet that keeps everything, and settles it at once if it is told to."""

    def __init__(self, source: MqttSource, *, settling: bool) -> None:
        self.source = source
        self.settling = settling
        self.deliveries: list[Delivery] = []
        self.failure: BaseException | None = None

    @property
    def payloads(self) -> list[bytes]:
        return [delivery.payload for delivery in self.deliveries]

    @property
    def tokens(self) -> list[AckToken]:
        return [delivery.token for delivery in self.deliveries if delivery.token is not None]

    def holds(self, token: AckToken) -> bool:
        return True

    def receive(self, deliveries: Sequence[Delivery], *, more: bool) -> None:
        self.deliveries += deliveries
        if self.settling:
            self.source.settle([delivery.token for delivery in deliveries if delivery.token is not None])

    def fail(self, error: BaseException) -> None:
        self.failure = error

    async def holds_so_many(self, count: int) -> None:
        await until(lambda: len(self.deliveries) >= count)

    def drop_connection(self) -> None:
        self.source._links[0].reconnect("test")

    def forget(self) -> list[AckToken]:
        tokens = self.tokens
        self.deliveries.clear()
        return tokens


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come true")


@asynccontextmanager
async def subscribed(settings: Settings, *, settling: bool = True) -> AsyncIterator[Basin]:
    source = MqttSource(settings, PipelineCounters(0.0))
    basin = Basin(source, settling=settling)
    try:
        await source.start(basin)
        yield basin
    finally:
        source.stop_receiving()
        await source.close()


async def publish(place: Place, payloads: Sequence[bytes], **more: Any) -> None:
    async with publisher(place, payloads, **more) as made:
        await made.connect()
        await made.publish()
        assert (made.stats.sent, made.stats.acked, made.error) == (len(payloads), len(payloads), None)


def publisher(place: Place, payloads: Sequence[bytes], **more: Any) -> Publisher:
    options = connect_options(place.settings(ephemeral=True), f"publisher-{secrets.token_hex(4)}")
    more = {"window": 100, "backoff": lambda: Backoff(0.01, 0.05), **more}
    return Publisher([(options, repeat(place.topic), Given(payloads))], **more)


def numbered(count: int, prefix: bytes = b"") -> list[bytes]:
    return [prefix + b"%d" % number for number in range(count)]


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


@each_route
def test_every_message_arrives_whole_and_in_order_and_what_is_settled_does_not_come_again(place: Place) -> None:
    payloads = [*numbered(150), bytes(range(256)) * 40, b""]

    async def scenario() -> None:
        async with subscribed(place.settings()) as basin:
            await publish(place, payloads)
            await basin.holds_so_many(len(payloads))
            assert basin.payloads == payloads
            assert {(one.topic, one.qos) for one in basin.deliveries} == {(place.topic, 1)}
        async with subscribed(place.settings()) as again:
            await publish(place, [b"fresh"])
            await again.holds_so_many(1)
            assert again.payloads == [b"fresh"]

    run(scenario())


@each_dialect
def test_what_is_not_settled_comes_again_and_a_token_of_the_old_connection_pays_nothing_on_the_new_one(
    place: Place,
) -> None:
    async def scenario() -> None:
        async with subscribed(place.settings(), settling=False) as basin:
            await publish(place, numbered(5))
            await basin.holds_so_many(5)
            late = basin.forget()

            basin.drop_connection()
            await basin.holds_so_many(5)
            basin.source.settle(late)  # the broker uses the same packet ids again
            basin.forget()

            basin.drop_connection()
            await basin.holds_so_many(5)
            assert basin.payloads == numbered(5)

            basin.source.settle(basin.forget())
            await basin.source._links[0].connection.ping(5)  # type: ignore[union-attr]
            basin.drop_connection()
            await until(lambda: basin.source.connected)
            await publish(place, [b"fresh"])
            await basin.holds_so_many(1)
            assert basin.payloads == [b"fresh"]

    run(scenario())


@each_dialect
def test_no_more_than_the_receive_maximum_is_taken_before_something_is_settled(place: Place) -> None:
    async def scenario() -> None:
        async with subscribed(place.settings(receive_maximum=10), settling=False) as basin:
            await publish(place, numbered(30))
            await basin.holds_so_many(10)
            await asyncio.sleep(0.05)  # more would come now
            assert len(basin.deliveries) == 10

            basin.settling = True
            basin.source.settle(basin.tokens)
            await basin.holds_so_many(30)
            assert basin.payloads == numbered(30)

    run(scenario())


@each_dialect
def test_paused_nothing_is_taken_and_resumed_all_that_waited(place: Place) -> None:
    async def scenario() -> None:
        async with subscribed(place.settings()) as basin:
            basin.source.pause()
            await publish(place, numbered(50))
            await asyncio.sleep(0.05)
            assert not basin.deliveries
            basin.source.resume()
            await basin.holds_so_many(50)

    run(scenario())


@each_dialect
def test_what_comes_while_we_are_away_waits_in_the_session(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with subscribed(place.settings()):
            pass
        await publish(place, numbered(10))
        async with subscribed(place.settings()) as again:
            await again.holds_so_many(10)

    with caplog.at_level(logging.WARNING):
        run(scenario())
    assert "no longer has the session" not in caplog.text


@each_dialect
def test_ending_the_sessions_drains_them_first(place: Place) -> None:
    async def scenario() -> None:
        async with subscribed(place.settings(on_stop="leave")) as basin:
            await publish(place, numbered(50))
            await basin.source.drain_and_end_sessions()
            assert basin.payloads == numbered(50)
        assert basin.source.sessions_not_ended == 0
        await publish(place, [b"nobody's"])
        async with subscribed(place.settings()) as again:
            await publish(place, [b"fresh"])
            await again.holds_so_many(1)
            assert again.payloads == [b"fresh"]

    async def publish(place: Place, payloads: Sequence[bytes]) -> None:
        async with publisher(
            place, payloads
        ) as made:  # after the end nobody is subscribed: those are not acked, but answered
            await made.connect()
            await made.publish()
            assert made.stats.answered == len(payloads)

    run(scenario())


@pytest.mark.parametrize("route", [Route("paho", "5", "wss"), Route("paho", "3.1.1", "wss")], ids=" ".join)
def test_over_a_secure_websocket_a_session_is_not_ended_just_because_the_broker_said_something(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        options = connect_options(place.settings(), f"lasting-{secrets.token_hex(4)}")
        for end, present in ((False, False), (True, True), (False, False)):
            link = await connecting.open_connection(options, Nobody())
            assert link.connack is not None
            assert link.connack.session_present is present
            # As if what was on its way to us, not the broker's goodbye, had come after a DISCONNECT that it never reads.
            with monkeypatch.context() as patch:
                patch.setattr(connection, "disconnect_properties", lambda **_: None)
                assert await link.close(end_session=end)

    run(scenario())


@each_dialect
def test_an_ephemeral_subscriber_leaves_no_session_behind(place: Place) -> None:
    async def scenario() -> None:
        async with subscribed(place.settings(ephemeral=True)) as basin:
            await publish(place, [b"seen"])
            await basin.holds_so_many(1)
        async with subscribed(place.settings()) as lasting:
            await publish(place, [b"fresh"])
            await lasting.holds_so_many(1)
            assert lasting.payloads == [b"fresh"]

    run(scenario())


@each_dialect
def test_a_publisher_that_loses_its_connection_sends_again_what_was_not_acknowledged(place: Place) -> None:
    async def scenario() -> None:
        async with subscribed(place.settings()) as basin, publisher(place, numbered(300)) as made:
            await made.connect()
            publishing = asyncio.create_task(made.publish())
            await until(lambda: made.stats.acked > 50)
            (client,) = made._clients
            assert client._connection is not None
            client._connection.abort(BrokerUnavailable("test"))
            await publishing
            assert (made.stats.sent, made.stats.acked, made.stats.reconnects, made.error) == (300, 300, 1, None)
            await until(lambda: set(basin.payloads) == set(numbered(300)))

    run(scenario())


@each_route
def test_a_wrong_password_is_a_permanent_error_with_a_hint(place: Place) -> None:
    async def scenario() -> None:
        with pytest.raises(BrokerRefused, match="refused the connection: not authorized") as refusal:
            async with subscribed(place.settings(password="wrong")):
                pass
        assert "mqtt.password" in str(refusal.value.hint)

    run(scenario())


@pytest.mark.parametrize("route", [r for r in ROUTES if r.carrier in {"tls", "wss"}], ids=" ".join)
def test_a_broker_whose_certificate_we_cannot_check_is_refused(
    place: Place, certificates: Certificates, route: Route
) -> None:
    async def scenario() -> None:
        with pytest.raises(SensorsyncError, match="certificate verify failed"):
            async with subscribed(place.settings(tls={"ca_file": certificates.stranger})):
                pass
        named = {"ca_file": certificates.authority, "server_name": "another.example.com"}
        with pytest.raises(SensorsyncError, match="certificate verify failed: Hostname mismatch"):
            async with subscribed(place.settings(tls=named)):
                pass

    run(scenario())
