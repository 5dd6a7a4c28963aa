"""The `dlq export` and `dlq import` commands, which write letters as JSON lines and read them into a box."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import BinaryIO, Final

from sensorsync.commands.result import CommandResult
from sensorsync.config import Settings
from sensorsync.deadletters import Criteria, DeadLetters, StoredLetter
from sensorsync.deadletters.transfer import letter_from_line, letter_to_line
from sensorsync.errors import UsageError

logger = logging.getLogger(__name__)

_IMPORT_BATCH_SIZE: Final = 1000
"""Letters in one transaction of an import."""


def export(
    settings: Settings, criteria: Criteria, file: Path | None, stdout: BinaryIO, *, force: bool = False
) -> CommandResult:
    """Write letters as JSON lines, the first parked first, to a file or, when it is None, to `stdout`.

    The file appears when it is complete. Raises UsageError when it exists already (unless `force`) or cannot be
    written, BrokenPipeError when the reader of `stdout` is gone, DeadLetterBoxError.
    """
    if file is None:
        written = _write_letters(settings, criteria, stdout)
        stdout.flush()
        logger.info("%s letters exported", f"{written:,}", extra={"event": "exported", "letters": written})
        return CommandResult("dlq export")
    if file.exists() and not force:
        raise UsageError(f"{file} is there already", hint="name another file, or add --force")
    part = file.with_name(f"{file.name}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            written = _write_letters(settings, criteria, out)
            out.flush()
            os.fsync(out.fileno())
        part.replace(file)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UsageError(f"cannot write {file}: {error.strerror}") from error
    return CommandResult("dlq export", {"file": str(file), "exported": written})


def import_letters(settings: Settings, file: Path | None, stdin: BinaryIO) -> CommandResult:
    """Put exported letters into the box, unchanged, from a file or, when it is None, from `stdin`.

    Letters that are already in the box stay as they are. Raises UsageError at the first line that is not a letter;
    those before it may be in the box then. Raises DeadLetterBoxError.
    """
    box = DeadLetters.from_settings(settings)
    read = new = 0
    try:
        with nullcontext(stdin) if file is None else file.open("rb") as lines:
            letters = _read_letters(lines, "standard input" if file is None else str(file))
            box.open()
            with closing(box):
                while some := list(itertools.islice(letters, _IMPORT_BATCH_SIZE)):
                    new += box.restore(some)
                    read += len(some)
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from error
    return CommandResult("dlq import", {"path": str(box.path), "read": read, "new": new, "known": read - new})


def _write_letters(settings: Settings, criteria: Criteria, out: BinaryIO) -> int:
    box = DeadLetters.from_settings(settings)
    exists = box.open_read_only()
    written = 0
    with closing(box):
        for letter in box.letters(criteria, oldest_first=True) if exists else ():
            out.write(letter_to_line(letter))
            written += 1
    return written


def _read_letters(lines: Iterable[bytes], name: str) -> Iterator[StoredLetter]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield letter_from_line(line)
        except ValueError as error:
            raise UsageError(
                f"line {number} of {name} is no letter: {error}",
                hint="it takes what `sensorsync dlq export` writes; when the line is mended, import the whole file again",
            ) from error
