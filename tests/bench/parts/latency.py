"""latency: an open loop, watched from outside: a row counts when another connection sees it."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from functools import partial

from sensorsync.runtime.histogram import LatencyHistogram
from tests.bench.arena import Arena, arena
from tests.bench.parts.consuming import our_figures, our_subscriber
from tests.bench.parts.scale import Say, Scale
from tests.bench.tables import Figures, Part, alternate
from tests.services import DatabaseServer

RATES = (500, 2_000, 10_000)
SECONDS = 20
LOOK = 0.002
"""Seconds between two looks at the table: what a latency may be overstated by."""
PER_DEVICE = 500
"""Messages per second of one client. One client's rows are watched: to read all of them would be a load of its own."""
OVERLAP = timedelta(milliseconds=100)
"""Two writers may commit out of order; every second a look goes back further, and what it finds counts as late as it was found."""
RUN = "latency"


def latency(scale: Scale, say: Say) -> Part:
    """Latency counts from when a message was due, so a pause of the publisher is not forgiven."""
    with arena() as place:
        rows = alternate(
            {f"{rate:,} messages/s": partial(_measured, place, rate, max(3, SECONDS * scale.factor)) for rate in RATES},
            scale.rounds,
            say,
        )
    return Part("latency", "milliseconds from when a message was due to its PUBACK and to its row", rows)


def _measured(place: Arena, rate: int, seconds: float) -> Figures:
    messages = int(rate * seconds)
    with our_subscriber(place, messages) as subscriber:
        clients = max(1, rate // PER_DEVICE)
        watch = _Watch(place.database, messages // clients)
        words = [
            "--messages",
            str(messages),
            "--rate",
            str(rate),
            "--processes",
            "1",
            "--clients",
            str(clients),
            "--run",
            RUN,
        ]
        with watch, place.sensorsync("stress-publish", "--json", *words) as publisher:
            figures = our_figures(subscriber.end(), messages)
            answered = publisher.end().last_line["data"]["latency_ms"]
            watch.finish()
    percentiles = {
        "PUBACK p50": answered["p50"],
        "PUBACK p99": answered["p99"],
        "PUBACK p99.9": answered["p99.9"],
        "row p50": watch.percentile(50),
        "row p99": watch.percentile(99),
        "row p99.9": watch.percentile(99.9),
    }
    return Figures(None, figures.cpu, figures.rss, percentiles)


class _Watch:
    """Looks at the table again and again, and notes for every row how long after its `ts` it was first seen."""

    def __init__(self, database: DatabaseServer, messages: int) -> None:
        self._database = database
        self._messages = messages
        self._seen = 0
        self._found = LatencyHistogram()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._over = threading.Event()

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def finish(self) -> None:
        """All rows were seen, or an error is raised."""
        self._thread.join(10)
        if self._seen != self._messages:
            raise RuntimeError(f"{self._seen} rows of {self._messages} were seen")

    def percentile(self, percent: float) -> float:
        """Milliseconds."""
        return self._found.percentile(percent) / 1000

    def _look(self) -> None:
        known: set[bytes] = set()
        since = datetime(2000, 1, 1, tzinfo=UTC).replace(tzinfo=None)
        query = (
            f"SELECT event_id, ts FROM `{self._database.name}`.sensor_readings"
            " WHERE device_id = %s AND metric = 'load' AND ts > %s"
        )
        looks = 0
        with self._database.connect() as connection, connection.cursor() as cursor:
            while self._seen < self._messages and not self._over.is_set():
                overlap = OVERLAP if looks % 500 else 50 * OVERLAP
                cursor.execute(query, (f"{RUN}-00000", since - overlap))
                now = time.time()
                for event_id, ts in cursor.fetchall():
                    if event_id not in known:
                        known.add(event_id)
                        self._seen += 1
                        self._found.record(max(1, int((now - ts.replace(tzinfo=UTC).timestamp()) * 1e6)))
                        since = max(since, ts)
                looks += 1
                time.sleep(LOOK)
