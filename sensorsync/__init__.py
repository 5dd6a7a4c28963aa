"""sensorsync: from MQTT to MySQL, with nothing lost."""

from __future__ import annotations

__all__ = ["__version__"]


def __getattr__(name: str) -> str:
    """Return `__version__`, which is read only on access because importlib.metadata is slow to import."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - see above

    try:
        return version("sensorsync")
    except PackageNotFoundError:
        return "0.0.0+source"
