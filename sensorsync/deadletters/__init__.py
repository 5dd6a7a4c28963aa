"""The dead-letter box: one SQLite file, outside the database, for messages that can never be stored as they are.

A letter is settled towards the broker once it is parked, so parking is as durable as a COMMIT: write-ahead log, `synchronous = FULL`,
and one transaction for all letters of a batch. The same message again is the same letter, seen once more.

What only one command needs is in modules of its own, so that the others start without it: `replay` and `lock`, `transfer`.
"""

from __future__ import annotations

from sensorsync.deadletters.box import DeadLetters, ReplayRejection
from sensorsync.deadletters.criteria import Criteria, State, topic_matches
from sensorsync.deadletters.letters import ReasonCount, StoredLetter, guess_device, message_identity

__all__ = [
    "Criteria",
    "DeadLetters",
    "ReasonCount",
    "ReplayRejection",
    "State",
    "StoredLetter",
    "guess_device",
    "message_identity",
    "topic_matches",
]
