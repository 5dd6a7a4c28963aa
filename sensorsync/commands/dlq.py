"""`dlq inspect`: what is in the dead-letter box, and why."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sensorsync.config import Settings
from sensorsync.deadletters import DeadLetters, StoredLetter
from sensorsync.result import CommandResult

PREVIEW_BYTES = 200
"""How much of a payload a list shows."""


def inspect(settings: Settings, *, limit: int = 20) -> CommandResult:
    """Counts by reason, and the latest `limit` letters. A box that does not exist yet is empty, and is not created.

    Raises DeadLetterBoxError when the file can't be read or is no box.
    """
    box = DeadLetters(settings.dead_letter_path, max_size=settings.dead_letters.max_size)
    exists = box.open_read_only()
    try:
        counts = box.counts() if exists else []
        letters = list(box.letters(limit=limit, payload_bytes=PREVIEW_BYTES)) if exists else []
    finally:
        box.close()
    data = {
        "path": str(box.path),
        "exists": exists,
        "total": sum(count.letters for count in counts),
        "counts": [count._asdict() for count in counts],
        "letters": [_as_json(letter) for letter in letters],
    }
    return CommandResult("dlq inspect", data)


def _as_json(letter: StoredLetter) -> dict[str, Any]:
    """Times in RFC 3339, and the beginning of the payload as text (bytes that are no UTF-8 as escapes)."""
    shown: dict[str, Any] = letter._asdict()
    for name in ("first_seen", "last_seen", "next_retry_at"):
        shown[name] = _rfc3339(shown[name])
    shown["payload"] = letter.payload.decode(errors="backslashreplace")
    shown["payload_truncated"] = letter.size > len(letter.payload)
    return shown


def _rfc3339(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
