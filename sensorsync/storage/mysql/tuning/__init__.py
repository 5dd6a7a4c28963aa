"""`tune-db`: what a MySQL or MariaDB server could be set to for our workload, and doing it in a way that can be taken back.

The advice is a pure function of the server's variables, the memory and a profile; setting, undo and measuring are beside it.
"""

from __future__ import annotations

from sensorsync.storage.mysql.tuning.advice import UNTOUCHED, advise, notes
from sensorsync.storage.mysql.tuning.change import Outcome, Status, apply, revert
from sensorsync.storage.mysql.tuning.fragment import fragment
from sensorsync.storage.mysql.tuning.measurement import Measured, measure
from sensorsync.storage.mysql.tuning.product import Product
from sensorsync.storage.mysql.tuning.server import TunedServer, identity, tuned
from sensorsync.storage.mysql.tuning.situation import Advice, Profile, Situation
from sensorsync.storage.mysql.tuning.undo import UndoFile

__all__ = [
    "UNTOUCHED",
    "Advice",
    "Measured",
    "Outcome",
    "Product",
    "Profile",
    "Situation",
    "Status",
    "TunedServer",
    "UndoFile",
    "advise",
    "apply",
    "fragment",
    "identity",
    "measure",
    "notes",
    "revert",
    "tuned",
]
