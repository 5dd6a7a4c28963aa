"""The types that carry the promise, and the protocols of what stands at both ends.

A delivery owes an answer. The debt is a type of its own, `AckToken`, and not a method on the message, so that a batch can be split,
retried and parked without anybody being able to acknowledge a part of it by mistake: only a settled token pays, only the ledger that
issued it turns it into a PUBACK, and only on the connection it came from.
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
    "Source",
    "TransactionTooLarge",
    "WriteReport",
]


class AckToken(NamedTuple):
    """The right to acknowledge one delivery, once, on the connection that it came from."""

    link: int
    """Which of the source's connections."""
    epoch: int
    """How many times that link had connected; a token of an earlier epoch pays nothing (a packet id is reused)."""
    seq: int
    """Position in the order of arrival within the epoch ([MQTT-4.6.0-2])."""
    packet_id: int


class Delivery(NamedTuple):
    """One PUBLISH as it arrived. `token` is None for QoS 0, which owes no answer."""

    topic: str
    payload: bytes
    qos: int
    received_at: float
    """Seconds since the epoch (Unix time, UTC)."""
    token: AckToken | None
    properties: Mapping[str, object] | None = None
    """MQTT 5 properties worth keeping with a dead letter (content type, user properties), None when there are none."""
    packet_error: str | None = None
    """Why the packet itself could not be read (it was not MQTT); such a message is parked as it is."""


class FlushReason(StrEnum):
    """Why a batch left the batcher."""

    FULL = "full"
    """It reached its size."""
    STALLED = "stalled"
    """A writer was free and nothing more was at hand."""
    LINGER = "linger"
    """Its oldest member had waited for the batch time-out."""
    DRAIN = "drain"
    """The pipeline is stopping."""


class DeadLetter(NamedTuple):
    """A message that can never be stored as it is, with all that is needed to replay it."""

    topic: str
    payload: bytes
    qos: int
    properties: Mapping[str, object] | None
    reason: str
    """A stable word: `json`, `type`, `signature`, `database`, `internal`, ..."""
    errno: int | None
    """The database's error number, when it was the database that refused."""
    message: str
    received_at: float
    """Seconds since the epoch (Unix time, UTC)."""


@dataclass(frozen=True, slots=True)
class WriteReport:
    """What became of one batch, by index into it: every message is stored or rejected. A batch that is neither has no report."""

    messages_stored: int
    """Messages all of whose rows are committed."""
    rows_stored: int
    """Rows that are committed, those of partly rejected messages, too. Where every message gives one row, `stored`."""
    redelivered_rows: int
    """Of the rows, the ones that were there before."""
    rejected: Mapping[int, DeadLetter]
    """Index in the batch -> its dead letter, all of them fsynced. A message of several rows is parked whole when one is rejected."""
    transactions: int
    """Transactions that it took, at least 1; not those that a batch was divided into only because it gives very many rows."""
    set_aside: frozenset[int] = frozenset()
    """Indices of messages that are neither stored nor parked yet: `BatchWriter.retry_set_aside` reports on them later."""


class SinkUnavailable(Exception):
    """The database cannot take the batch now. Nothing is known to be stored; the same batch again is right.

    `errno` is the database's number, `ambiguous` that the connection broke during COMMIT (rows may be there), `prompt` that a retry
    need not wait (a deadlock).
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


class BatchRejected(Exception):
    """The database refuses at least one row of the batch for what is in it; nothing of the batch is stored."""

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
    """The database refuses the one row of the batch, with an error that does not tell whether the row is at fault.

    `other_row_accepted`: at the same time it accepted another row with the same device id into the same table (rolled back).
    """

    def __init__(self, message: str, *, errno: int | None = None, other_row_accepted: bool) -> None:
        super().__init__(message)
        self.errno = errno
        self.other_row_accepted = other_row_accepted


class SinkMisconfigured(Exception):
    """No batch can ever be stored until a person mends something: a missing table, a missing right, a wrong password."""

    def __init__(self, message: str, *, errno: int | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.errno = errno
        self.hint = hint


class DeadLetterBoxUnavailable(Exception):
    """The dead-letter box cannot take letters now (disk full, locked, read-only). Nothing was parked."""


class Sink(Protocol):
    """One writer's way into the database. It belongs to one thread."""

    def write(self, rows: Sequence[Row]) -> int:
        """Commit all of `rows` in one transaction, or none; return how many were new.

        Rows that are there already (same key) are no error. Returns only after the server answered OK to COMMIT.
        Raises SinkUnavailable, BatchRejected or SinkMisconfigured; TransactionTooLarge for several rows, RowSuspected for one.
        """
        ...

    def close(self) -> None:
        """Give the connection back."""
        ...


class DeadLetterBox(Protocol):
    """Where messages go that can never be stored. Used by several threads at once."""

    def park(self, letters: Sequence[DeadLetter]) -> int:
        """Store all of `letters`, fsynced, or none; return how many were new. Raises DeadLetterBoxUnavailable."""
        ...


class Decoder(Protocol):
    """Delivery -> Reading | TableRow | FanOut | Rejected: verifies, decrypts, parses. Thread-safe; raises nothing on purpose."""

    def __call__(self, delivery: Delivery) -> Row | FanOut | Rejected: ...


class DeliveryHandler(Protocol):
    """Where a source puts what it receives. All calls come from the event loop's thread."""

    def holds(self, token: AckToken) -> bool:
        """Whether the batcher or a writer has this delivery."""
        ...

    def receive(self, deliveries: Sequence[Delivery], *, more: bool) -> None:
        """Take over what one read of one socket held, in order of arrival; `more`: it probably holds more already."""
        ...

    def fail(self, error: BaseException) -> None:
        """The source can't go on (refused for good, session taken over): stop the pipeline."""
        ...


class Source(Protocol):
    """Where deliveries come from. All methods are called on the event loop's thread."""

    @property
    def connected(self) -> bool:
        """Whether all of its connections are up."""
        ...

    async def start(self, handler: DeliveryHandler) -> None:
        """Connect and subscribe; deliveries flow into `inlet` from then on. Raises BrokerError when refused for good."""
        ...

    def settle(self, tokens: Sequence[AckToken]) -> None:
        """These deliveries are stored or parked: acknowledge what is in order."""
        ...

    def pause(self) -> None:
        """Stop reading from the sockets (back-pressure); what was received stays owed."""
        ...

    def resume(self) -> None:
        """Read again."""
        ...

    async def drain_and_end_sessions(self) -> None:
        """For good: unsubscribe, and return once nothing more comes and everything is acknowledged."""
        ...

    def stop_receiving(self) -> None:
        """Hand over nothing more; acknowledgements still go out."""
        ...

    async def close(self) -> None:
        """Send the last acknowledgements, DISCONNECT, keep the sessions."""
        ...
