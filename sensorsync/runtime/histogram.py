"""A latency histogram, which gives the percentiles of any number of latencies, within 0.1 %, in little memory.

The buckets are those of HDR histograms (http://hdrhistogram.org): linear within a power of two, 1,024 in each, so a bucket
is narrower than a thousandth of any latency in it. Latencies up to an hour fill at most 24,000 buckets.
"""

from __future__ import annotations

from collections.abc import Sequence

_EXACT_BITS = 11
"""A latency of up to 11 bits has a bucket of its own; the bucket of a longer one is given by its first 11 bits."""


class LatencyHistogram:
    """Latencies in whole microseconds, counted by bucket. Minimum, maximum and mean are exact."""

    __slots__ = ("_buckets", "_sum", "maximum", "minimum")

    def __init__(self) -> None:
        self.minimum = 0
        """The shortest latency; 0 when there is none."""
        self.maximum = 0
        """The longest latency; 0 when there is none."""
        self._sum = 0
        self._buckets: dict[int, int] = {}
        """The number of latencies in each bucket that has any, by the bucket's lower end."""

    @property
    def count(self) -> int:
        """The number of latencies."""
        return sum(self._buckets.values())

    @property
    def mean(self) -> float:
        """The mean latency; 0 when there is none."""
        return self._sum / self.count if self._buckets else 0.0

    def record(self, latency: int, count: int = 1) -> None:
        """Count `count` messages of this latency. Raises ValueError for a negative latency or a count below 1."""
        if latency < 0 or count < 1:
            raise ValueError(f"{count} latencies of {latency} microseconds cannot be counted")
        shift = latency.bit_length() - _EXACT_BITS
        bucket = latency >> shift << shift if shift > 0 else latency
        buckets = self._buckets
        if bucket in buckets:
            buckets[bucket] += count
        else:
            if not buckets:
                self.minimum = latency
            buckets[bucket] = count
        self._sum += latency * count
        if not self.minimum <= latency <= self.maximum:
            self.minimum = min(self.minimum, latency)
            self.maximum = max(self.maximum, latency)

    def add(self, other: LatencyHistogram) -> None:
        """Add the latencies of `other` to this histogram."""
        if not other._buckets:
            return
        self.minimum = min(self.minimum, other.minimum) if self._buckets else other.minimum
        self.maximum = max(self.maximum, other.maximum)
        self._sum += other._sum
        for bucket, count in other._buckets.items():
            self._buckets[bucket] = self._buckets.get(bucket, 0) + count

    def percentile(self, percent: float) -> int:
        """Return the latency that `percent` of all latencies do not exceed, at most 0.1 % too long; 0 when there is none.

        Its rank is `percent` of the count, rounded to the nearest and at least the first.
        """
        rank = max(1, int(min(percent, 100.0) * self.count / 100 + 0.5))
        reached = 0
        for bucket in sorted(self._buckets):
            reached += self._buckets[bucket]
            if reached >= rank:
                shift = max(0, bucket.bit_length() - _EXACT_BITS)
                return min(self.maximum, bucket + (1 << shift) - 1)
        return self.maximum

    def encode(self) -> tuple[int, ...]:
        """Return the histogram as numbers for JSON or another process: minimum, maximum, sum, and each bucket with its count."""
        pairs = sorted(self._buckets.items())
        return (self.minimum, self.maximum, self._sum, *(number for pair in pairs for number in pair))

    @classmethod
    def decode(cls, encoded: Sequence[int]) -> LatencyHistogram:
        """Return the histogram that `encode` turned into these numbers. Raises ValueError for a sequence of another shape."""
        made = cls()
        made.minimum, made.maximum, made._sum, *pairs = encoded
        made._buckets = dict(zip(pairs[::2], pairs[1::2], strict=True))
        return made
