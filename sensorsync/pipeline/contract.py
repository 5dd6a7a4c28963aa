"""The types that carry the delivery guarantee, and the protocols of the source, the sink and the dead-letter box.

A delivery of QoS 1 has to be acknowledged. The right to do so is a type, `AckToken`, and not a method of the message. A batch can
therefore be split, retried and parked, and no part of it can be acknowledged by mistake. A token has to be settled first, only the
ledger that issued it turns it into a PUBACK, and only on the connection that the delivery came from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from sensorsync.messages.reading import FanOut, Reading, Rejected, Row

__all__ = [
    "AckToken",
    "BatchRejected",
    "DeadLetter",
    "DeadLetterBox",
    "DeadLetterBoxUnavailable",
    "Decoder",
    "Delivery",
    "DeliveryHandler",
    "FanOut",
    "FlushReason",
    "Reading",
    "Rejected",
    "Row",
    "RowSuspected",
    "Sink",
    "SinkMisconfigured",
    "SinkUnavailable",
    "SinkVerificationFailed",
    "Source",
    "TransactionTooLarge",
    "WriteReport",
]


class AckToken(NamedTuple):
    """The right to acknowledge one delivery, once, on the connection that it came from."""

    link: int
    """The number of the connection within the source."""
    epoch: int
    """The number of times that link had connected. A token of an earlier epoch acknowledges nothing, because packet ids are reused."""
    seq: int
    """Position in arrival order within the epoch ([MQTT-4.6.0-2])."""
    packet_id: int


class Delivery(NamedTuple):
    """One PUBLISH as it arrived. `token` is None for QoS 0, which is not acknowledged."""

    topic: str
    payload: bytes
    qos: int
    received_at: float
    """Seconds since the epoch (Unix time, UTC)."""
    token: AckToken | None
    properties: Mapping[str, object] | None = None
    """The MQTT 5 properties that a dead letter stores (content type, user properties); None when there are none."""
    packet_error: str | None = None
    """The reason why the packet could not be parsed (it was not MQTT). Such a message is parked as it is."""


class FlushReason(StrEnum):
    """The reason why a batch was due."""

    FULL = "full"
    """It reached its size."""
    STALLED = "stalled"
    """A writer was free and the input was drained."""
    LINGER = "linger"
    """Its oldest delivery had waited for the batch time-out."""
    DRAIN = "drain"
    """The pipeline is stopping."""


class DeadLetter(NamedTuple):
    """A message that can never be stored as it is, with everything that a replay needs."""

    topic: str
    payload: bytes
    qos: int
    properties: Mapping[str, object] | None
    reason: str
    """A stable identifier: `json`, `type`, `signature`, `database`, `internal`, ..."""
    errno: int | None
    """The database's error number, when the database rejected the message."""
    message: str
    received_at: float
    """Seconds since the epoch (Unix time, UTC)."""


@dataclass(frozen=True, slots=True)
class WriteReport:
    """The outcome of one batch. Every message is stored or rejected; a batch that is kept has no report."""

    messages_stored: int
    """Messages whose rows are all committed."""
    rows_stored: int
    """Committed rows, including those of partly rejected messages. Equal to `messages_stored` where every message gives one row."""
    redelivered_rows: int
    """The number of these rows that were in the table before."""
    rejected: Mapping[int, DeadLetter]
    """Index in the batch -> dead letter, all of them fsynced. A message of several rows is parked whole when one row is rejected."""
    transactions: int
    """Transactions that the batch took, at least 1. The further ones of a batch that very many rows divide into parts do not count."""
    set_aside: frozenset[int] = frozenset()
    """Indices of messages that are neither stored nor parked yet: `BatchWriter.retry_set_aside` reports on them later."""


class SinkUnavailable(Exception):
    """The database cannot store the batch now. No row is known to be stored, so the same batch can be written again.

    `errno` is the database's error number. `commit_outcome_unknown` means that the connection broke during COMMIT, so the rows may
    be stored. `retry_immediately` means that a retry need not wait (a deadlock).
    """

    def __init__(
        self,
        message: str,
        *,
        errno: int | None = None,
        commit_outcome_unknown: bool = False,
        retry_immediately: bool = False,
    ) -> None:
        super().__init__(message)
        self.errno = errno
        self.commit_outcome_unknown = commit_outcome_unknown
        self.retry_immediately = retry_immediately


class SinkVerificationFailed(SinkUnavailable):
    """The database is no longer what was verified at the start: its table, its session settings or its file has changed.

    Nothing of the batch is stored. The same batch again is right once a person has undone the change.
    """

    def __init__(self, message: str, *, errno: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, errno=errno)
        self.hint = hint


class BatchRejected(Exception):
    """The database rejects at least one row of the batch because of its values. No row of the batch is stored."""

    def __init__(self, message: str, *, errno: int | None = None, reason: str = "database") -> None:
        super().__init__(message)
        self.errno = errno
        self.reason = reason


class TransactionTooLarge(Exception):
    """The server takes the rows of the batch only in smaller transactions; nothing of it is stored. Never raised for one row."""

    def __init__(self, message: str, *, errno: int | None = None) -> None:
        super().__init__(message)
        self.errno = errno


class RowSuspected(Exception):
    """The database refuses the one row of the batch, with an error that does not show whether the row is at fault.

    `other_row_accepted`: at the same time it accepted another row with the same device id into the same table (rolled back).
    """

    def __init__(self, message: str, *, errno: int | None = None, other_row_accepted: bool) -> None:
        super().__init__(message)
        self.errno = errno
        self.other_row_accepted = other_row_accepted


class SinkMisconfigured(Exception):
    """No batch can be stored until a person fixes the database: a missing table, a missing privilege or a wrong password."""

    def __init__(self, message: str, *, errno: int | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.errno = errno
        self.hint = hint


class DeadLetterBoxUnavailable(Exception):
    """The dead-letter box cannot be written now (disk full, locked, read-only). No letter was parked."""


class Sink(Protocol):
    """One writer's connection to the database. It belongs to one thread."""

    def write(self, rows: Sequence[Row]) -> int:
        """Commit all of `rows` in one transaction, or none, and return the number of new rows.

        Rows that are in the table already (same key) are not an error. Returns only after the server answered OK to COMMIT.
        Raises SinkUnavailable, BatchRejected or SinkMisconfigured; TransactionTooLarge for several rows, RowSuspected for one.
        """
        ...

    def close(self) -> None:
        """Return the connection to the pool."""
        ...


class DeadLetterBox(Protocol):
    """The store of messages that can never become rows as they are. It is used by several threads at once."""

    def park(self, letters: Sequence[DeadLetter]) -> int:
        """Store all of `letters`, fsynced, or none, and return the number of new ones. Raises DeadLetterBoxUnavailable."""
        ...


class Decoder(Protocol):
    """A function that verifies, decrypts and parses a delivery.

    It returns a row (Reading or TableRow), several rows (FanOut), or Rejected. It is thread-safe and raises no exception on purpose.
    """

    def __call__(self, delivery: Delivery) -> Row | FanOut | Rejected: ...


class DeliveryHandler(Protocol):
    """The receiver of a source's deliveries. All calls come from the event loop's thread."""

    def holds(self, token: AckToken) -> bool:
        """Return True when the batcher or a writer has this delivery."""
        ...

    def receive(self, deliveries: Sequence[Delivery], *, more: bool) -> None:
        """Take over the deliveries of one read of one socket, in arrival order. `more`: it probably has more data already."""
        ...

    def fail(self, error: BaseException) -> None:
        """Stop the pipeline, because the source cannot continue (permanently refused, session taken over)."""
        ...


class Source(Protocol):
    """The origin of the deliveries. All methods are called on the event loop's thread."""

    @property
    def connected(self) -> bool:
        """True when all of its connections are up."""
        ...

    async def start(self, handler: DeliveryHandler) -> None:
        """Connect and subscribe; from then on `handler` receives the deliveries. Raises BrokerError when permanently refused."""
        ...

    def settle(self, tokens: Sequence[AckToken]) -> None:
        """Mark these deliveries as stored or parked, and acknowledge those whose turn it is by arrival order."""
        ...

    def pause(self) -> None:
        """Stop reading from the sockets (back-pressure). Deliveries received before are still to be settled."""
        ...

    def resume(self) -> None:
        """Continue to read from the sockets."""
        ...

    async def drain_and_end_sessions(self) -> None:
        """Unsubscribe, and return once no more messages arrive and all are acknowledged; the sessions can end then."""
        ...

    def stop_receiving(self) -> None:
        """Hand over no more deliveries; acknowledgements are still sent."""
        ...

    async def close(self) -> None:
        """Send the last acknowledgements and DISCONNECT. The broker keeps the sessions that are not drained."""
        ...
