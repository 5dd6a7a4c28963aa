"""The rules of the advice: a rule gives advice about one variable for one TuningInput, or None when it does not apply.

The workload is always the same: a few connections, each with one multi-row upsert of some hundred rows per transaction,
into one table clustered by (device_id, metric, ts, event_id) without any other index. So new rows go to one hot page
per device and metric, and commits wait for the log. Memory for the hot pages, a redo log that is not always full, and
an idle disk help.
"""

from __future__ import annotations

from collections.abc import Callable

from sensorsync.storage.mysql.tuning.rules import connections, durability, memory, storage
from sensorsync.storage.mysql.tuning.tuning_input import Advice, TuningInput

Rule = Callable[[TuningInput], Advice | None]

RULES: tuple[Rule, ...] = (*durability.RULES, *memory.RULES, *storage.RULES, *connections.RULES)
"""The rules in the order of the report, which is also the order of setting: innodb_io_capacity_max limits innodb_io_capacity."""
