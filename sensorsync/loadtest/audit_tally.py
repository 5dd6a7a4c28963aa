"""The arithmetic of an audit, which finds the stored and the missing messages of a run.

It reads no database; the rows are passed to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from sensorsync.loadtest.messages import METRIC, GeneratedMessages, Run, client_seed, event_id_tail, value_of

MAX_RANGES = 10_000
"""Ranges of missing sequence numbers in a report, at most. Ranges beyond that are only counted."""
_MAX_EXAMPLES = 10
_STORED, _CORRUPT, _PARKED = 1, 2, 3
_BROKER_QUEUE_OVERFLOW = (
    "the broker acknowledged them and did not deliver them: its queue for the subscriber was full "
    "(mosquitto: max_queued_messages, by default 1000 a session, drops the newest, 0 means no bound; "
    "EMQX: mqtt.max_mqueue_len, by default 1000, drops the oldest; raise it only together with "
    "force_shutdown { max_mailbox_size = 100000, max_heap_size = 512MB }), or it gave up a session that held much "
    "(EMQX's force_shutdown; the subscriber logs session_lost), or it was restarted without persistence, "
    "or a subscriber was killed under load and EMQX lost a few messages while its sessions were taken over"
)


@dataclass(frozen=True, slots=True)
class MissingRange:
    """The missing sequence numbers `first` to `last` of one client, both included."""

    client: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The result of an audit. A message is stored, parked or missing, or its only row is corrupt."""

    run: str
    messages: int | None
    """Number of messages of the run; None when no row contains it."""
    clients: int | None
    messages_stored: int
    missing: int | None
    missing_ranges: tuple[MissingRange, ...]
    """Missing ranges by client and sequence number, at most MAX_RANGES."""
    corrupt: int
    """Rows that differ from f(run, client, seq), or that belong to no message of the run."""
    corrupt_examples: tuple[str, ...]
    duplicate_rows: int
    """Rows beyond the first of their message, which has two keys then."""
    parked: int
    """Messages that are in the local dead-letter box and not stored."""
    likely_cause: str | None
    rows: int
    """Rows of the run that were read, valid or not."""

    @property
    def complete(self) -> bool:
        """True when nothing is missing, nothing is corrupt, and the run has rows."""
        return self.missing == 0 and self.corrupt == 0

    def as_data(self) -> dict[str, Any]:
        """Return the JSON object of the command's result."""
        return {
            "run": self.run,
            "messages": self.messages,
            "clients": self.clients,
            "stored": self.messages_stored,
            "missing": self.missing,
            "missing_ranges": [
                {"client": found.client, "first": found.first, "last": found.last} for found in self.missing_ranges
            ],
            "corrupt": self.corrupt,
            "corrupt_examples": list(self.corrupt_examples),
            "duplicates": self.duplicate_rows,
            "parked": self.parked,
            "likely_cause": self.likely_cause,
        }


class AuditTally:
    """The messages of one run, counted with one byte each. It takes rows and parked payloads, and returns the report.

    Without an expected `run` it takes the size of the run from the first row that contains it.
    """

    def __init__(self, run_id: str, run: Run | None = None) -> None:
        self._run_id = run_id
        self._run: Run | None = None
        self._message_states: list[bytearray] = []
        self._client_constants: list[tuple[int, bytes, str | None]] = []
        self._corrupt = 0
        self._rows = 0
        self._corrupt_examples: list[str] = []
        self._duplicate_rows = 0
        self._parked: list[tuple[int, int]] = []
        if run is not None:
            self._set_run(run)

    def add_row(self, device_id: str, event_id: bytes, metric: str, value: float | None, payload: str) -> None:
        """Count one row of the table whose device id begins with the run's id."""
        message = _parse_object(payload)
        if message is not None and message.get("run") != self._run_id and not self._is_device_of_run(device_id):
            return  # another run, whose id begins with this one
        self._rows += 1
        place = self._message_position(message)
        if message is None or place is None or self._run is None:
            self._add_corrupt(f"device {device_id}, event {event_id.hex()}: its payload is of no message of the run")
            return
        client, seq = place
        seed, tail, padding = self._client_constants[client]
        right = value_of(seed, seq)
        found = (event_id[6:], device_id, metric, value, message.get("value"), message.get("padding"))
        device = self._run.device_id(client, seq)
        if found != (tail + seq.to_bytes(4, "big"), device, METRIC, right, right, padding):
            self._message_states[client][seq] = self._message_states[client][seq] or _CORRUPT
            self._add_corrupt(f"client {client}, seq {seq}: the row differs from what was sent")
        elif self._message_states[client][seq] == _STORED:
            self._duplicate_rows += 1
        else:
            self._message_states[client][seq] = _STORED

    def add_dead_letter(self, payload: bytes) -> None:
        """Count one dead letter, if it is of this run. `payload` is without the envelope."""
        message = _parse_object(payload)
        if message is not None and message.get("run") == self._run_id and (place := self._message_position(message)):
            self._parked.append(place)

    def report(self) -> AuditReport:
        """Return the result of the audit."""
        for client, seq in self._parked:
            self._message_states[client][seq] = self._message_states[client][seq] or _PARKED
        stored = sum(flags.count(_STORED) for flags in self._message_states)
        parked = sum(flags.count(_PARKED) for flags in self._message_states)
        missing = sum(flags.count(0) for flags in self._message_states) if self._run else None
        ranges = tuple(found for found, _ in zip(self._missing_ranges(), range(MAX_RANGES), strict=False))
        return AuditReport(
            run=self._run_id,
            messages=self._run.messages if self._run else None,
            clients=self._run.clients if self._run else None,
            messages_stored=stored,
            missing=missing,
            missing_ranges=ranges,
            corrupt=self._corrupt,
            corrupt_examples=tuple(self._corrupt_examples),
            duplicate_rows=self._duplicate_rows,
            parked=parked,
            likely_cause=self._likely_cause(stored, missing),
            rows=self._rows,
        )

    # -- inside --------------------------------------------------------------------------------------------------------

    def _set_run(self, run: Run) -> None:
        self._run = run
        self._message_states = [bytearray(run.message_count(client)) for client in range(run.clients)]
        self._client_constants = [
            (
                client_seed(run.id, client),
                event_id_tail(run.id, client),
                GeneratedMessages(run, client).padding if run.payload_size else None,
            )
            for client in range(run.clients)
        ]

    def _message_position(self, message: dict[str, Any] | None) -> tuple[int, int] | None:
        """Return (client, seq), if the message is one that the run can have, else None."""
        if message is None or message.get("run") != self._run_id:
            return None
        client, seq, clients, messages = (message.get(name) for name in ("client", "seq", "clients", "of"))
        if not (type(client) is int and type(seq) is int and type(clients) is int and type(messages) is int):
            return None
        devices, size = message.get("devices"), message.get("size", 0)
        if self._run is None:
            if type(size) is not int or (devices is not None and type(devices) is not int):
                return None
            try:
                self._set_run(Run(self._run_id, messages, clients, devices, size))
            except ValueError:
                return None
        run = self._run
        claimed = (messages, clients, devices, size)
        if run is None or claimed != (run.messages, run.clients, run.devices, run.payload_size):
            return None
        if not (0 <= client < run.clients and 0 <= seq < len(self._message_states[client])):
            return None
        return client, seq

    def _is_device_of_run(self, device_id: str) -> bool:
        number = device_id.removeprefix(f"{self._run_id}-")
        return number != device_id and number.isdigit() and len(number) >= 5

    def _add_corrupt(self, example: str) -> None:
        self._corrupt += 1
        if len(self._corrupt_examples) < _MAX_EXAMPLES:
            self._corrupt_examples.append(example)

    def _missing_ranges(self) -> Iterator[MissingRange]:
        for client, flags in enumerate(self._message_states):
            for first, last in ranges_of_zeros(flags):
                yield MissingRange(client, first, last)

    def _likely_cause(self, stored: int, missing: int | None) -> str | None:
        if missing == 0:
            return None
        if stored == 0 and not self._parked:
            return (
                "nothing of the run is in this database: no subscriber was running, it writes to another database, "
                "or the run's id is misspelt"
            )
        return (
            _BROKER_QUEUE_OVERFLOW
            + ". A subscriber that is still working through its queue looks the same: audit again."
        )


def ranges_of_zeros(flags: bytearray) -> Iterator[tuple[int, int]]:
    """Yield the ranges of zero bytes as (first, last) indexes, both included."""
    for found in re.finditer(rb"\0+", flags):
        yield found.start(), found.end() - 1


def _parse_object(payload: str | bytes) -> dict[str, Any] | None:
    try:
        message = orjson.loads(payload)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None
