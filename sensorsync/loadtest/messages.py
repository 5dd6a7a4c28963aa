"""The messages of a run: everything but the time follows from (run, client, seq), so an audit can check every one.

`client` and `seq` count from 0. A message is lost, doubled or changed exactly when the audit's arithmetic reports it.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count, repeat
from string import ascii_lowercase, digits
from zlib import crc32

from sensorsync.loadtest.schedule import Schedule
from sensorsync.messages.reading import ReadingRules
from sensorsync.mqtt.publisher.feed import Burst

METRIC = "load"
MAX_CLIENTS = 2**20
"""Maximum number of clients. A client's number has 20 bits in an event id."""
MAX_SEQ = 2**32
"""Maximum number of messages. A sequence number has 32 bits in an event id."""
MAX_PAYLOAD = ReadingRules().max_payload - 64
"""Bytes that a message can be padded to, at most. It may have some more, and a subscriber must still accept it."""
_RUN_ID_ALPHABET = digits + ascii_lowercase
_RUN_ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_KNUTH_MULTIPLIER = 2654435761
"""The multiplier 2**32 / golden ratio, which scatters neighbouring numbers."""


def new_run_id(now: datetime | None = None) -> str:
    """Return a short name for a run that sorts by time, such as `r20261124-2015-ab12` (UTC)."""
    moment = now or datetime.now(UTC)
    return f"r{moment:%Y%m%d-%H%M}-" + "".join(secrets.choice(_RUN_ID_ALPHABET) for _ in range(4))


def is_run_id(text: str) -> bool:
    """Return True when `text` can name a run: letters, digits, `-` and `_`, at most 64."""
    return _RUN_ID_PATTERN.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Run:
    """A run: a number of messages, divided among a number of clients. Raises ValueError for an impossible one."""

    id: str
    messages: int
    clients: int
    devices: int | None = None
    """Number of devices that all clients simulate together. None: each simulates one."""
    payload_size: int = 0
    """Bytes of a message, at least."""

    def __post_init__(self) -> None:
        if not is_run_id(self.id):
            raise ValueError(f"{self.id!r} is no run id: letters, digits, '-' and '_', at most 64")
        if not 0 < self.clients <= MAX_CLIENTS:
            raise ValueError(f"a run has 1 to {MAX_CLIENTS} clients, not {self.clients}")
        if not 0 < self.messages <= MAX_SEQ:
            raise ValueError(f"a run has 1 to {MAX_SEQ} messages, not {self.messages}")
        if self.devices is not None and not 0 < self.devices <= MAX_SEQ:
            raise ValueError(f"a run has 1 to {MAX_SEQ} devices, not {self.devices}")
        if not 0 <= self.payload_size <= MAX_PAYLOAD:
            raise ValueError(f"a message can be padded to at most {MAX_PAYLOAD} bytes, not {self.payload_size}")

    def message_count(self, client: int) -> int:
        """Return the number of messages that `client` sends. It may be one more than that of other clients."""
        return self.messages // self.clients + (client < self.messages % self.clients)

    def client_name(self, client: int) -> str:
        """Return the name that distinguishes `client` from the others."""
        return f"{self.id}-{client:05d}"

    def device_number(self, client: int, seq: int) -> int:
        """Return the number of the device that sends message `seq` of `client`.

        Each device belongs to one client (device d to client d modulo clients), which takes its devices in turn. When
        there are fewer devices than clients, several clients share one.
        """
        if self.devices is None:
            return client
        if self.devices <= self.clients:
            return client % self.devices
        return client + self.clients * (seq % self.device_count(client))

    def device_count(self, client: int) -> int:
        """Return the number of devices that `client` simulates."""
        return 1 if self.devices is None else max(1, -(-(self.devices - client) // self.clients))

    def device_id(self, client: int, seq: int = 0) -> str:
        """Return the `device_id` of message `seq` of `client`."""
        return f"{self.id}-{self.device_number(client, seq):05d}"


def client_seed(run: str, client: int) -> int:
    """Return the number that distinguishes the values of one client from those of another."""
    return crc32(f"{run}-{client}".encode())


def value_of(seed: int, seq: int) -> float:
    """Return the value of message `seq` of the client with this seed.

    It is 0 to 131071.875 in eighths, which every database stores exactly.
    """
    return (((seed + seq) * _KNUTH_MULTIPLIER & 0xFFFFFFFF) >> 12) / 8


def event_id_tail(run: str, client: int) -> bytes:
    """Return bytes 6 to 11 of the client's event ids: version, run, variant, client.

    The ids are UUIDv7 (RFC 9562, section 5.7). Bytes 0 to 5 are the time in milliseconds, bytes 12 to 15 the sequence
    number.
    """
    fingerprint = crc32(run.encode())
    high = 0x7000 | fingerprint & 0xFFF
    low = 0x8000 | (fingerprint >> 12 & 0x3FF) << 4 | client >> 16
    return bytes([high >> 8, high & 0xFF, low >> 8, low & 0xFF, client >> 8 & 0xFF, client & 0xFF])


def topics_for_client(client: int, clients: int, topic: str, topics: int | None) -> Iterator[str]:
    """Return the topics of a client's messages, without an end.

    Without `topics` each is `topic`. Otherwise they are `topic`/0 to `topic`/(topics - 1), in turn over all clients.
    """
    if topics is None:
        return repeat(topic)
    return (f"{topic}/{number % topics}" for number in count(client, clients))


class GeneratedMessages:
    """The messages of one client of a run, generated as they are needed. Without a schedule they are due at once."""

    def __init__(self, run: Run, client: int, schedule: Schedule | None = None) -> None:
        tail = event_id_tail(run.id, client).hex()
        self._event_id_tail = f"-{tail[:4]}-{tail[4:8]}-{tail[8:]}".encode()
        self._run_fields = f',"run":"{run.id}","client":{client},"clients":{run.clients},"seq":'.encode()
        self._run = run
        self._client = client
        self._schedule = schedule
        self._seed = client_seed(run.id, client)
        self._message_count = run.message_count(client)
        self._next_seq = 0
        devices = "" if run.devices is None else f',"devices":{run.devices}'
        end = f',"of":{run.messages}{devices}'
        self._suffix = f"{end}}}".encode()
        self.padding: str | None = None
        """Value of the field that brings every message to `payload_size` bytes at least."""
        if run.payload_size:
            end += f',"size":{run.payload_size},"padding":"'
            self._suffix = f'{end}"}}'.encode()
            self.padding = "x" * self._padding_length()
            self._suffix = f'{end}{self.padding}"}}'.encode()

    @property
    def exhausted(self) -> bool:
        """True when all messages were taken."""
        return self._next_seq >= self._message_count

    def due_in(self, now: float) -> float:
        """Return the seconds until the next message is due."""
        return 0.0 if self._schedule is None else max(0.0, self._schedule.due_at(self._client, self._next_seq) - now)

    def take(self, limit: int, now: float) -> Burst:
        """Return the next messages that are due, at most `limit`.

        Their time is when they were due, or `now` in a closed loop.
        """
        last = min(self._message_count, self._next_seq + limit)
        if self._schedule is not None and self._schedule.is_open_loop:
            return self._take_due(last, now, self._schedule)
        if self.due_in(now) > 0.0:
            return Burst([], ())
        first, self._next_seq = self._next_seq, last
        return Burst(self._make_payloads(range(first, last), now), repeat(now))

    def _take_due(self, last: int, now: float, schedule: Schedule) -> Burst:
        payloads: list[bytes] = []
        since: list[float] = []
        while self._next_seq < last and (due := schedule.due_at(self._client, self._next_seq)) <= now:
            payloads += self._make_payloads(range(self._next_seq, self._next_seq + 1), due)
            since.append(due)
            self._next_seq += 1
        return Burst(payloads, since)

    def _make_payloads(self, sequence: range, now: float) -> list[bytes]:
        # A template instead of json.dumps, because two processes must generate more messages than a broker can accept.
        milliseconds = b"%012x" % int(now * 1000)
        head = b'{"event_id":"' + milliseconds[:8] + b"-" + milliseconds[8:] + self._event_id_tail
        moment = datetime.fromtimestamp(now, UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
        seed, place, end = self._seed, self._run_fields, self._suffix
        # An eighth is 0.125, so the value is written without any float.
        return [
            b"%b%08x%b%d.%03d%b%d%b" % (head, seq, middle, eighths >> 3, (eighths & 7) * 125, place, seq, end)
            for seq, middle in zip(sequence, self._middle_parts(sequence, moment), strict=False)
            for eighths in (((seed + seq) * _KNUTH_MULTIPLIER & 0xFFFFFFFF) >> 12,)
        ]

    def _middle_parts(self, sequence: range, moment: str) -> Iterator[bytes]:
        """Return the part from the event id to the value, for each message.

        It is the same for a whole burst, unless the client simulates several devices.
        """
        run, client = self._run, self._client

        def middle(seq: int) -> bytes:
            return (
                f'","device_id":"{run.device_id(client, seq)}","metric":"{METRIC}","ts":"{moment}Z","value":'.encode()
            )

        return repeat(middle(0)) if run.device_count(client) == 1 else map(middle, sequence)

    def _padding_length(self) -> int:
        """Return the number of bytes that the shortest possible message of this client is below `payload_size`."""
        (first,) = self._make_payloads(range(1), 0.0)
        longer = len(str(int(value_of(self._seed, 0)))) - 1  # than a value of one digit
        return max(0, self._run.payload_size - (len(first) - longer))
