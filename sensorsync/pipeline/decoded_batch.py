"""DecodedBatch: from messages to rows and back. One message may give several rows, and has one fate."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from sensorsync.pipeline.contract import BatchRefused, DeadLetter, Decoder, Delivery, FanOut, Reading, Rejected, Row

logger = logging.getLogger(__name__)

PART_ROWS = 10_000
PART_TEXT = 16 * 1024 * 1024
"""A batch whose messages give more rows (or reasons why there is none), or more characters, is decoded and committed in parts."""
_NAMED = 10
"""So many different faults of one message are told in words, the rest by their index."""
_SPANS = 100
"""So many spans of indices are written out; how many more there are is counted. A letter is read by people, and kept."""
_SAID = 300
"""Characters of one fault among several."""


def decoded(deliveries: Sequence[Delivery], decode: Decoder) -> Iterator[DecodedBatch]:
    """A batch, decoded: in one part, or in several where its messages fan out so far that memory has to be thought of."""
    most = max(len(deliveries), PART_ROWS)
    part = DecodedBatch()
    for place, delivery in enumerate(deliveries):
        try:
            found = decode(delivery) if delivery.fault is None else Rejected("mqtt", delivery.fault)
        except Exception:
            # A bug of ours in one message must not become a crash loop over its batch.
            logger.exception("decoding failed", extra={"event": "decode_failed"})
            found = Rejected("internal", traceback.format_exc())
        if type(found) is Reading:  # nearly every message, where nothing is mapped
            part.rows.append(found)
            part.places.append(place)
        elif isinstance(found, FanOut):
            part.fan_out(place, found)
            if len(part.rows) + part.rejects >= most or part.text >= PART_TEXT:
                yield part
                part = DecodedBatch()
        elif isinstance(found, Rejected):
            part.rejected(place, found)
        else:
            part.one(place, found)
    yield part


class DecodedBatch:
    """A batch, or a part of one: rows, each with the place of its message in the batch, and what is wrong with messages.

    A message of several rows is *parted*: its rows are stored or refused one by one, and it is parked whole when one of them is no
    row. So a later replay of it finds the good ones there, and changes nothing of them.
    """

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.places: list[int] = []
        """Row -> place of its message; the rows of one message stand together."""
        self.text = 0
        """Characters in the rows of parted messages, about: they may be many times what the messages have."""
        self.rejects = 0
        """Parts of messages that are no rows."""
        self.faults: dict[int, list[tuple[int, Rejected]]] = {}
        """Place -> (index in the message, why) of what the decoder rejected."""
        self._parted: dict[int, tuple[int, dict[int, int]]] = {}
        """Place of a message of several rows -> (how many parts it has, row -> index in the message)."""

    def one(self, place: int, row: Row) -> None:
        """Take in a message of one row."""
        self.rows.append(row)
        self.places.append(place)

    def rejected(self, place: int, why: Rejected) -> None:
        """Take in a message that gives no row."""
        self.faults[place] = [(0, why)]

    def fan_out(self, place: int, decoded: FanOut) -> None:
        """Take in a message of several rows."""
        if not decoded.parts:
            # Neither stored nor parked: it would be acknowledged and gone.
            self.rejected(place, Rejected("internal", "the decoder found neither a row nor a reason why there is none"))
            return
        indices: dict[int, int] = {}
        for index, part in enumerate(decoded.parts):
            if isinstance(part, Rejected):
                self.faults.setdefault(place, []).append((index, part))
                self.rejects += 1
            else:
                indices[len(self.rows)] = index
                self.rows.append(part)
                self.places.append(place)
                self.text += _text(part)
        self._parted[place] = len(decoded.parts), indices

    def letters(
        self, deliveries: Sequence[Delivery], refused: Mapping[int, BatchRefused] | None = None
    ) -> dict[int, DeadLetter]:
        """Place -> letter of every message that is not stored whole; `refused` by row: what the database refused besides."""
        faults: dict[int, list[tuple[int, str, str, int | None]]] = {
            place: [(index, *rejected, None) for index, rejected in found] for place, found in self.faults.items()
        }
        for row, refusal in (refused or {}).items():
            place = self.places[row]
            index = self._parted[place][1][row] if place in self._parted else 0
            faults.setdefault(place, []).append((index, refusal.reason, str(refusal), refusal.errno))
        return {place: self._letter(place, deliveries[place], sorted(found)) for place, found in faults.items()}

    def _letter(self, place: int, delivery: Delivery, faults: Sequence[tuple[int, str, str, int | None]]) -> DeadLetter:
        """The reason is that of the first fault; the message names all of them by their index."""
        _, reason, message, errno = faults[0]
        if place in self._parted:
            message = _told(self._parted[place][0], {index: said for index, _, said, _ in faults})
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


def _text(row: Row) -> int:
    if isinstance(row, Reading):
        return len(row.payload)
    return sum(len(value) for value in row.values if isinstance(value, str))


def _told(parts: int, faults: Mapping[int, str]) -> str:
    """`rejected 3 of 5 rows, the others are stored: [0, 2] value is missing; [4] ts is no time`; `faults` by index, in order."""
    by_words: dict[str, list[int]] = {}
    for index, said in faults.items():
        by_words.setdefault(said, []).append(index)
    named = [f"[{_listed(indices)}] {_cut(said)}" for said, indices in islice(by_words.items(), _NAMED)]
    rest = sorted(index for indices in islice(by_words.values(), _NAMED, None) for index in indices)
    if rest:
        named.append(f"[{_listed(rest)}] for other reasons")
    many = "its only row" if parts == 1 else f"all {parts:,} rows"
    if len(faults) < parts:
        many = f"{len(faults):,} of {parts:,} rows, the others are stored"
    return f"rejected {many}: {'; '.join(named)}"


def _cut(text: str) -> str:
    return text if len(text) <= _SAID else f"{text[: _SAID - 3]}..."


def _listed(indices: Sequence[int]) -> str:
    """`0, 2-5, 9` for increasing indices."""
    spans = list(_spans(indices))
    shown = [str(first) if first == last else f"{first}-{last}" for first, last in spans[:_SPANS]]
    left = sum(last - first + 1 for first, last in spans[_SPANS:])
    return ", ".join([*shown, f"and {left:,} more"] if left else shown)


def _spans(indices: Sequence[int]) -> Iterator[tuple[int, int]]:
    first = last = indices[0]
    for index in indices[1:]:
        if index != last + 1:
            yield first, last
            first = index
        last = index
    yield first, last
