"""The advice itself: a rule looks at one situation and says what it thinks of one variable, or None when it has nothing to say.

The workload is always the same: a few connections, each with one multi-row upsert of some hundred rows per transaction, into one table
clustered by (device_id, metric, ts, event_id) without any other index. So new rows go to one hot page per device and metric, commits
wait for the log, and what helps is memory for the hot pages, a redo log that is not full all the time, and an idle disk.
"""

from __future__ import annotations

from collections.abc import Callable

from sensorsync.storage.mysql.tuning.rules import connections, durability, memory, storage
from sensorsync.storage.mysql.tuning.tuning_input import Advice, TuningInput

Rule = Callable[[TuningInput], Advice | None]

RULES: tuple[Rule, ...] = (*durability.RULES, *memory.RULES, *storage.RULES, *connections.RULES)
"""In the order of the report, which is the order of setting, too: innodb_io_capacity_max bounds innodb_io_capacity."""
