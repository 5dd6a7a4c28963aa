"""Metrics and health: what the processes of an instance count, merged, for Prometheus; and whether the instance is well."""
