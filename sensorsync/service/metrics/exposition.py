"""The exposition of the merged metrics in Prometheus's formats."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from sensorsync.service.metrics.aggregator import MetricsAggregator
from sensorsync.service.metrics.definitions import METRICS, Metric, MetricKind, Series


class MetricsCollector(Collector):
    """A collector that reads the aggregator only when it is scraped. Between scrapes Prometheus costs no time."""

    def __init__(self, aggregator: MetricsAggregator) -> None:
        self._aggregator = aggregator

    def collect(self) -> Iterator[Family]:
        """Yield every metric family that has a series."""
        for name, series in self._aggregator.values().items():
            if series:
                yield _family(METRICS[name], series)
        yield from _process_families(self._aggregator.pids())


def exposition(aggregator: MetricsAggregator, accept: str) -> tuple[bytes, str]:
    """Return the page and its content type: OpenMetrics or the text format, as the Accept header of the request asks."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(MetricsCollector(aggregator))
    try:
        encode, content_type = choose_encoder(accept)
    except (TypeError, ValueError):  # a version that is not a number
        encode, content_type = choose_encoder("")
    return encode(registry), content_type


def _family(metric: Metric, series: Series) -> Family:
    labels = metric.all_labels
    if metric.kind is MetricKind.HISTOGRAM:
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=labels)
        bounds = [*map(floatToGoString, metric.buckets), "+Inf"]
        for values, (total, *counts) in series:
            histogram.add_metric(values, list(zip(bounds, accumulate(counts), strict=True)), total)
        return histogram
    make = CounterMetricFamily if metric.kind is MetricKind.COUNTER else GaugeMetricFamily
    family = make(metric.name, metric.help, labels=labels)
    for values, (number,) in series:
        family.add_metric(values, number)
    return family


def _process_families(pids: dict[str, int]) -> Iterator[Family]:
    """Yield CPU, memory and files of each process, as the client library reads them, with the label `process`."""
    found: dict[str, Family] = {}
    for process, pid in pids.items():
        for family in _families_of_process(pid):
            target = found.setdefault(family.name, Family(family.name, family.documentation, family.type))
            for sample in family.samples:
                target.add_sample(sample.name, {"process": process}, sample.value)
    yield from found.values()


def _families_of_process(pid: int) -> list[Family]:
    try:
        return list(ProcessCollector(pid=lambda: pid, registry=None).collect())
    except UnboundLocalError:  # the process has just ended: the library fails on the empty limits of a zombie
        return []
