"""DecodedBatch: from messages to rows and back. One message may give several rows, and has one fate."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from sensorsync.pipeline.contract import BatchRejected, DeadLetter, Decoder, Delivery, FanOut, Reading, Rejected, Row

logger = logging.getLogger(__name__)

MAX_PART_ROWS = 10_000
MAX_PART_CHARACTERS = 16 * 1024 * 1024
"""A batch whose messages give more rows (or reasons why there is none), or more characters, is decoded and committed in parts."""
_MAX_LISTED_REASONS = 10
"""So many different faults of one message are told in words, the rest by their index."""
_MAX_INDEX_RANGES = 100
"""So many spans of indices are written out; how many more there are is counted. A letter is read by people, and kept."""
_MAX_REASON_LENGTH = 300
"""Characters of one fault among several."""


def decode_batch(deliveries: Sequence[Delivery], decode: Decoder) -> Iterator[DecodedBatch]:
    """A batch, decoded: in one part, or in several where its messages fan out so far that memory has to be thought of."""
    most = max(len(deliveries), MAX_PART_ROWS)
    part = DecodedBatch()
    for place, delivery in enumerate(deliveries):
        try:
            found = decode(delivery) if delivery.packet_error is None else Rejected("mqtt", delivery.packet_error)
        except Exception:
            # A bug of ours in one message must not become a crash loop over its batch.
            logger.exception("decoding failed", extra={"event": "decode_failed"})
            found = Rejected("internal", traceback.format_exc())
        if type(found) is Reading:  # nearly every message, where nothing is mapped
            part.rows.append(found)
            part.message_indices.append(place)
        elif isinstance(found, FanOut):
            part.add_fan_out(place, found)
            if len(part.rows) + part.rejected_parts >= most or part.character_count >= MAX_PART_CHARACTERS:
                yield part
                part = DecodedBatch()
        elif isinstance(found, Rejected):
            part.add_rejected(place, found)
        else:
            part.add_row(place, found)
    yield part


class DecodedBatch:
    """A batch, or a part of one: rows, each with the place of its message in the batch, and what is wrong with messages.

    A message of several rows is *parted*: its rows are stored or refused one by one, and it is parked whole when one of them is no
    row. So a later replay of it finds the good ones there, and changes nothing of them.
    """

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.message_indices: list[int] = []
        """Row -> place of its message; the rows of one message stand together."""
        self.character_count = 0
        """Characters in the rows of parted messages, about: they may be many times what the messages have."""
        self.rejected_parts = 0
        """Parts of messages that are no rows."""
        self.rejections: dict[int, list[tuple[int, Rejected]]] = {}
        """Place -> (index in the message, why) of what the decoder rejected."""
        self._multi_row_messages: dict[int, tuple[int, dict[int, int]]] = {}
        """Place of a message of several rows -> (how many parts it has, row -> index in the message)."""

    def add_row(self, message_index: int, row: Row) -> None:
        """Take in a message of one row."""
        self.rows.append(row)
        self.message_indices.append(message_index)

    def add_rejected(self, message_index: int, rejection: Rejected) -> None:
        """Take in a message that gives no row."""
        self.rejections[message_index] = [(0, rejection)]

    def add_fan_out(self, message_index: int, decoded: FanOut) -> None:
        """Take in a message of several rows."""
        if not decoded.parts:
            # Neither stored nor parked: it would be acknowledged and gone.
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
        """Place -> letter of every message that is not stored whole; `refused` by row: what the database refused besides."""
        faults: dict[int, list[tuple[int, str, str, int | None]]] = {
            place: [(index, *rejected, None) for index, rejected in found] for place, found in self.rejections.items()
        }
        for row, refusal in (rejected_rows or {}).items():
            place = self.message_indices[row]
            index = self._multi_row_messages[place][1][row] if place in self._multi_row_messages else 0
            faults.setdefault(place, []).append((index, refusal.reason, str(refusal), refusal.errno))
        return {place: self._dead_letter(place, deliveries[place], sorted(found)) for place, found in faults.items()}

    def _dead_letter(
        self, message_index: int, delivery: Delivery, rejections: Sequence[tuple[int, str, str, int | None]]
    ) -> DeadLetter:
        """The reason is that of the first fault; the message names all of them by their index."""
        _, reason, message, errno = rejections[0]
        if message_index in self._multi_row_messages:
            message = _format_rejections(
                self._multi_row_messages[message_index][0], {index: said for index, _, said, _ in rejections}
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
    """`rejected 3 of 5 rows, the others are stored: [0, 2] value is missing; [4] ts is no time`; `faults` by index, in order."""
    by_words: dict[str, list[int]] = {}
    for index, said in reasons_by_index.items():
        by_words.setdefault(said, []).append(index)
    named = [
        f"[{_format_indices(indices)}] {_truncate(said)}"
        for said, indices in islice(by_words.items(), _MAX_LISTED_REASONS)
    ]
    rest = sorted(index for indices in islice(by_words.values(), _MAX_LISTED_REASONS, None) for index in indices)
    if rest:
        named.append(f"[{_format_indices(rest)}] for other reasons")
    many = "its only row" if parts == 1 else f"all {parts:,} rows"
    if len(reasons_by_index) < parts:
        many = f"{len(reasons_by_index):,} of {parts:,} rows, the others are stored"
    return f"rejected {many}: {'; '.join(named)}"


def _truncate(text: str) -> str:
    return text if len(text) <= _MAX_REASON_LENGTH else f"{text[: _MAX_REASON_LENGTH - 3]}..."


def _format_indices(indices: Sequence[int]) -> str:
    """`0, 2-5, 9` for increasing indices."""
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
