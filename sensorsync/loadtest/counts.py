"""The counts that publishing processes report. They can be pickled and added."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from sensorsync.loadtest import BadRecordingLine
from sensorsync.mqtt.publisher.inflight import PublishStats
from sensorsync.runtime.histogram import LatencyHistogram

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}


@dataclass(frozen=True, slots=True)
class PublishCounts:
    """The PublishStats of one process or of all, frozen; the fields are described there.

    `window` is the number of messages that may be unacknowledged at present.
    """

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
    """Encoded histograms, one for each process; only in the last report."""
    bad_lines: int = 0
    """Lines of a recording that are not readings."""
    bad: tuple[BadRecordingLine, ...] = ()
    """The first of the bad lines."""

    @property
    def answered(self) -> int:
        """Messages that the broker has answered, whatever the answer was."""
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
        """Return the counts of one process.

        The latency is included only with `encode_latency`, when the counts are final, because it has to be encoded.
        """
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
        """Return the sum of the counts."""
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
        """Return the milliseconds to a message's PUBACK (see PublishStats): p50, p90, p99, p99.9 and max.

        Each value is None when there was no PUBACK.
        """
        merged = LatencyHistogram()
        for encoded in self.latencies:
            merged.add(LatencyHistogram.decode(encoded))
        if not merged.count:
            return dict.fromkeys([*PERCENTILES, "max"])
        values = {name: merged.percentile(percent) for name, percent in PERCENTILES.items()}
        return {name: value / 1000 for name, value in {**values, "max": merged.maximum}.items()}
