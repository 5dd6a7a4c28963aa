"""`tune-db`: advice about the settings of a MySQL or MariaDB server for our workload, and changes that can be undone.

The advice is a pure function of the server's variables, the memory and a profile. Other modules change variables, undo
changes and measure.
"""

from __future__ import annotations

from sensorsync.storage.mysql.tuning.advice import UNTOUCHED_NOTE, advise, notes
from sensorsync.storage.mysql.tuning.change import VariableResult, VariableStatus, apply, revert
from sensorsync.storage.mysql.tuning.measurement import Measurement, measure
from sensorsync.storage.mysql.tuning.my_cnf_snippet import my_cnf_snippet
from sensorsync.storage.mysql.tuning.product import Product
from sensorsync.storage.mysql.tuning.server import TunedServer, open_tuned_server, server_identity
from sensorsync.storage.mysql.tuning.tuning_input import Advice, Profile, TuningInput
from sensorsync.storage.mysql.tuning.undo import UndoFile

__all__ = [
    "UNTOUCHED_NOTE",
    "Advice",
    "Measurement",
    "Product",
    "Profile",
    "TunedServer",
    "TuningInput",
    "UndoFile",
    "VariableResult",
    "VariableStatus",
    "advise",
    "apply",
    "measure",
    "my_cnf_snippet",
    "notes",
    "open_tuned_server",
    "revert",
    "server_identity",
]
