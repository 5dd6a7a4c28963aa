"""The section `metrics`: monitoring."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from sensorsync.config.sections.fields import Section, setting
from sensorsync.config.sections.units import Duration

LOOPBACK = "127.0.0.1"
_ADDRESS = re.compile(r"(?:(?P<host>\[[0-9A-Fa-f:.]+\]|[\w.-]*):)?(?P<port>\d{1,5})", re.ASCII)


def parse_listen_address(address: str) -> tuple[str, int]:
    """Split `HOST:PORT`, `[::1]:PORT`, `:PORT` (all addresses) or `PORT` (127.0.0.1) into host and port.

    Raises ValueError when the text has none of these forms.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None or not 1 <= int(found["port"]) <= 65535:
        raise ValueError(f"must be HOST:PORT or a port from 1 to 65535, such as {LOOPBACK}:9464")
    host = LOOPBACK if found["host"] is None else found["host"].strip("[]") or "0.0.0.0"  # noqa: S104 - asked for by name
    return host, int(found["port"])


def _port_to_text(address: object) -> object:
    """Convert a port to a text, because a port alone is a number in YAML."""
    return str(address) if isinstance(address, int) and not isinstance(address, bool) else address


def _validate_listen_address(address: str) -> str:
    parse_listen_address(address)
    return address


class MetricsSettings(Section):
    """`metrics`: the metrics and health checks that `subscribe` serves over HTTP."""

    listen: Annotated[str, BeforeValidator(_port_to_text), AfterValidator(_validate_listen_address)] | None = setting(
        None,
        doc="HOST:PORT on which /metrics, /healthz and /readyz are served; a port alone means 127.0.0.1. No login, no TLS.",
        example="127.0.0.1:9464",
    )
    check_interval: Annotated[Duration, Field(gt=0)] = setting(
        5.0,
        doc="How often the dead-letter box, and a database that took no commit meanwhile, are asked whether they can be written to.",
        example="5s",
        unit="duration",
    )
    stall_after: Annotated[Duration, Field(gt=0)] = setting(
        60.0,
        doc="/readyz fails when a message has waited for so long to be stored or parked.",
        example="1m",
        unit="duration",
    )
