"""The broker: it keeps its sessions, breaks its connections at any byte, and has every PUBACK judged."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Self

from tests.acceptance.nemesis.connection import BrokerConnection
from tests.acceptance.nemesis.judge import Judge
from tests.acceptance.nemesis.messages import Fate, Message
from tests.acceptance.nemesis.mqtt_bytes import Connect
from tests.acceptance.nemesis.session import Group, Session, matches, without_share


@dataclass(frozen=True, slots=True)
class BrokerFaults:
    """How often things go wrong, as probabilities: of each write, of each read, of each connection."""

    tear: float = 0.0
    """Of a write: a part of it leaves, at any byte, then the connection is reset."""
    dribble: float = 0.0
    """Of a write: it leaves in pieces."""
    resend: float = 0.0
    """Of a read: an unacknowledged message is sent again on the live connection, with DUP."""
    forget_acks: float = 0.0
    """Of a read: the PUBACKs in it are judged, but only some of them take effect before the connection is reset."""
    refuse: float = 0.0
    """Of a connection: reset before CONNACK."""
    late_connack: float = 0.0
    """Of a connection: CONNACK comes up to a second late."""
    late_suback: float = 0.0
    """Of a SUBSCRIBE: SUBACK is withheld for up to two seconds, and messages flow meanwhile."""
    lose_session: float = 0.0
    """Of a connection: the session is lost, session_present is 0 and packet ids begin anew."""
    server_disconnect: float = 0.0
    """Of a write: a DISCONNECT of the server follows it (MQTT 5)."""


class Broker:
    """Listens on 127.0.0.1:`port`. `window`: unacknowledged messages on one connection at most, stated in CONNACK."""

    def __init__(
        self,
        port: int,
        judge: Judge,
        rng: random.Random,
        *,
        window: int = 65535,
        ids: str = "next",
        faults: BrokerFaults | None = None,
    ) -> None:
        self.port = port
        self.judge = judge
        self.rng = rng
        self.window = window
        self.faults = faults or BrokerFaults()
        self.counts: Counter[str] = Counter()
        self.sessions: dict[str, Session] = {}
        self.groups: dict[str, Group] = {}
        self.connections: set[BrokerConnection] = set()
        self._ids = ids
        self._server: asyncio.Server | None = None
        self._unrouted: list[Message] = []
        self._paused = False

    async def start(self) -> None:
        """Listen, if it does not; after `stop` on the same port again."""
        if self._server is not None:
            return
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: BrokerConnection(self), "127.0.0.1", self.port)

    async def stop(self) -> None:
        """Refuse new connections and reset those that are there; sessions are kept."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.reset()
        await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def calm(self) -> None:
        """No faults from now on."""
        self.faults = BrokerFaults()
        self.hold(paused=False)

    def hold(self, *, paused: bool) -> None:
        """Stop sending messages, or go on. Acknowledgements are judged all the same."""
        self._paused = paused
        self.pump()

    def reset(self) -> None:
        """Reset all connections."""
        for connection in list(self.connections):
            connection.reset()

    def drop_one(self, *, lose_session: bool) -> None:
        """Reset a random connection, and lose its session if wanted."""
        if (connection := self._any_connection()) is not None:
            session = connection.session
            connection.reset()
            if lose_session and session is not None:
                self.end_session(session)
                self.counts["sessions_lost"] += 1

    def swallow_one(self) -> None:
        """Turn a random connection into a black hole: the client has to find out by its keep-alive."""
        if (connection := self._any_connection()) is not None:
            self.counts["swallowed"] += 1
            connection.swallow()

    def _any_connection(self) -> BrokerConnection | None:
        live = sorted((c for c in self.connections if c.session is not None), key=lambda c: c.number)
        return self.rng.choice(live) if live else None

    # -- messages --------------------------------------------------------------------------------------------------------

    def publish(self, message: Message) -> None:
        """Route a message to all who are subscribed; what nobody takes yet waits."""
        if not self._route(message):
            self._unrouted.append(message)

    def _route(self, message: Message) -> bool:
        targets = [group for name, group in self.groups.items() if matches(without_share(name), message.topic)]
        for group in targets:
            group.queue.append(message)
        own = [
            session
            for session in self.sessions.values()
            if any(g is None and matches(f, message.topic) for f, g in session.subscriptions.items())
        ]
        for session in own:
            session.queue.append(message)
        if targets or own:
            self.counts["routed"] += 1
            self.pump()
        return bool(targets or own)

    def pump(self) -> None:
        """Let every connection send what its window has room for, in random order."""
        if self._paused:
            return
        connections = sorted(self.connections, key=lambda c: c.number)
        self.rng.shuffle(connections)
        for connection in connections:
            connection.pump()

    @property
    def paused(self) -> bool:
        """Whether messages are held back."""
        return self._paused

    def serves(self, name: str) -> bool:
        """Whether a client with `-name-` in its id is connected."""
        return any(f"-{name}-" in c.session.client_id for c in self.connections if c.session is not None)

    def outstanding(self) -> Iterator[Message]:
        """All messages of the run that are not acknowledged."""
        yield from self._unrouted
        for group in self.groups.values():
            yield from group.queue
        for session in self.sessions.values():
            yield from (message for message in session.queue if message.fate is not Fate.ANYWHERE)
            yield from (s.message for s in session.in_flight.values() if s.message.fate is not Fate.ANYWHERE)

    # -- sessions --------------------------------------------------------------------------------------------------------

    def open_session(self, connect: Connect, connection: BrokerConnection) -> tuple[Session, bool]:
        """Return the session for a CONNECT, and whether it was there before."""
        session = self.sessions.get(connect.client_id)
        if session is not None and session.connection is not None:
            self.counts["takeovers"] += 1
            session.connection.taken_over()
        session = self.sessions.get(connect.client_id)
        lost = session is not None and self.rng.random() < self.faults.lose_session
        self.counts["sessions_lost"] += lost
        if session is not None and (connect.clean_start or lost):
            self.end_session(session)
            session = None
        present = session is not None
        if session is None:
            session = self.sessions[connect.client_id] = Session(connect.client_id, self.rng, self._ids)
        session.expiry = connect.session_expiry
        session.connection = connection
        session.resend.clear()
        session.resend.extend(session.in_flight)
        return session, present

    def end_session(self, session: Session) -> None:
        """Forget a session; what it holds goes to the others of its group."""
        session.give_back()
        self.sessions.pop(session.client_id, None)
        session.connection = None
        for message in session.queue:
            self.publish(message)

    def expire_sessions(self) -> None:
        """End the sessions that have no connection, as a broker does when their time is over."""
        for session in list(self.sessions.values()):
            if session.connection is None:
                self.end_session(session)
        self.pump()

    def subscribe(self, session: Session, pattern: str) -> None:
        """Add a subscription; a group begins with what nobody has taken yet."""
        group = self.groups.setdefault(pattern, Group(pattern)) if pattern.startswith("$share/") else None
        session.subscriptions[pattern] = group
        waiting, self._unrouted = self._unrouted, []
        self._unrouted += [message for message in waiting if not self._route(message)]

    def change_faults(self, **changes: float) -> None:
        """Replace some of the probabilities."""
        self.faults = replace(self.faults, **changes)
