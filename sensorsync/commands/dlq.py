"""The `dlq inspect`, `show`, `release` and `purge` commands, which show the dead-letter box and change its letters."""

from __future__ import annotations

import base64
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from sensorsync.commands.result import CommandResult
from sensorsync.config import Settings
from sensorsync.deadletters import Criteria, DeadLetters, StoredLetter
from sensorsync.errors import IncompleteError, InterruptedByUser, UsageError

PREVIEW_BYTES: Final = 200
"""Bytes of a payload that a list shows, at most."""


def inspect(settings: Settings, criteria: Criteria, *, limit: int = 20) -> CommandResult:
    """Return the counts by reason and the latest `limit` letters.

    A box that does not exist yet is empty, and is not created. Raises DeadLetterBoxError when the file cannot be read
    or is not a dead-letter box.
    """
    box = DeadLetters.from_settings(settings)
    exists = box.open_read_only()
    with closing(box):
        counts = box.reason_counts(criteria) if exists else []
        letters = list(box.letters(criteria, limit=limit, payload_bytes=PREVIEW_BYTES)) if exists else []
    data = {
        "path": str(box.path),
        "exists": exists,
        "total": sum(count.letters for count in counts),
        "due": sum(count.due for count in counts),
        "quarantined": sum(count.letters for count in counts if count.state == "quarantined"),
        "counts": [
            {**count._asdict(), "oldest": _rfc3339(count.oldest), "newest": _rfc3339(count.newest)} for count in counts
        ],
        "letters": [_preview(letter) for letter in letters],
    }
    return CommandResult("dlq inspect", data)


def show(settings: Settings, letter_id: int) -> CommandResult:
    """Return one whole letter. Raises IncompleteError when there is none with this id, DeadLetterBoxError."""
    box = DeadLetters.from_settings(settings)
    exists = box.open_read_only()
    with closing(box):
        letter = box.get(letter_id) if exists else None
    if letter is None:
        raise IncompleteError(
            f"there is no letter {letter_id} in {box.path}",
            hint="it may have been replayed; `sensorsync dlq inspect` lists the letters",
        )
    data = {
        **_letter_as_json(letter),
        "payload_base64": base64.b64encode(letter.payload).decode(),
        "history": [{**past, "at": _rfc3339(past["at"])} for past in (*letter.history, letter.latest_entry)],
    }
    return CommandResult("dlq show", data)


def release(settings: Settings, criteria: Criteria) -> CommandResult:
    """Turn quarantined letters into parked ones, which have all their attempts again. Raises DeadLetterBoxError."""
    box = DeadLetters.from_settings(settings)
    exists = box.open_for_changes()
    with closing(box):
        released = box.release(replace(criteria, state="quarantined")) if exists else 0
    return CommandResult("dlq release", {"path": str(box.path), "released": released})


def purge(settings: Settings, criteria: Criteria, *, everything: bool, confirm: Callable[[int], bool]) -> CommandResult:
    """Delete letters permanently, if `confirm` returns True for their number.

    Raises UsageError without any criterion, unless `everything` is set. Raises InterruptedByUser when `confirm` returns
    False, and DeadLetterBoxError.
    """
    if criteria.is_empty and not everything:
        raise UsageError(
            "dlq purge deletes letters for good, so it wants to be told which",
            hint="give --state, --older-than or another filter; --all means every letter",
        )
    box = DeadLetters.from_settings(settings)
    exists = box.open_for_changes()
    with closing(box):
        meant = sum(count.letters for count in box.reason_counts(criteria)) if exists else 0
        if meant and not confirm(meant):
            raise InterruptedByUser("nothing was purged")
        purged = box.purge(criteria) if meant else 0
        if purged:
            box.compact()
    return CommandResult("dlq purge", {"path": str(box.path), "purged": purged})


def _preview(letter: StoredLetter) -> dict[str, Any]:
    shown = _letter_as_json(letter)
    del shown["history"]
    return {**shown, "payload_truncated": letter.size > len(letter.payload)}


def _letter_as_json(letter: StoredLetter) -> dict[str, Any]:
    """Return the letter with times in RFC 3339 and the payload as text. Bytes that are not UTF-8 become escapes."""
    shown: dict[str, Any] = letter._asdict()
    for name in ("first_seen", "last_seen", "refused_at"):
        shown[name] = _rfc3339(shown[name])
    shown["next_retry_at"] = _rfc3339(letter.next_retry_at) if letter.next_retry_at else None
    shown["sha256"] = letter.sha256.hex()
    shown["payload"] = letter.payload.decode(errors="backslashreplace")
    return shown


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
