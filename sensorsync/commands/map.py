"""The `map` command, which shows the rows that the configured mappings make of a message.

Nothing is stored, and no message is taken away from another subscriber.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

from sensorsync.commands.map_dry_run import DryRun, DryRunResult
from sensorsync.commands.map_samples import BadSampleLine, Sample, message_properties, read_samples
from sensorsync.commands.result import CommandResult
from sensorsync.config import Settings
from sensorsync.config.checks import broker_cleartext_credentials
from sensorsync.errors import ExitCode, InterruptedByUser, Problem, UsageError
from sensorsync.messages.reading import TableRow
from sensorsync.messages.topics import check_filter, check_name, filter_matches
from sensorsync.mqtt.sampler import sample_messages
from sensorsync.pipeline.contract import Delivery, FanOut, Reading, Rejected, Row
from sensorsync.runtime.shutdown import GracefulShutdown

logger = logging.getLogger(__name__)

COMMAND: Final = "map"
PREVIEW_BYTES: Final = 200
"""Bytes of a payload that are shown, at most."""
MAX_PAYLOAD_BYTES: Final = 2 * 1024 * 1024
"""Bytes of a payload that are read from a file, at most. No larger message is held whole when it arrives."""
_MAX_NAMED_LINES: Final = 20
"""Bad lines that are listed, at most."""
_READINGS_TABLE: Final = "sensor_readings"


@dataclass(frozen=True, slots=True)
class InputMessage:
    """One message from the command line."""

    topic: str
    payload: bytes
    user_properties: tuple[tuple[str, str], ...] = ()
    content_type: str | None = None


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """The number of messages to take from the broker, and the time limit."""

    messages: int
    topics: tuple[str, ...] = ()
    """Topic filters; when there are none, those of the subscription."""
    timeout: float = 30.0
    """Time limit in seconds."""


CountCallback = Callable[[int], None]
"""A function that is called with the number of messages received."""


def map_message(settings: Settings, input_message: InputMessage) -> CommandResult:
    """Map one message and return its rows or rejections. Raises UsageError for an invalid topic, ConfigurationError."""
    try:
        check_name(input_message.topic)
    except ValueError as error:
        raise UsageError(f"--topic: {error}") from error
    properties = message_properties(input_message.user_properties, input_message.content_type)
    report = _Report(settings)
    report.add(Delivery(input_message.topic, input_message.payload, 0, time.time(), None, properties))
    return report.result()


def map_file(settings: Settings, file: Path | None, stdin: BinaryIO) -> CommandResult:
    """Map the messages of a file, or of `stdin` when it is None. It has one JSON object per line.

    The format is described in `sensorsync.commands.map_samples`. A line that is not a sample is reported, and the other
    lines are still mapped. Exit code 5 for such a line, and for a file without any message. Raises UsageError when the
    file cannot be read, ConfigurationError.
    """
    report = _Report(settings)
    if file is None:
        report.add_lines(read_samples(stdin))
    else:
        try:
            with file.open("rb") as stream:
                report.add_lines(read_samples(stream))
        except OSError as error:
            raise UsageError(f"cannot read {file}: {error.strerror or error}") from error
    empty = Problem("no_message", "there is no message in the file", "write one a line; see docs/reference/cli.md")
    return report.result(problems=[] if report.messages or report.bad_lines else [empty])


def read_payload(file: Path | None, stdin: BinaryIO) -> bytes:
    """Return the payload in a file, or in `stdin` when the file is None. Raises UsageError."""
    try:
        payload = stdin.read(MAX_PAYLOAD_BYTES + 1) if file is None else _read_limited(file)
    except OSError as error:
        raise UsageError(f"--payload-file: cannot read {file}: {error.strerror or error}") from error
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise UsageError(
            f"--payload-file: it has more than {MAX_PAYLOAD_BYTES} bytes, and no message of that size is taken"
        )
    return payload


async def map_live(settings: Settings, options: LiveOptions, on_count: CountCallback = lambda _: None) -> CommandResult:
    """Map the next messages of the broker, until there are enough, the time is over or a stop is requested.

    Exit code 5 when no message came, or when it was stopped before the end. Raises UsageError, BrokerError,
    ConfigurationError.
    """
    topics = options.topics or tuple(settings.mqtt.topics)
    for topic in topics:
        try:
            check_filter(topic)
        except ValueError as error:
            raise UsageError(f"--topic {topic}: {error}") from error
    for warning in broker_cleartext_credentials(settings):
        logger.warning("%s", warning, extra={"event": "clear_text"})
    report = _Report(settings)
    with GracefulShutdown() as stop:
        sampling = asyncio.create_task(_sample_messages(settings, topics, options, report, on_count))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({sampling, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        sampling.cancel()
        await asyncio.wait({sampling})  # it disconnects from the broker
        if not sampling.cancelled():
            sampling.result()
    seconds = time.monotonic() - report.started_at
    listened = {"topics": list(topics), "wanted": options.messages, "seconds": round(seconds, 3)}
    return report.result(listened, _sampling_problems(report, topics, seconds, stopped=stop.requested))


async def _sample_messages(
    settings: Settings, topics: Sequence[str], options: LiveOptions, report: _Report, on_count: CountCallback
) -> None:
    async with sample_messages(settings, topics, options.messages) as sampler:
        words = "subscribed to %s: waiting for %d messages, %g s at most"
        logger.info(words, ", ".join(topics), options.messages, options.timeout, extra={"event": "listening"})
        report.started_at = time.monotonic()
        on_count(0)
        with suppress(TimeoutError):
            async with asyncio.timeout(options.timeout):
                for number in range(1, options.messages + 1):
                    report.add(await sampler.next())
                    logger.debug("%d of %d messages", number, options.messages, extra={"event": "heard"})
                    on_count(number)


def _sampling_problems(report: _Report, topics: Sequence[str], seconds: float, *, stopped: bool) -> list[Problem]:
    if stopped:
        return [Problem.from_error(InterruptedByUser())]
    if report.messages:
        return []
    words = f"no message came on {', '.join(topics)} in {seconds:.0f} s"
    hint = "is something published there now? Listen longer with --timeout 5m, or to more with --topic '#'"
    return [Problem("no_message", words, hint)]


def _read_limited(file: Path) -> bytes:
    with file.open("rb") as stream:
        return stream.read(MAX_PAYLOAD_BYTES + 1)


@dataclass(slots=True)
class _Report:
    """The results of the messages so far."""

    settings: Settings
    messages: list[dict[str, Any]] = field(default_factory=list)
    bad_lines: list[BadSampleLine] = field(default_factory=list)
    started_at: float = field(default_factory=time.monotonic)
    """Start of the sampling, where there is one (`time.monotonic()`)."""
    _first_rows: dict[tuple[object, ...], dict[str, int]] = field(default_factory=dict)
    """First position of each row key."""
    _dry_run: DryRun = field(init=False)

    def __post_init__(self) -> None:
        self._dry_run = DryRun(self.settings)

    def add_lines(self, lines: Iterable[Sample | BadSampleLine]) -> None:
        """Add the samples and the bad lines of a file."""
        for one in lines:
            if isinstance(one, BadSampleLine):
                self.bad_lines.append(one)
            else:
                self.add(one.delivery, one.line)

    def add(self, delivery: Delivery, line: int | None = None) -> None:
        """Map one message and add its result."""
        payload = delivery.payload
        self.messages.append(
            {
                "line": line,
                "topic": delivery.topic,
                "subscribed": any(filter_matches(one, delivery.topic) for one in self.settings.mqtt.topics),
                "size": len(payload),
                "payload": payload[:PREVIEW_BYTES].decode(errors="backslashreplace"),
                "payload_truncated": len(payload) > PREVIEW_BYTES,
                **self._result_as_json(self._dry_run.run(delivery)),
            }
        )

    def _result_as_json(self, result: DryRunResult) -> dict[str, Any]:
        decoded = result.decoded
        parts = tuple(enumerate(decoded.parts if isinstance(decoded, FanOut) else (decoded,)))
        return {
            "mapping": result.mapping,
            "passed_over": [passed._asdict() for passed in result.passed_over],
            "rows": [
                {"index": index, "repeats": self._earlier_row(part, index), **_row_as_json(part)}
                for index, part in parts
                if not isinstance(part, Rejected)
            ],
            "rejected": [{"index": index, **part._asdict()} for index, part in parts if isinstance(part, Rejected)],
        }

    def _earlier_row(self, row: Row, index: int) -> dict[str, int] | None:
        """Return the position of an earlier row with the same key, if there is one.

        In the database the two are one row.
        """
        here = {"message": len(self.messages), "index": index}
        earlier = self._first_rows.setdefault(_row_key(row), here)
        return None if earlier is here else earlier

    def result(self, live_summary: dict[str, Any] | None = None, problems: Sequence[Problem] = ()) -> CommandResult:
        """Return the result of the command; `problems` are those of the source of the messages."""
        parked = [one for one in self.messages if one["rejected"]]
        data = {
            "mappings": self._dry_run.mapping_names,
            "messages": self.messages,
            "rows": sum(len(one["rows"]) for one in self.messages),
            "parked": len(parked),
            "bad_lines": [bad._asdict() for bad in self.bad_lines],
            "listened": live_summary,
        }
        found = [*problems, *self._find_problems(parked)]
        return CommandResult(COMMAND, data, ExitCode.INCOMPLETE if found else ExitCode.OK, tuple(found))

    def _find_problems(self, parked: Sequence[dict[str, Any]]) -> Iterable[Problem]:
        if parked:
            reasons = Counter(one["rejected"][0]["reason"] for one in parked)
            words = ", ".join(f"{reason} {count:,}" for reason, count in reasons.most_common())
            yield Problem(
                "rejected",
                f"{len(parked):,} of {len(self.messages):,} messages would be parked as dead letters ({words})",
                "each says why; docs/how-to/map-any-payload.md shows how messages become readings",
            )
        if self.bad_lines:
            one = len(self.bad_lines) == 1
            what = "line of the file is no sample and was" if one else "lines of the file are no samples and were"
            first = ", ".join(str(bad.line) for bad in self.bad_lines[:_MAX_NAMED_LINES])
            more = ", ..." if len(self.bad_lines) > _MAX_NAMED_LINES else ""
            words = f"{len(self.bad_lines):,} {what} left out: line{'' if one else 's'} {first}{more}"
            hint = 'a line is an object such as {"topic": "a/b", "payload": {"value": 21.5}}; see docs/reference/cli.md'
            yield Problem("bad_lines", words, hint)


def _row_key(row: Row) -> tuple[object, ...]:
    if isinstance(row, Reading):
        return (_READINGS_TABLE, *row[:4])
    return (row.table.name, *(row.values[place] for place in row.table.key_places))


def _row_as_json(row: Row) -> dict[str, Any]:
    if isinstance(row, Reading):
        columns = row._asdict() | {
            "event_id": str(uuid.UUID(bytes=row.event_id)),
            "ts": _rfc3339(row.ts),
            "received_at": _format_timestamp(row.received_at),
        }
        return {"table": _READINGS_TABLE, "columns": columns}
    return {"table": row.table.name, "columns": _target_columns(row)}


def _target_columns(row: TableRow) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for column, value in zip(row.table.columns, row.values, strict=True):
        if isinstance(value, bytes):
            shown[column.name] = str(uuid.UUID(bytes=value))
        elif column.kind == "time" and isinstance(value, str):
            shown[column.name] = _rfc3339(value)
        else:
            shown[column.name] = value
    return shown


def _rfc3339(stored: str) -> str:
    """Return `2026-01-02T03:04:05.5Z` for `2026-01-02 03:04:05.500000`."""
    return stored.replace(" ", "T").rstrip("0").removesuffix(".") + "Z"


def _format_timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
