"""BatchWriter: every message of a batch is stored, parked, or the batch is kept. There is no fourth way out.

It runs in a writer's thread but owns neither the thread nor the clock: waiting is a function that it is given, and that function
saying "stop" is the only way in which a batch ends without an outcome. Then nothing of it is acknowledged.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence

from sensorsync.lifecycle import Backoff
from sensorsync.meter import Kept, WriterMeter
from sensorsync.pipeline.contract import (
    BatchRefused,
    BoxUnavailable,
    DeadLetter,
    DeadLetterBox,
    Decoder,
    Delivery,
    Reading,
    Rejected,
    Sink,
    SinkMisconfigured,
    SinkUnavailable,
    WriteReport,
)

logger = logging.getLogger(__name__)

PROMPT_RETRIES = 5
"""How many deadlocks in a row are retried at once before the back-off begins."""


class BatchKept(Exception):
    """The pipeline stops before the batch could be stored or parked: it stays unacknowledged, and the broker will send it again."""


class Refusals:
    """Tells a poison row from a database that refuses everything.

    `limit` rows refused in a row with none stored between, counted over batches and writers, are *systemic*: the fault is not in the
    rows, so they are kept, not parked. One row stored ends it.
    """

    def __init__(self, limit: int = 100) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._consecutive = 0

    @property
    def systemic(self) -> bool:
        """Whether the last `limit` rows were all refused."""
        return self._consecutive >= self._limit

    def stored(self) -> None:
        """A row was stored."""
        self._consecutive = 0

    def refused(self) -> None:
        """A single row was refused."""
        with self._lock:
            self._consecutive += 1


class BatchWriter:
    """The work of one writer.

    `pause(seconds)` waits and returns False when the pipeline gives up waiting. `wait_for_database`: a misconfigured database is
    waited for instead of stopping the process.
    """

    def __init__(
        self,
        number: int,
        sink: Sink,
        box: DeadLetterBox,
        decode: Decoder,
        *,
        backoff: Backoff,
        pause: Callable[[float], bool],
        refusals: Refusals,
        wait_for_database: bool = False,
        meter: WriterMeter | None = None,
    ) -> None:
        self._number = number
        self._sink = sink
        self._box = box
        self._decode = decode
        self._backoff = backoff
        self._pause = pause
        self._refusals = refusals
        self._wait_for_database = wait_for_database
        self._meter = meter or WriterMeter()
        self._attempts = 0

    def write(self, deliveries: Sequence[Delivery]) -> WriteReport:
        """Store or park every one of `deliveries`; returns only when that is on disk.

        Raises BatchKept when the pipeline stops first, SinkMisconfigured when only a person can help.
        """
        started = time.monotonic()
        self._attempts = 0
        readings, places, rejected = self._decode_all(deliveries)
        new, refused = self._store(readings)
        for index, refusal in refused.items():
            place = places[index]
            rejected[place] = _letter(deliveries[place], refusal.reason, str(refusal), refusal.errno)
        stored = len(readings) - len(refused)
        if stored:
            took = (time.monotonic() - started) * 1000
            logger.debug(
                "[BATCH] Worker-%d committed %d records in %.0fms",
                self._number,
                stored,
                took,
                extra={"event": "batch", "worker": self._number, "records": stored, "duration_ms": round(took, 1)},
            )
        if rejected:
            self._park(rejected)
        self._meter.batch_seconds.observe(time.monotonic() - started)
        return WriteReport(stored, stored - min(new, stored), rejected, max(self._attempts, 1))

    def close(self) -> None:
        """Give the sink's connection back."""
        self._sink.close()

    # -- decode --------------------------------------------------------------------------------------------------------------

    def _decode_all(self, deliveries: Sequence[Delivery]) -> tuple[list[Reading], list[int], dict[int, DeadLetter]]:
        """Readings, their places in the batch, and the letters of what is no reading."""
        readings: list[Reading] = []
        places: list[int] = []
        rejected: dict[int, DeadLetter] = {}
        decode = self._decode
        for place, delivery in enumerate(deliveries):
            try:
                decoded = decode(delivery) if delivery.fault is None else Rejected("mqtt", delivery.fault)
            except Exception:
                # A bug of ours in one message must not become a crash loop over its batch.
                logger.exception("[WORKER-%d] decoding failed", self._number, extra={"event": "decode_failed"})
                decoded = Rejected("internal", traceback.format_exc())
            if isinstance(decoded, Rejected):
                rejected[place] = _letter(delivery, decoded.reason, decoded.message, None)
            else:
                readings.append(decoded)
                places.append(place)
        return readings, places, rejected

    # -- store ---------------------------------------------------------------------------------------------------------------

    def _store(self, readings: Sequence[Reading]) -> tuple[int, Mapping[int, BatchRefused]]:
        """Commit all that the database takes: how many rows were new, and the refusals by index."""
        while True:
            new, refused = self._bisect(readings)
            if not (refused and self._refusals.systemic):
                self._meter.waits_for = None
                return new, refused
            some = next(iter(refused.values()))
            self._wait(
                Kept.REFUSALS,
                "the database refuses every reading; they are kept, not parked",
                some,
                hint="mend the table or the mapping: `sensorsync init-db --check`",
            )

    def _bisect(self, readings: Sequence[Reading]) -> tuple[int, dict[int, BatchRefused]]:
        """Halve a refused batch down to its poison rows: k of n rows cost O(k log n) transactions; the others are stored."""
        new = 0
        refused: dict[int, BatchRefused] = {}
        spans = [(0, len(readings))] if readings else []
        while spans:
            low, high = spans.pop()
            try:
                new += self._commit(readings[low:high])
            except BatchRefused as refusal:
                if high - low == 1:
                    refused[low] = refusal
                    self._refusals.refused()
                else:
                    middle = (low + high) // 2
                    spans += [(middle, high), (low, middle)]
            else:
                self._refusals.stored()
        return new, refused

    def _commit(self, readings: Sequence[Reading]) -> int:
        """One transaction, again and again until the database says yes or no. Returns how many rows are known to be new.

        After a COMMIT whose answer was lost, the rows that the retry finds may be our own: then all count as new.
        """
        prompt = 0
        ambiguous = False
        while True:
            self._attempts += 1
            began = time.monotonic()
            try:
                new = self._sink.write(readings)
            except SinkUnavailable as error:
                ambiguous |= error.ambiguous
                prompt = prompt + 1 if error.prompt else 0
                if 0 < prompt <= PROMPT_RETRIES:
                    self._meter.keep(Kept.LOCK, error)
                else:
                    self._wait(Kept.DATABASE, "database unavailable", error)
            except SinkMisconfigured as error:
                if not self._wait_for_database:
                    raise
                self._wait(Kept.CONFIGURATION, "the database is not ready for us", error, hint=error.hint)
            else:
                self._backoff.reset()
                self._meter.waits_for = None
                self._meter.committed(time.monotonic() - began, readings[-1].ts)
                return len(readings) if ambiguous else new

    # -- park ----------------------------------------------------------------------------------------------------------------

    def _park(self, rejected: Mapping[int, DeadLetter]) -> None:
        letters = list(rejected.values())
        while True:
            try:
                self._box.park(letters)
            except BoxUnavailable as error:
                hint = "make room or mend its folder's rights"
                self._wait(Kept.DEAD_LETTERS, "the dead-letter box takes nothing", error, hint=hint)
            else:
                self._backoff.reset()
                self._meter.waits_for = None
                break
        logger.warning(
            "[WORKER-%d] %d events preserved in DLQ (%s)",
            self._number,
            len(letters),
            ", ".join(sorted({letter.reason for letter in letters})),
            extra={"event": "parked", "worker": self._number, "letters": len(letters)},
        )

    def _wait(self, cause: Kept, what: str, error: Exception, hint: str | None = None) -> None:
        """Back off once; the batch is kept meanwhile. Raises BatchKept when the pipeline gives up."""
        self._meter.keep(cause, error)
        self._meter.waits_for = cause, f"{what}: {error}"
        delay = self._backoff.next()
        logger.warning(
            "[WORKER-%d] %s: %s; batch kept, next try in %.1fs%s",
            self._number,
            what,
            error,
            delay,
            f" - {hint}" if hint else "",
            extra={"event": "kept", "worker": self._number, "errno": getattr(error, "errno", None)},
        )
        if not self._pause(delay):
            raise BatchKept(str(error)) from error


def _letter(delivery: Delivery, reason: str, message: str, errno: int | None) -> DeadLetter:
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
