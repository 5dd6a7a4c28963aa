"""Sessions and who gets what: plain and shared subscriptions, bounded queues."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tests.fakes.script import Script
from tests.fakes.session import Message, Session, matches, split_share


@dataclass(eq=False)
class Routing(Script):
    """The sessions by client id, and the way of a message into their queues."""

    sessions: dict[str, Session] = field(default_factory=dict)
    turns: dict[str, int] = field(default_factory=dict)
    """Shared subscription -> messages routed so far, for the round robin."""
    killed: list[Message] = field(default_factory=list)
    """What sessions held that were killed (`kill_above`), in order."""

    def lose_sessions(self, client_id: str | None = None) -> None:
        """Forget sessions with all that is queued in them, as a restart without persistence does; nothing is redispatched."""
        for name in [name for name in self.sessions if client_id in (None, name)]:
            connection = self.sessions.pop(name).connection
            if connection:
                connection.session = None

    def end_session(self, client_id: str) -> None:
        """The session ends (expired, or clean): its shared messages go to other members of their groups."""
        session = self.sessions.pop(client_id)
        session.subscriptions.clear()
        for message in session.undelivered():
            if message.share:
                self._route_shared(message.share, message)

    def route(self, message: Message) -> int:
        """Queue a message for all who subscribed; return how many sessions got it."""
        routed, shares = 0, set()
        for session in list(self.sessions.values()):
            plain = []
            for pattern, qos in session.subscriptions.items():
                group, topic_filter = split_share(pattern)
                if matches(topic_filter, message.topic):
                    if group is None:
                        plain.append(qos)
                    else:
                        shares.add(pattern)
            if plain:  # overlapping subscriptions of one client deliver once, with the highest QoS
                self._deliver(session, replace(message, qos=min(message.qos, max(plain))))
                routed += 1
        return routed + sum(self._route_shared(share, message) for share in sorted(shares))

    def _route_shared(self, share: str, message: Message) -> bool:
        """Exact round robin over the members of one group, those that are offline included (EMQX)."""
        members = [session for session in self.sessions.values() if share in session.subscriptions]
        if not members:
            return False
        turn = self.turns.get(share, 0)
        self.turns[share] = turn + 1
        member = members[turn % len(members)]
        self._deliver(member, replace(message, qos=min(message.qos, member.subscriptions[share]), share=share))
        return True

    def _deliver(self, session: Session, message: Message) -> None:
        if message.qos == 0 and session.connection is None:
            return
        session.queue.append(message)
        if session.connection:
            session.connection.pump()
        session.bound(self.queue_limit, self.drop)
        if self.kill_above is not None and session.held > self.kill_above:
            self._kill(session)

    def _kill(self, session: Session) -> None:
        """End a session and its connection with all that it holds: nothing of it is delivered to anybody."""
        self.killed += session.undelivered()
        connection = session.connection
        self.lose_sessions(session.client_id)
        if connection:
            connection.transport.close()
