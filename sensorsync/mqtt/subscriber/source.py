"""The MQTT source: many links in one shared-subscription group that yield one stream of deliveries.

A broker sends at most a window of unacknowledged messages on one connection. Messages are acknowledged only after a commit, so
one link carries window / (commit + round trip) messages a second. N links carry N times that. `$share` distributes the messages
among them.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from itertools import groupby
from operator import attrgetter

from sensorsync.config import Settings
from sensorsync.errors import BrokerError
from sensorsync.mqtt.client.options import ConnectOptions, connect_options
from sensorsync.mqtt.subscriber.link import Link
from sensorsync.mqtt.subscriber.orphaned_sessions import take_over_orphaned_sessions
from sensorsync.mqtt.subscriber.pacing import ConnectGate
from sensorsync.mqtt.subscriber.session_cleanup import StaleSessionCleaner, open_registry
from sensorsync.mqtt.subscriber.session_registry import SessionRegistry
from sensorsync.mqtt.subscriber.window import WindowEstimate, auto_links, receive_maximum_per_link, required_in_flight
from sensorsync.pipeline.contract import AckToken, DeliveryHandler
from sensorsync.pipeline.counters import PipelineCounters
from sensorsync.runtime.backoff import Backoff

logger = logging.getLogger(__name__)


class MqttSource:
    """The MQTT source (see `pipeline.contract.Source`).

    `process_number` numbers the processes of one instance from 0. Process 0 also ends the sessions of processes that are no
    longer configured.
    """

    def __init__(self, settings: Settings, counters: PipelineCounters, *, process_number: int = 0) -> None:
        mqtt = settings.mqtt
        self._settings = settings
        self._counters = counters
        self._process_number = process_number
        self._client_id_prefix = f"{mqtt.client_id}-{mqtt.instance}-{process_number}"
        if mqtt.ephemeral:  # a clean start with the usual client ids would discard the persistent sessions
            self._client_id_prefix += f"-{secrets.token_hex(4)}"
        self._required_in_flight = required_in_flight(settings.pipeline.workers, settings.pipeline.batch_size)
        self._topic_filters = [f"$share/{mqtt.group}/{topic}" for topic in mqtt.topics]
        self._auto_connections = mqtt.connections == "auto"
        self._registry = None if mqtt.ephemeral else SessionRegistry.for_process(settings, process_number)
        self._base_options = connect_options(settings, self._client_id_prefix)
        self._links: list[Link] = []
        self._gate = ConnectGate()
        self._session_cleaner = StaleSessionCleaner(
            self._make_cleanup_link, lambda: Backoff(mqtt.backoff_min, mqtt.backoff_max)
        )
        self.sessions_not_ended = 0
        """Number of sessions that should have been ended, but could not be. Set by `close`."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._window_estimate = counters.window_estimate = WindowEstimate(65535)
        self._receiving = True
        self._paused = False

    # -- Source --------------------------------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """True when all links are up and no old session is being drained. Links that a broker never accepted do not count."""
        expected = [link for link in self._links if link.number == 0 or link.connected_once or link.session_expected]
        return bool(expected) and all(link.connected for link in expected) and not self._session_cleaner.busy

    async def start(self, handler: DeliveryHandler) -> None:
        """Connect the first link, open as many more as its window requires, and end sessions that are no longer configured."""
        self._inlet = handler
        if self._registry is not None:
            await open_registry(self._registry)
        connections = self._settings.mqtt.connections
        known = self._count_registered_links()
        fixed = known if connections == "auto" else connections
        await self._open_links(fixed)
        first = self._links[0].connection
        if first is not None and first.connack is not None:
            self._warn_of_short_expiry(first.connack.session_expiry_interval)
            if self._auto_connections:
                self._window_estimate = self._counters.window_estimate = WindowEstimate(first.connack.receive_max)
                await self._open_links(self._links_wanted())
        logger.info(
            "%d link(s) to %s, delivery window %s each, group %s",
            len(self._links),
            self._base_options.address,
            "unlimited" if self._window_estimate.window == 65535 else self._window_estimate.window,
            self._settings.mqtt.group,
            extra={"event": "connected", "links": len(self._links), "window": self._window_estimate.window},
        )
        self._end_stale_sessions()
        self._run_task(self._watch_for_lost_deliveries(self._settings.mqtt.ack_timeout))

    def settle(self, tokens: Sequence[AckToken]) -> None:
        """Acknowledge link by link. A link that stops and refills at once shows its window."""
        for number, group in groupby(sorted(tokens, key=attrgetter("link")), key=attrgetter("link")):
            link = self._links[number] if number >= 0 else self._session_cleaner.link_by_number(number)
            self._settle_link(link, list(group))

    def pause(self) -> None:
        """Stop reading from all sockets."""
        self._paused = True
        for link in (*self._links, *self._session_cleaner.links):
            link.pause()

    def resume(self) -> None:
        """Read from all sockets again."""
        self._paused = False
        for link in (*self._links, *self._session_cleaner.links):
            link.resume()

    def stop_receiving(self) -> None:
        """Pass on no more messages."""
        self._receiving = False
        for link in (*self._links, *self._session_cleaner.links):
            link.stop_receiving()

    async def drain_and_end_sessions(self) -> None:
        """Unsubscribe all links, and return once the sessions are drained, so that no message stays in them.

        A link that stays disconnected for `pipeline.stop_timeout` is given up. `close` then keeps its session.
        """
        await asyncio.gather(self._session_cleaner.wait_until_finished(), *map(self._drain_link, self._links))

    async def close(self) -> None:
        """Disconnect all links. With `on_stop: leave` the drained sessions are ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        end_sessions = self._settings.mqtt.on_stop == "leave"
        closing = [link.close(end_session=end_sessions) for link in self._links]
        closing += [link.close() for link in self._session_cleaner.links]
        for outcome in await asyncio.gather(*closing, return_exceptions=True):
            if isinstance(outcome, BaseException):
                logger.error("a link did not close cleanly: %s", outcome, extra={"event": "close_failed"})
        if self._registry is not None:
            if end_sessions:
                self.sessions_not_ended = len(self._registry.client_ids()) + self._session_cleaner.sessions_not_ended
            self._registry.close()

    # -- inside --------------------------------------------------------------------------------------------------------------

    def _warn_of_short_expiry(self, granted: int | None) -> None:
        """Warn when CONNACK's Session Expiry Interval (section 3.2.2.3.2, seconds), which overrides ours, is shorter."""
        if granted is not None and granted < int(self._base_options.session_expiry):
            logger.warning(
                "the broker keeps sessions for only %d s, less than mqtt.session_expiry: messages that arrive during a longer"
                " disconnection are lost",
                granted,
                extra={"event": "session_expiry", "seconds": granted},
            )

    def _client_id(self, number: int) -> str:
        return f"{self._client_id_prefix}-{number}"

    def _count_registered_links(self) -> int:
        """Return, for `auto`, the number of links that covers all sessions in the registry."""
        known = set(self._registry.client_ids()) if self._registry else ()
        numbers = range(1, self._settings.mqtt.max_connections)
        return 1 + max((number for number in numbers if self._client_id(number) in known), default=0)

    def _links_wanted(self) -> int:
        """Return, for `auto`, the number of links that the window requires, as far as it is known."""
        return auto_links(self._window_estimate.window, self._required_in_flight, self._settings.mqtt.max_connections)

    async def _open_links(self, count: int) -> None:
        """Open links until there are `count`.

        Raises the error of a link. With `auto`, links after the first are retried instead, because a quota may refuse them.
        """
        new = [self._make_subscribed_link(number, count) for number in range(len(self._links), count)]
        self._links += new
        for _, group in groupby(sorted(new, key=_opening_order), key=_opening_order):
            links = list(group)
            outcomes = await asyncio.gather(*(link.open() for link in links), return_exceptions=True)
            for link, outcome in zip(links, outcomes, strict=True):
                extra = self._auto_connections and link.number > 0 and isinstance(outcome, BrokerError)
                if isinstance(outcome, BaseException) and not extra:
                    raise outcome
                self._run_task(link.reconnect_forever())

    def _make_subscribed_link(self, number: int, count: int) -> Link:
        if self._auto_connections:  # the first link is opened before its CONNACK shows how many are needed
            count = max(count, self._links_wanted())
        stated = self._settings.mqtt.receive_maximum or receive_maximum_per_link(self._required_in_flight, count)
        options = replace(self._base_options, client_id=self._client_id(number), receive_maximum=stated)
        return self._make_link(number, options, self._topic_filters, self._registry)

    def _make_link(
        self, number: int, options: ConnectOptions, topic_filters: Sequence[str], registry: SessionRegistry | None
    ) -> Link:
        mqtt = self._settings.mqtt
        link = Link(
            number,
            options,
            topic_filters,
            inlet=self._inlet,
            counters=self._counters,
            backoff=Backoff(mqtt.backoff_min, mqtt.backoff_max),
            registry=registry,
            session_expected=registry is not None and registry.get(options.client_id) is not None,
            gate=self._gate,
            drain_quiet=mqtt.drain_quiet,
        )
        if self._paused:
            link.pause()
        return link

    def _run_task(self, work: Coroutine[None, None, None]) -> None:
        """Run `work` in a task. Its failure stops the pipeline."""

        def done(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                self._inlet.fail(error)

        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(done)

    def _settle_link(self, link: Link, tokens: list[AckToken]) -> None:
        in_flight, window = link.ledger.in_flight, self._window_estimate.window
        rtt = link.connection.rtt if link.connection else 0.0
        refilled = 0.0 < link.last_delivery_at - link.last_ack_at <= 0.02 + 3 * rtt
        if not link.settle(tokens):
            return
        link.last_ack_at = asyncio.get_running_loop().time()
        holds_back = self._auto_connections and link.number >= 0 and in_flight < link.options.receive_maximum
        if holds_back and self._window_estimate.record_ack(link.number, in_flight=in_flight, refilled_at_once=refilled):
            self._open_more_links(window)

    async def _watch_for_lost_deliveries(self, ack_timeout: float) -> None:
        """Reconnect a link when a delivery is unacknowledged and no part of the pipeline works on it.

        That is a bug, and the broker then sends the message again. A slow database does not cause it: a writer or the batcher
        works on every delivery that it holds, however old it is.
        """
        oldest: dict[int, AckToken | None] = {}
        while True:
            await asyncio.sleep(ack_timeout)
            for link in self._links:
                token = link.ledger.oldest_unacked
                if token is not None and token == oldest.get(link.number) and not self._inlet.holds(token):
                    logger.error(
                        "link %d: a message was received but never processed (a bug: please report it); reconnecting",
                        link.number,
                        extra={"event": "forgotten", "link": link.number},
                    )
                    link.reconnect("a message was received but never processed")
                oldest[link.number] = token

    def _open_more_links(self, previous_estimate: int) -> None:
        """Open the links that are needed because the window is smaller than the estimate."""
        count = self._links_wanted()
        logger.info(
            "the broker stops at %d unacknowledged messages per link (estimate was %d): using %d links",
            self._window_estimate.window,
            previous_estimate,
            max(count, len(self._links)),
            extra={"event": "window", "window": self._window_estimate.window, "links": count},
        )
        if count > len(self._links) and self._receiving:
            self._run_task(self._open_links(count))

    def _end_stale_sessions(self) -> None:
        """Drain and end, in the background, the sessions that are in the registries but not in the configuration."""
        if self._registry is None:
            return
        ours = {link.options.client_id for link in self._links}
        if others := [client_id for client_id in self._registry.client_ids() if client_id not in ours]:
            self._run_task(self._session_cleaner.end_sessions(others, self._registry))
        if self._process_number == 0:
            self._run_task(take_over_orphaned_sessions(self._settings, self._session_cleaner))

    def _make_cleanup_link(self, number: int, client_id: str, registry: SessionRegistry) -> Link:
        receive_maximum = self._links[0].options.receive_maximum
        options = replace(self._base_options, client_id=client_id, receive_maximum=receive_maximum)
        return self._make_link(number, options, (), registry)

    async def _drain_link(self, link: Link) -> None:
        """Drain the session of a link that is about to end it.

        When the connection is lost, `reconnect_forever` connects and subscribes again. The link is then drained once more.
        """
        loop = asyncio.get_running_loop()
        seen = loop.time()
        while not link.drained and loop.time() - seen < self._settings.pipeline.stop_timeout:
            if self._registry is not None and self._registry.get(link.options.client_id) is None:
                return  # it has no session, because a quota never accepted it
            if link.ready:
                try:
                    await link.drain()
                except BrokerError as error:
                    logger.warning(
                        "link %d: cannot drain the session: %s", link.number, error, extra={"event": "drain_failed"}
                    )
                seen = loop.time()
            else:
                await asyncio.sleep(0.05)


def _opening_order(link: Link) -> int:
    """Return the group in which the link is opened.

    Under a quota the first link connects first, then sessions that may hold messages, then new ones.
    """
    if link.number == 0:
        return 0
    return 1 if link.session_expected else 2
