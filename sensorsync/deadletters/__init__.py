"""The dead-letter box: one SQLite file, outside the database, for messages that can never be stored as they are.

A message is acknowledged to the broker once its dead letter is parked. Parking is therefore as durable as a COMMIT:
write-ahead log, `synchronous = FULL`, and one transaction for all letters of a batch. A message that arrives again is
the same letter, and its `seen` is counted up.

Code that only one command needs is in modules of its own, so that other commands start without it: `replay` and `lock`,
`transfer`.
"""

from __future__ import annotations

from sensorsync.deadletters.box import DeadLetters
from sensorsync.deadletters.changes import ReplayRejection
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
