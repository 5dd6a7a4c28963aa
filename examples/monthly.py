#!/usr/bin/env python3
"""Query a demo's database back: mean, min and max of each month, from the table `sensor_readings`.

python3 monthly.py ENVELOPE, where ENVELOPE is what `sensorsync demo --file ... --keep --json` printed.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

QUERY = """
SELECT substr(ts, 1, 7) AS month, metric, unit, count(*), avg(value), min(value), max(value)
FROM sensor_readings WHERE device_id = ? GROUP BY metric, unit, month ORDER BY metric, month
"""


def main(envelope: Path) -> None:
    """Print the table."""
    data = json.loads(envelope.read_text(encoding="utf-8"))["data"]
    with closing(sqlite3.connect(data["database"])) as database:
        rows = database.execute(QUERY, ("KJFK",)).fetchall()
    print(f"{data['published']:,} readings published, {data['acked']:,} acknowledged, {data['stored']:,} stored")
    title = None
    for month, metric, unit, count, mean, low, high in rows:
        if metric != title:
            title = metric
            print(f"\n{metric} ({unit})\n  month    readings    mean     min     max")
        print(f"  {month} {count:10,} {mean:7.1f} {low:7.1f} {high:7.1f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
