"""Metrics and health of an instance. The counters of its processes are merged for Prometheus."""
