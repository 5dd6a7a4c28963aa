"""The ledger of the acknowledgements that one link has to send, and of their order.

Three rules ensure that a wrong message is never acknowledged.

* PUBACKs are sent in the order in which the PUBLISHes arrived ([MQTT-4.6.0-2]). Only the settled prefix is released.
* A token is valid only in the epoch (connection) that issued it. After a reconnect the broker may use the packet id for another
  message.
* One packet id in flight gets one PUBACK. A resend of it on the same connection may be the same message, which is in the pipeline
  already, or another message under a reused id. Then only the last one is acknowledged, when all before it are settled. A resend of
  a message that was acknowledged under this id crossed our PUBACK on the wire. A second PUBACK would acknowledge the next message
  with this id.
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
    """The pending acknowledgements of one link. It has no clock and no socket, and is for the event loop's thread only."""

    def __init__(self, link: int) -> None:
        self.link = link
        self.epoch = 0
        self.stale_deliveries = 0
        """The number of unsettled deliveries of earlier epochs. They are still in memory and are written, but never acknowledged."""
        self._unacked: deque[AckToken] = deque()
        self._settled: set[int] = set()
        self._next_seq = 0
        self._unsettled_by_packet_id: dict[int, _UnsettledMessage] = {}
        # By packet id: the hash of the message acknowledged under it in this epoch. An array, because a link may have 65,535 of them.
        self._acked_fingerprints = array("I", bytes(4 * _PACKET_IDS))

    @property
    def in_flight(self) -> int:
        """The number of deliveries of this epoch whose PUBACK has not been released."""
        return len(self._unacked)

    @property
    def oldest_unacked(self) -> AckToken | None:
        """The token of the delivery of this epoch that has waited longest for its PUBACK; None when there is none."""
        return self._unacked[0] if self._unacked else None

    def start_epoch(self) -> None:
        """Start the epoch of a new connection. Deliveries of the old connection can no longer be acknowledged."""
        self.epoch += 1
        self.stale_deliveries += len(self._unacked) - len(self._settled)
        self._unacked.clear()
        self._settled.clear()
        self._unsettled_by_packet_id.clear()
        self._next_seq = 0
        self._acked_fingerprints = array("I", bytes(4 * _PACKET_IDS))

    def is_resend_of_unsettled(self, packet_id: int, topic: str, payload: bytes) -> bool:
        """Return True when this very message is in the pipeline already, so that it need not be written or acknowledged again.

        So a broker that resends every 30 s while the database is unreachable does not fill the memory.
        """
        latest = self._unsettled_by_packet_id.get(packet_id)
        return latest is not None and latest.payload == payload and latest.topic == topic

    def issue_token(self, packet_id: int, duplicate: bool, topic: str, payload: bytes) -> AckToken | None:
        """Return the token for a delivery.

        None means that it has to be written but not acknowledged, because that was done on this connection.
        """
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
        """Settle deliveries that are stored or parked. Return the packet ids whose PUBACK is to be sent now, in order."""
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
            latest = self._unsettled_by_packet_id[packet_id]
            if latest.seq == token.seq:  # else a later message under the same id is still unsettled
                del self._unsettled_by_packet_id[packet_id]
                self._acked_fingerprints[packet_id] = _fingerprint(latest.topic, latest.payload)
                released.append(packet_id)
        return released


def _fingerprint(topic: str, payload: bytes) -> int:
    """Return a 32-bit hash of a message that is never 0, because 0 means no message."""
    return hash((topic, payload)) & 0xFFFFFFFF or 1
