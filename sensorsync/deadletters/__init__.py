"""The dead-letter box: one SQLite file, outside the database, for messages that can never be stored as they are.

A letter is settled towards the broker once it is parked, so parking is as durable as a COMMIT: write-ahead log, `synchronous = FULL`,
and one transaction for all letters of a batch. The same message again is the same letter, seen once more.
"""

from __future__ import annotations

from sensorsync.deadletters.box import DeadLetters
from sensorsync.deadletters.letters import ReasonCount, StoredLetter, identity

__all__ = ["DeadLetters", "ReasonCount", "StoredLetter", "identity"]
