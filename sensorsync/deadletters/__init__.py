"""The dead-letter box: one SQLite file, outside the database, for messages that can never be stored as they are.

A letter is settled towards the broker once it is parked, so parking is as durable as a COMMIT: write-ahead log, `synchronous = FULL`,
and one transaction for all letters of a batch. The same message again is the same letter, seen once more.
"""

from __future__ import annotations

from sensorsync.deadletters.box import DeadLetters, Refusal
from sensorsync.deadletters.criteria import Criteria, State, topic_matches
from sensorsync.deadletters.letters import ReasonCount, StoredLetter, device_of, identity
from sensorsync.deadletters.lock import replay_lock
from sensorsync.deadletters.replay import LeaveInBox, Replay, RetryPolicy, Tally
from sensorsync.deadletters.transfer import letter_of, line_of

__all__ = [
    "Criteria",
    "DeadLetters",
    "LeaveInBox",
    "ReasonCount",
    "Refusal",
    "Replay",
    "RetryPolicy",
    "State",
    "StoredLetter",
    "Tally",
    "device_of",
    "identity",
    "letter_of",
    "line_of",
    "replay_lock",
    "topic_matches",
]
