"""Sessions that the configuration has no more: drained into the pipeline, ended, forgotten. So nothing stays stranded in a broker.

A start with fewer links or processes than the one before leaves sessions behind that are still members of the group: the broker goes
on feeding them, and nobody fetches it.
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
"""How long a registry may be held by a process that is only dying: who holds the instance's lock has no other rivals."""


class StaleSessionCleaner:
    """The links that exist only to end their sessions.

    `make_link(number, client_id, registry)` makes one without subscriptions; numbers are -1, -2, ... so that acknowledgements find
    their way (`link`).
    """

    def __init__(
        self, make_link: Callable[[int, str, SessionRegistry], Link], make_backoff: Callable[[], Backoff]
    ) -> None:
        self.links: list[Link] = []
        self.sessions_not_ended = 0
        """Sessions that could not be ended: the next start tries again."""
        self._make_link = make_link
        self._make_backoff = make_backoff
        self._active_count = 0
        self._done = asyncio.Event()
        self._done.set()

    @property
    def busy(self) -> bool:
        """Whether a session is still being drained."""
        return self._active_count > 0

    def link_by_number(self, number: int) -> Link:
        """The link with this (negative) number."""
        return self.links[-number - 1]

    async def wait_until_finished(self) -> None:
        """Return once no session is being drained."""
        await self._done.wait()

    async def end_sessions(self, client_ids: Iterable[str], registry: SessionRegistry) -> None:
        """End these sessions of a registry that is open."""
        with self._mark_busy():
            await asyncio.gather(*(self._drain_and_end_session(client_id, registry) for client_id in client_ids))

    async def end_process_sessions(self, registry: SessionRegistry) -> None:
        """End all sessions of a process that is not configured any more; its registry then goes, too."""
        with self._mark_busy():
            try:
                await open_registry(registry)
            except SensorsyncError as error:
                self.sessions_not_ended += 1
                logger.warning(
                    "the sessions of an earlier process are left as they are: %s",
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
        """End all sessions of the instance that `former` names; it cannot start meanwhile."""
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
                    "the sessions of %s are left as they are: %s",
                    instance_settings.mqtt.instance,
                    error,
                    extra={"event": "retire_failed"},
                )

    async def _drain_and_end_session(self, client_id: str, registry: SessionRegistry) -> None:
        logger.info(
            "session %s is not configured any more: draining and ending it", client_id, extra={"event": "retire"}
        )
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
                    logger.info("session %s is ended", client_id, extra={"event": "retired"})
                    return
                reason = "the connection was lost"
            except (BrokerRefused, AlreadyRunningError) as refusal:
                self.sessions_not_ended += 1
                logger.warning(
                    "session %s could not be ended: %s; the next start tries again",
                    client_id,
                    refusal,
                    extra={"event": "retire_failed"},
                )
                return
            except SensorsyncError as failure:
                reason = str(failure)
            delay = backoff.next_delay()
            logger.warning(
                "session %s is not drained yet: %s; next try in %.1fs",
                client_id,
                reason,
                delay,
                extra={"event": "retire_delayed"},
            )
            await asyncio.sleep(delay)

    @contextmanager
    def _mark_busy(self) -> Iterator[None]:
        """While the block runs, we are busy."""
        self._active_count += 1
        self._done.clear()
        try:
            yield
        finally:
            self._active_count -= 1
            if not self._active_count:
                self._done.set()


async def open_registry(registry: SessionRegistry, timeout: float = PREDECESSOR_TIMEOUT) -> None:
    """Open it, waiting for a predecessor that is only dying (killed with its parent). Raises as `SessionRegistry` says."""
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
