"""The rows of a batch, and the messages that they come from. A message may give several rows, but is settled as one."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from sensorsync.pipeline.contract import BatchRejected, DeadLetter, Decoder, Delivery, FanOut, Reading, Rejected, Row

logger = logging.getLogger(__name__)

MAX_PART_ROWS = 10_000
MAX_PART_CHARACTERS = 16 * 1024 * 1024
"""Limits of one part. A batch of more rows (or rejections in place of rows), or more characters, is decoded and committed in parts."""
_MAX_LISTED_REASONS = 10
"""The number of different rejections of one message that are written out. The others are listed by index only."""
_MAX_INDEX_RANGES = 100
"""The number of index ranges that are written out. The other indices are counted: a letter is stored and read by people."""
_MAX_REASON_LENGTH = 300
"""Maximum length of the reason of one rejection among several, in characters."""


def decode_batch(deliveries: Sequence[Delivery], decode: Decoder) -> Iterator[DecodedBatch]:
    """Yield the decoded batch, in one part, or in several when the rows of all its messages would need too much memory."""
    most = max(len(deliveries), MAX_PART_ROWS)
    part = DecodedBatch()
    for message_index, delivery in enumerate(deliveries):
        try:
            found = decode(delivery) if delivery.packet_error is None else Rejected("mqtt", delivery.packet_error)
        except Exception:
            # An exception here is a bug. It must not become a crash loop over the batch.
            logger.exception("decoding failed", extra={"event": "decode_failed"})
            found = Rejected("internal", traceback.format_exc())
        if type(found) is Reading:  # nearly every message when there are no mappings
            part.rows.append(found)
            part.message_indices.append(message_index)
        elif isinstance(found, FanOut):
            part.add_fan_out(message_index, found)
            if len(part.rows) + part.rejected_parts >= most or part.character_count >= MAX_PART_CHARACTERS:
                yield part
                part = DecodedBatch()
        elif isinstance(found, Rejected):
            part.add_rejected(message_index, found)
        else:
            part.add_row(message_index, found)
    yield part


class DecodedBatch:
    """The rows of a batch, or of a part of one, with the indices of their messages, and the rejections of the decoder.

    The rows of a message of several rows are stored or rejected one by one. When at least one is rejected, the whole message is
    parked. A later replay finds its good rows in the table and does not change them.
    """

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.message_indices: list[int] = []
        """Row -> index of its message in the batch. The rows of one message are adjacent."""
        self.character_count = 0
        """Approximate number of characters in the rows of multi-row messages. It may be many times the size of the messages."""
        self.rejected_parts = 0
        """The number of parts of multi-row messages that the decoder rejected."""
        self.rejections: dict[int, list[tuple[int, Rejected]]] = {}
        """Message index -> (index in the message, rejection) for each part that the decoder rejected."""
        self._multi_row_messages: dict[int, tuple[int, dict[int, int]]] = {}
        """Message index of a message of several rows -> (number of its parts, row -> index in the message)."""

    def add_row(self, message_index: int, row: Row) -> None:
        """Add a message of one row."""
        self.rows.append(row)
        self.message_indices.append(message_index)

    def add_rejected(self, message_index: int, rejection: Rejected) -> None:
        """Add a message that gives no row."""
        self.rejections[message_index] = [(0, rejection)]

    def add_fan_out(self, message_index: int, decoded: FanOut) -> None:
        """Add a message of several rows."""
        if not decoded.parts:
            # It would be neither stored nor parked, but acknowledged and lost.
            self.add_rejected(
                message_index, Rejected("internal", "the decoder found neither a row nor a reason why there is none")
            )
            return
        indices: dict[int, int] = {}
        for index, part in enumerate(decoded.parts):
            if isinstance(part, Rejected):
                self.rejections.setdefault(message_index, []).append((index, part))
                self.rejected_parts += 1
            else:
                indices[len(self.rows)] = index
                self.rows.append(part)
                self.message_indices.append(message_index)
                self.character_count += _character_count(part)
        self._multi_row_messages[message_index] = len(decoded.parts), indices

    def dead_letters(
        self, deliveries: Sequence[Delivery], rejected_rows: Mapping[int, BatchRejected] | None = None
    ) -> dict[int, DeadLetter]:
        """Return message index -> dead letter for every message that is not completely stored.

        `rejected_rows` has the rows that the database rejected, in addition to the rejections of the decoder.
        """
        rejections: dict[int, list[tuple[int, str, str, int | None]]] = {
            message_index: [(index, *rejected, None) for index, rejected in found]
            for message_index, found in self.rejections.items()
        }
        for row, rejection in (rejected_rows or {}).items():
            message_index = self.message_indices[row]
            index = self._multi_row_messages[message_index][1][row] if message_index in self._multi_row_messages else 0
            rejections.setdefault(message_index, []).append((index, rejection.reason, str(rejection), rejection.errno))
        return {
            message_index: self._dead_letter(message_index, deliveries[message_index], sorted(found))
            for message_index, found in rejections.items()
        }

    def _dead_letter(
        self, message_index: int, delivery: Delivery, rejections: Sequence[tuple[int, str, str, int | None]]
    ) -> DeadLetter:
        """Return the dead letter with the reason of the first rejection, and all of them by index in its message text."""
        _, reason, message, errno = rejections[0]
        if message_index in self._multi_row_messages:
            message = _format_rejections(
                self._multi_row_messages[message_index][0], {index: text for index, _, text, _ in rejections}
            )
        return DeadLetter(
            delivery.topic,
            delivery.payload,
            delivery.qos,
            delivery.properties,
            reason,
            errno,
            message,
            delivery.received_at,
        )


def _character_count(row: Row) -> int:
    if isinstance(row, Reading):
        return len(row.payload)
    return sum(len(value) for value in row.values if isinstance(value, str))


def _format_rejections(parts: int, reasons_by_index: Mapping[int, str]) -> str:
    """Return one sentence for all rejections of a message; `reasons_by_index` is in order of the index.

    Example: `rejected 3 of 5 rows, the others are stored: [0, 2] value is missing; [4] ts is no time`.
    """
    by_reason: dict[str, list[int]] = {}
    for index, reason in reasons_by_index.items():
        by_reason.setdefault(reason, []).append(index)
    named = [
        f"[{_format_indices(indices)}] {_truncate(reason)}"
        for reason, indices in islice(by_reason.items(), _MAX_LISTED_REASONS)
    ]
    rest = sorted(index for indices in islice(by_reason.values(), _MAX_LISTED_REASONS, None) for index in indices)
    if rest:
        named.append(f"[{_format_indices(rest)}] for other reasons")
    many = "its only row" if parts == 1 else f"all {parts:,} rows"
    if len(reasons_by_index) < parts:
        many = f"{len(reasons_by_index):,} of {parts:,} rows, the others are stored"
    return f"rejected {many}: {'; '.join(named)}"


def _truncate(text: str) -> str:
    return text if len(text) <= _MAX_REASON_LENGTH else f"{text[: _MAX_REASON_LENGTH - 3]}..."


def _format_indices(indices: Sequence[int]) -> str:
    """Return text such as `0, 2-5, 9` for increasing indices."""
    spans = list(_index_ranges(indices))
    shown = [str(first) if first == last else f"{first}-{last}" for first, last in spans[:_MAX_INDEX_RANGES]]
    left = sum(last - first + 1 for first, last in spans[_MAX_INDEX_RANGES:])
    return ", ".join([*shown, f"and {left:,} more"] if left else shown)


def _index_ranges(indices: Sequence[int]) -> Iterator[tuple[int, int]]:
    first = last = indices[0]
    for index in indices[1:]:
        if index != last + 1:
            yield first, last
            first = index
        last = index
    yield first, last
