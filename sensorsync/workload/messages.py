"""What the messages of a run say: everything but the time follows from (run, client, seq), so an audit can check every one.

`client` and `seq` count from 0. A message is lost, doubled or changed exactly when the audit's arithmetic says so.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from string import ascii_lowercase, digits
from zlib import crc32

METRIC = "load"
MAX_CLIENTS = 2**20
"""A client's number has 20 bits in an event id."""
MAX_SEQ = 2**32
"""A sequence number has 32."""
_LETTERS = digits + ascii_lowercase
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_KNUTH = 2654435761
"""2**32 / golden ratio: multiplying by it scatters neighbours."""


def new_run_id(now: datetime | None = None) -> str:
    """A short name for a run that sorts by time: `r20261124-2015-ab12` (UTC)."""
    moment = now or datetime.now(UTC)
    return f"r{moment:%Y%m%d-%H%M}-" + "".join(secrets.choice(_LETTERS) for _ in range(4))


def is_run_id(text: str) -> bool:
    """Whether `text` can name a run: letters, digits, `-` and `_`, at most 64."""
    return _RUN_ID.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Run:
    """A run: how many messages, dealt out among how many clients. Raises ValueError when that can't be."""

    id: str
    messages: int
    clients: int

    def __post_init__(self) -> None:
        if not is_run_id(self.id):
            raise ValueError(f"{self.id!r} is no run id: letters, digits, '-' and '_', at most 64")
        if not 0 < self.clients <= MAX_CLIENTS:
            raise ValueError(f"a run has 1 to {MAX_CLIENTS} clients, not {self.clients}")
        if not 0 < self.messages <= MAX_SEQ:
            raise ValueError(f"a run has 1 to {MAX_SEQ} messages, not {self.messages}")

    def share(self, client: int) -> int:
        """How many messages `client` sends: as many as the others, or one more."""
        return self.messages // self.clients + (client < self.messages % self.clients)

    def device_id(self, client: int) -> str:
        """The device that `client` plays."""
        return f"{self.id}-{client:05d}"


def client_seed(run: str, client: int) -> int:
    """What tells the values of one client from those of another."""
    return crc32(f"{run}-{client}".encode())


def value_of(seed: int, seq: int) -> float:
    """The value of message `seq` of the client with this seed: 0 to 131071.875 in eighths, which every database keeps exactly."""
    return (((seed + seq) * _KNUTH & 0xFFFFFFFF) >> 12) / 8


def event_id_tail(run: str, client: int) -> bytes:
    """Bytes 6 to 11 of the client's event ids (UUIDv7, RFC 9562, section 5.7): version, run, variant, client.

    Bytes 0 to 5 are the time in milliseconds, bytes 12 to 15 the sequence number.
    """
    fingerprint = crc32(run.encode())
    high = 0x7000 | fingerprint & 0xFFF
    low = 0x8000 | (fingerprint >> 12 & 0x3FF) << 4 | client >> 16
    return bytes([high >> 8, high & 0xFF, low >> 8, low & 0xFF, client >> 8 & 0xFF, client & 0xFF])


class Messages:
    """The messages of one client of a run, made as they are needed."""

    def __init__(self, run: Run, client: int) -> None:
        device = run.device_id(client)
        tail = event_id_tail(run.id, client).hex()
        self._event = f"-{tail[:4]}-{tail[4:8]}-{tail[8:]}".encode()
        self._device = f'","device_id":"{device}","metric":"{METRIC}","ts":"'.encode()
        self._place = f',"run":"{run.id}","client":{client},"clients":{run.clients},"seq":'.encode()
        self._end = f',"of":{run.messages}}}'.encode()
        self._seed = client_seed(run.id, client)
        self._share = run.share(client)
        self._next = 0

    @property
    def exhausted(self) -> bool:
        """Whether all of them were taken."""
        return self._next >= self._share

    def due_in(self, now: float) -> float:  # noqa: ARG002 - a recording has a pace, a load has none
        """Seconds until the next message is due: always 0."""
        return 0.0

    def take(self, limit: int, now: float) -> list[bytes]:
        """The next messages, at most `limit`, with `now` (Unix time in seconds) as their time."""
        first, self._next = self._next, min(self._share, self._next + limit)
        return list(self._made(range(first, self._next), now))

    def _made(self, sequence: range, now: float) -> Iterator[bytes]:
        # A template, not json.dumps: two processes must make more messages than a broker can take.
        milliseconds = b"%012x" % int(now * 1000)
        head = b'{"event_id":"' + milliseconds[:8] + b"-" + milliseconds[8:] + self._event
        moment = datetime.fromtimestamp(now, UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
        middle = self._device + moment.encode() + b'Z","value":'
        seed, place, end = self._seed, self._place, self._end
        for seq in sequence:
            eighths = ((seed + seq) * _KNUTH & 0xFFFFFFFF) >> 12
            yield b"%b%08x%b%d.%03d%b%d%b" % (head, seq, middle, eighths >> 3, (eighths & 7) * 125, place, seq, end)
