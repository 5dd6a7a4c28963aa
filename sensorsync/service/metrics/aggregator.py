"""The aggregator of the reports of all processes of one instance, restarts included."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from time import monotonic

import sensorsync
from sensorsync.service.metrics.definitions import (
    CHECKS,
    METRICS,
    Merge,
    Metric,
    MetricKind,
    Series,
    Values,
    labelled_series,
    unlabelled_series,
)
from sensorsync.service.metrics.health_probe import HealthProbe
from sensorsync.service.metrics.process_report import ProcessReport

REPORT_TIMEOUT = 10.0
"""Seconds without a report after which a process counts as hung."""


class MetricsAggregator:
    """The merged reports of the processes of one instance. For the event loop's thread; `last_commit` is for any thread.

    The counters of a restarted process begin at 0. The aggregator adds the totals of ended processes, so that no counter ever
    decreases. The counts of a killed process after its last report are lost.
    """

    def __init__(self, processes: int, clock: Callable[[], float] = monotonic) -> None:
        self.restarts = 0
        self.probes: Sequence[HealthProbe] = ()
        self.request_report: Callable[[], None] = lambda: None
        """A function that is called before each request is answered. A process that serves its own metrics reports then."""
        self.is_stopping: Callable[[], bool] = lambda: False
        self.supervised = processes > 1
        self._processes = processes
        self._clock = clock
        self._ended_totals: Values = {}
        self._reports: dict[int, tuple[float, ProcessReport]] = {}
        self._last_commit = 0.0

    def update(self, process: int, report: ProcessReport) -> None:
        """Store the latest report of process number `process`."""
        self._reports[process] = self._clock(), report
        for _, (at,) in report["values"]["sensorsync_last_commit_timestamp_seconds"]:
            self._last_commit = max(self._last_commit, at)

    def process_ended(self, process: int) -> None:
        """Add the counters of a process that has ended to the totals, and drop its gauges."""
        if (last := self._reports.pop(process, None)) is not None:
            counts = {
                name: series for name, series in last[1]["values"].items() if METRICS[name].kind is not MetricKind.GAUGE
            }
            self._ended_totals = _sum_series([self._ended_totals, counts])

    def pids(self) -> dict[str, int]:
        """Return the processes that run: the value of the label `process` -> process id."""
        running = {str(process): report["pid"] for process, (_, report) in sorted(self._reports.items())}
        return {"supervisor": os.getpid(), **running} if self.supervised else running

    @property
    def last_commit(self) -> float:
        """Unix time of the latest commit that was reported; 0 when there was none."""
        return self._last_commit

    # -- health --------------------------------------------------------------------------------------------------------------

    def checks(self) -> dict[str, str | None]:
        """Return each check of /readyz -> its problem, None when it passes."""
        failing = dict(self._process_problems())
        for probe in self.probes:
            if (problem := probe.problem()) is not None:
                failing.setdefault(probe.check_name, problem)
        return {check: failing.get(check) for check in CHECKS}

    def _process_problems(self) -> Iterator[tuple[str, str]]:
        """Yield (check, problem) of all processes. The last of several problems of one check counts."""
        for process in range(self._processes):
            prefix = f"process {process}: " if self.supervised else ""
            if process not in self._reports:
                yield "processes", f"{prefix}it has not begun, or has ended"
                continue
            at, report = self._reports[process]
            if (silent := self._clock() - at) > REPORT_TIMEOUT:
                yield "processes", f"{prefix}it has said nothing for {silent:.0f}s"
            yield from ((check, prefix + problem) for check, problem in report["failing"].items())
        if self.is_stopping():
            yield "processes", "it is stopping"

    # -- metrics -------------------------------------------------------------------------------------------------------------

    def values(self) -> Values:
        """Return the merged series of every metric."""
        reported = {process: report["values"] for process, (_, report) in sorted(self._reports.items())}
        summed = _sum_series([self._ended_totals, *reported.values()])
        merged: Values = {}
        for name, metric in METRICS.items():
            match metric.merge:
                case Merge.SUM:
                    merged[name] = _sum_series([{name: _zero_series(metric)}, {name: summed.get(name, [])}])[name]
                case Merge.PROCESS:
                    merged[name] = [
                        ([str(process), *labels], numbers)
                        for process, values in reported.items()
                        for labels, numbers in values.get(name, [])
                    ]
                case Merge.MAX:
                    merged[name] = unlabelled_series(self.last_commit)
        return {**merged, **self._instance_values()}

    def _instance_values(self) -> Values:
        checks = self.checks()
        values: Values = {
            "sensorsync_ready": unlabelled_series(not any(checks.values())),
            "sensorsync_check_ok": labelled_series({check: problem is None for check, problem in checks.items()}),
            "sensorsync_processes_configured": unlabelled_series(self._processes),
            "sensorsync_processes_running": unlabelled_series(len(self._reports)),
            "sensorsync_process_restarts_total": unlabelled_series(self.restarts),
            "sensorsync_build_info": [([sensorsync.__version__, platform.python_version()], [1])],
        }
        for probe in self.probes:
            values |= probe.values
        return values


def _zero_series(metric: Metric) -> Series:
    """Return the series that exist from the start. Prometheus computes a rate only from a counter that was scraped at 0."""
    if metric.labels:
        return labelled_series(dict.fromkeys(metric.initial_label_values, 0))
    return [([], [0.0] * (len(metric.buckets) + 2 if metric.kind is MetricKind.HISTOGRAM else 1))]


def _sum_series(parts: Iterable[Values]) -> Values:
    """Return the series of all parts. Series of one name with the same labels are added up."""
    total: dict[str, dict[tuple[str, ...], list[float]]] = {}
    for part in parts:
        for name, series in part.items():
            sums = total.setdefault(name, {})
            for labels, numbers in series:
                known = sums.get(tuple(labels), [0.0] * len(numbers))
                sums[tuple(labels)] = [one + other for one, other in zip(known, numbers, strict=True)]
    return {name: [(list(labels), numbers) for labels, numbers in sums.items()] for name, sums in total.items()}
