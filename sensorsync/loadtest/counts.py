"""What the processes of a fleet report: counts that can be pickled and added."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sensorsync.loadtest import BadRecordingLine
from sensorsync.mqtt.publisher.inflight import PublishStats
from sensorsync.runtime.histogram import LatencyHistogram

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}


@dataclass(frozen=True, slots=True)
class PublishCounts:
    """PublishStats of one process or of all, frozen; see there. `window`: messages that may be unacknowledged at present."""

    sent: int = 0
    acked: int = 0
    no_subscriber: int = 0
    failed: int = 0
    retransmitted: int = 0
    reconnects: int = 0
    waited: float = 0.0
    last_sent: float = 0.0
    window: int = 0
    reasons: Mapping[int, int] = field(default_factory=dict)
    latencies: tuple[tuple[int, ...], ...] = ()
    """Encoded histograms, one a process; only in the last report."""
    bad_lines: int = 0
    """Lines of a recording that are no readings."""
    bad: tuple[BadRecordingLine, ...] = ()
    """The first of them."""

    @property
    def answered(self) -> int:
        """Messages that the broker answered with anything."""
        return self.acked + self.no_subscriber + self.failed

    @classmethod
    def from_stats(
        cls,
        stats: PublishStats,
        window: int,
        *,
        encode_latency: bool,
        bad_lines: int = 0,
        bad: Iterable[BadRecordingLine] = (),
    ) -> PublishCounts:
        """The counts of one process; `latency` only when they are final, because it has to be encoded."""
        return cls(
            stats.sent,
            stats.acked,
            stats.no_subscriber,
            stats.failed,
            stats.retransmitted,
            stats.reconnects,
            stats.latency_sum,
            stats.last_sent,
            window,
            dict(stats.reason_codes),
            (stats.latency.encode(),) if encode_latency else (),
            bad_lines,
            tuple(bad),
        )

    @classmethod
    def total(cls, parts: Iterable[PublishCounts]) -> PublishCounts:
        """The sum."""
        whole = list(parts)
        reasons: dict[int, int] = {}
        for part in whole:
            for code, count in part.reasons.items():
                reasons[code] = reasons.get(code, 0) + count
        return cls(
            sum(part.sent for part in whole),
            sum(part.acked for part in whole),
            sum(part.no_subscriber for part in whole),
            sum(part.failed for part in whole),
            sum(part.retransmitted for part in whole),
            sum(part.reconnects for part in whole),
            sum(part.waited for part in whole),
            max((part.last_sent for part in whole), default=0.0),
            sum(part.window for part in whole),
            reasons,
            tuple(latency for part in whole for latency in part.latencies),
            sum(part.bad_lines for part in whole),
            tuple(line for part in whole for line in part.bad),
        )

    def latency_ms(self) -> dict[str, float | None]:
        """Milliseconds to a message's PUBACK (see PublishStats): p50, p90, p99, p99.9, max. None when there were none."""
        merged = LatencyHistogram()
        for encoded in self.latencies:
            merged.add(LatencyHistogram.decode(encoded))
        if not merged.count:
            return dict.fromkeys([*PERCENTILES, "max"])
        values = {name: merged.percentile(percent) for name, percent in PERCENTILES.items()}
        return {name: value / 1000 for name, value in {**values, "max": merged.maximum}.items()}
