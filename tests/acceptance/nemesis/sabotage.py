"""Run sensorsync with a fault planted in it: `python -m tests.acceptance.nemesis.sabotage FAULT subscribe ...`.

This is the only module of the nemesis that names internals of sensorsync. Each fault takes away one guard of the promise; a name that
does not exist any more ends the program before it begins.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

LEDGER = ("sensorsync.pipeline.ledger", "AckLedger")
SINK = ("sensorsync.storage.mysql.sink", "MySqlSink")
UNAVAILABLE = ("sensorsync.pipeline.contract", "SinkUnavailable")
BOX = ("sensorsync.deadletters.box", "DeadLetters")
BOX_UNAVAILABLE = ("sensorsync.pipeline.contract", "DeadLetterBoxUnavailable")
MAIN = ("sensorsync.__main__", "main")


def _named(place: tuple[str, str]) -> Any:
    module, name = place
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise SystemExit(f"sabotage: {module}.{name} does not exist any more: {error}") from error


def _replace(place: tuple[str, str], method: str, build: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Put what `build` makes of a method in the method's place."""
    owner = _named(place)
    if not callable(original := getattr(owner, method, None)):
        raise SystemExit(f"sabotage: {'.'.join(place)} has no method {method}")
    setattr(owner, method, build(original))


def early_ack() -> None:
    """A batch counts as stored when it was handed to the database: its PUBACKs leave before the COMMIT is answered."""

    def build(write: Callable[..., int]) -> Callable[..., int]:
        def at_once(sink: Any, rows: Sequence[Any]) -> int:
            before = getattr(sink, "_sabotaged", None)
            if before is not None:
                before.join()
            sink._sabotaged = threading.Thread(target=write, args=(sink, rows), daemon=True)
            sink._sabotaged.start()
            return len(rows)

        return at_once

    _replace(SINK, "write", build)


def late_ack() -> None:
    """Tokens of an earlier connection settle deliveries of the present one: the epoch is not compared."""

    def build(settle: Callable[..., list[int]]) -> Callable[..., list[int]]:
        def in_any_epoch(ledger: Any, tokens: Sequence[Any]) -> list[int]:
            ledger.stale_deliveries -= sum(token.epoch != ledger.epoch for token in tokens)
            return settle(ledger, [token._replace(epoch=ledger.epoch) for token in tokens])

        return in_any_epoch

    _replace(LEDGER, "settle", build)


def unordered_ack() -> None:
    """Acknowledgements leave as soon as their own message is settled, whatever came before it."""

    def build(settle: Callable[..., list[int]]) -> Callable[..., list[int]]:
        def at_once(ledger: Any, tokens: Sequence[Any]) -> list[int]:
            settle(ledger, tokens)
            return [token.packet_id for token in tokens if token.epoch == ledger.epoch]

        return at_once

    _replace(LEDGER, "settle", build)


def swallowed_error() -> None:
    """A database that is not available counts as one that has stored the batch."""
    unavailable = _named(UNAVAILABLE)

    def build(write: Callable[..., int]) -> Callable[..., int]:
        def always(sink: Any, rows: Sequence[Any]) -> int:
            try:
                return write(sink, rows)
            except unavailable:
                return len(rows)

        return always

    _replace(SINK, "write", build)


def unparked_letter() -> None:
    """A dead-letter box that takes nothing counts as one that has taken the letters."""
    unavailable = _named(BOX_UNAVAILABLE)

    def build(park: Callable[..., int]) -> Callable[..., int]:
        def always(box: Any, letters: Sequence[Any]) -> int:
            try:
                return park(box, letters)
            except unavailable:
                return len(letters)

        return always

    _replace(BOX, "park", build)


FAULTS: dict[str, Callable[[], None]] = {
    plant.__name__: plant for plant in (early_ack, late_ack, unordered_ack, swallowed_error, unparked_letter)
}


def launcher(fault: str) -> tuple[str, ...]:
    """Return the words that run sensorsync with this fault."""
    return (sys.executable, "-m", "tests.acceptance.nemesis.sabotage", fault)


if __name__ == "__main__":
    FAULTS[sys.argv.pop(1)]()
    _named(MAIN)()
