"""The parts around a running pipeline: processes, metrics, health and status."""
