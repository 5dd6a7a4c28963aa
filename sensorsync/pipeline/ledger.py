"""AckLedger: which acknowledgements one link owes, and when each may leave.

Three rules, all of them about never acknowledging the wrong thing:

* PUBACKs leave in the order in which the PUBLISHes came ([MQTT-4.6.0-2]): only the settled prefix is released.
* A token pays only in the epoch (connection) that issued it. After a reconnect the broker may use the packet id for another message.
* One packet id in flight owes one PUBACK. A resend of it on the same connection is either the same message, which is on its way
  already, or another one under a reused id; then only the last is acknowledged, when everything before it is settled. A resend of a
  message that was acknowledged under this id crossed our PUBACK on the wire: a second one would settle the id's next owner.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from sensorsync.pipeline.contract import AckToken

_PACKET_IDS = 65536


class _UnsettledMessage(NamedTuple):
    """The latest unsettled message under a packet id."""

    seq: int
    topic: str
    payload: bytes


class AckLedger:
    """The acknowledgements that one link owes. Pure: no clock, no socket; the event loop's thread only."""

    def __init__(self, link: int) -> None:
        self.link = link
        self.epoch = 0
        self.stale_deliveries = 0
        """Deliveries of dead epochs that are not settled yet: they are still in memory, and are written, but never acknowledged."""
        self._unacked: deque[AckToken] = deque()
        self._settled: set[int] = set()
        self._next_seq = 0
        self._unsettled_by_packet_id: dict[int, _UnsettledMessage] = {}
        # Packet id -> what was acknowledged under it in this epoch, as a hash; an array, for there may be 65,535 of them a link.
        self._acked_fingerprints = array("I", bytes(4 * _PACKET_IDS))

    @property
    def in_flight(self) -> int:
        """Deliveries of this epoch whose PUBACK has not been released."""
        return len(self._unacked)

    @property
    def oldest_unacked(self) -> AckToken | None:
        """The delivery of this epoch that has waited longest for its PUBACK."""
        return self._unacked[0] if self._unacked else None

    def start_epoch(self) -> None:
        """A new connection: what was owed on the old one can't be paid any more."""
        self.epoch += 1
        self.stale_deliveries += len(self._unacked) - len(self._settled)
        self._unacked.clear()
        self._settled.clear()
        self._unsettled_by_packet_id.clear()
        self._next_seq = 0
        self._acked_fingerprints = array("I", bytes(4 * _PACKET_IDS))

    def is_resend_of_unsettled(self, packet_id: int, topic: str, payload: bytes) -> bool:
        """Whether this very message is on its way already: writing it again is needless, and its one PUBACK is owed already.

        So a broker that resends every 30 s while the database is away does not fill our memory.
        """
        claim = self._unsettled_by_packet_id.get(packet_id)
        return claim is not None and claim.payload == payload and claim.topic == topic

    def issue_token(self, packet_id: int, duplicate: bool, topic: str, payload: bytes) -> AckToken | None:
        """The token for a delivery, or None if it must be written but not acknowledged (it was, on this connection)."""
        crossed = (
            duplicate
            and packet_id not in self._unsettled_by_packet_id
            and self._acked_fingerprints[packet_id] == _fingerprint(topic, payload)
        )
        if crossed:
            return None
        token = AckToken(self.link, self.epoch, self._next_seq, packet_id)
        self._next_seq += 1
        self._unacked.append(token)
        self._unsettled_by_packet_id[packet_id] = _UnsettledMessage(token.seq, topic, payload)
        return token

    def settle(self, tokens: Iterable[AckToken]) -> list[int]:
        """These deliveries are stored or parked. Returns the packet ids whose PUBACK may leave now, in order."""
        order, settled = self._unacked, self._settled
        for token in tokens:
            if token.epoch != self.epoch:
                self.stale_deliveries -= 1
            elif order and token.seq >= order[0].seq:
                settled.add(token.seq)
        released: list[int] = []
        while order and order[0].seq in settled:
            token = order.popleft()
            settled.discard(token.seq)
            packet_id = token.packet_id
            claim = self._unsettled_by_packet_id[packet_id]
            if claim.seq == token.seq:  # else a later message under the same id is still unsettled
                del self._unsettled_by_packet_id[packet_id]
                self._acked_fingerprints[packet_id] = _fingerprint(claim.topic, claim.payload)
                released.append(packet_id)
        return released


def _fingerprint(topic: str, payload: bytes) -> int:
    """32 bits that tell one message from another; never 0."""
    return hash((topic, payload)) & 0xFFFFFFFF or 1
