"""Cleanup of sessions that are no longer configured: each is drained into the pipeline, ended, and removed from the registry.

A start with fewer links or processes than the one before leaves sessions behind that are still members of the group. The broker
goes on sending messages to them, and no client would fetch these. After the cleanup no message stays stranded in the broker.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from sensorsync.config import Settings
from sensorsync.errors import AlreadyRunningError, SensorsyncError
from sensorsync.mqtt.client.errors import BrokerRefused
from sensorsync.mqtt.subscriber.link import Link
from sensorsync.mqtt.subscriber.session_registry import SessionRegistry, instance_lock, registered_process_numbers
from sensorsync.runtime.backoff import Backoff

logger = logging.getLogger(__name__)

PREDECESSOR_TIMEOUT = 10.0
"""Seconds for which a dying process may still lock a registry. The holder of the instance lock has no other rivals."""


class StaleSessionCleaner:
    """The links that exist only to end stale sessions.

    `make_link(number, client_id, registry)` creates one without subscriptions. The numbers are -1, -2, ..., by which
    `link_by_number` finds the link of an acknowledgement.
    """

    def __init__(
        self, make_link: Callable[[int, str, SessionRegistry], Link], make_backoff: Callable[[], Backoff]
    ) -> None:
        self.links: list[Link] = []
        self.sessions_not_ended = 0
        """Number of sessions that could not be ended. The next start will retry."""
        self._make_link = make_link
        self._make_backoff = make_backoff
        self._active_count = 0
        self._done = asyncio.Event()
        self._done.set()

    @property
    def busy(self) -> bool:
        """True when a session is still being drained."""
        return self._active_count > 0

    def link_by_number(self, number: int) -> Link:
        """Return the link with this (negative) number."""
        return self.links[-number - 1]

    async def wait_until_finished(self) -> None:
        """Return once no session is being drained."""
        await self._done.wait()

    async def end_sessions(self, client_ids: Iterable[str], registry: SessionRegistry) -> None:
        """End these sessions of an open registry."""
        with self._mark_busy():
            await asyncio.gather(*(self._drain_and_end_session(client_id, registry) for client_id in client_ids))

    async def end_process_sessions(self, registry: SessionRegistry) -> None:
        """End all sessions of a process that is no longer configured. Its registry is then removed, too."""
        with self._mark_busy():
            try:
                await open_registry(registry)
            except SensorsyncError as error:
                self.sessions_not_ended += 1
                logger.warning(
                    "cannot end the sessions of an earlier process: %s",
                    error,
                    extra={"event": "retire_failed"},
                )
                return
            try:
                await asyncio.gather(
                    *(self._drain_and_end_session(client_id, registry) for client_id in registry.client_ids())
                )
            finally:
                registry.close()

    async def end_instance_sessions(self, instance_settings: Settings) -> None:
        """End all sessions of the instance that `instance_settings` names. It cannot start meanwhile."""
        with self._mark_busy():
            try:
                with instance_lock(instance_settings):
                    numbers = registered_process_numbers(instance_settings)
                    await asyncio.gather(
                        *(
                            self.end_process_sessions(SessionRegistry.for_process(instance_settings, number))
                            for number in numbers
                        )
                    )
            except SensorsyncError as error:
                self.sessions_not_ended += 1
                logger.warning(
                    "cannot end the sessions of %s: %s",
                    instance_settings.mqtt.instance,
                    error,
                    extra={"event": "retire_failed"},
                )

    async def _drain_and_end_session(self, client_id: str, registry: SessionRegistry) -> None:
        logger.info("session %s is no longer configured: draining and ending it", client_id, extra={"event": "retire"})
        link = self._make_link(-len(self.links) - 1, client_id, registry)
        self.links.append(link)
        backoff = self._make_backoff()
        while True:
            try:
                await link.wait_for_window_space()
                await link.open()
                await link.drain()
                await link.close(end_session=True)
                if registry.get(client_id) is None:
                    logger.info("session %s ended", client_id, extra={"event": "retired"})
                    return
                reason = "the connection was lost"
            except (BrokerRefused, AlreadyRunningError) as refusal:
                self.sessions_not_ended += 1
                logger.warning(
                    "cannot end session %s: %s; the next start will retry",
                    client_id,
                    refusal,
                    extra={"event": "retire_failed"},
                )
                return
            except SensorsyncError as failure:
                reason = str(failure)
            delay = backoff.next_delay()
            logger.warning(
                "session %s is not drained yet: %s; next retry in %.1fs",
                client_id,
                reason,
                delay,
                extra={"event": "retire_delayed"},
            )
            await asyncio.sleep(delay)

    @contextmanager
    def _mark_busy(self) -> Iterator[None]:
        """Mark the cleaner as busy while the block runs."""
        self._active_count += 1
        self._done.clear()
        try:
            yield
        finally:
            self._active_count -= 1
            if not self._active_count:
                self._done.set()


async def open_registry(registry: SessionRegistry, timeout: float = PREDECESSOR_TIMEOUT) -> None:
    """Open the registry, and wait up to `timeout` seconds for a predecessor that is dying (killed with its parent).

    Raises the errors that `SessionRegistry` names.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while True:
        try:
            registry.open()
        except AlreadyRunningError:
            if loop.time() >= deadline:
                raise
            await asyncio.sleep(0.05)
        else:
            return
