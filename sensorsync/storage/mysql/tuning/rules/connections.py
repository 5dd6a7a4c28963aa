"""Rules about connections and the statements that are sent over them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sensorsync.storage.mysql.tuning.tuning_input import Advice, TuningInput

MIB: Final = 2**20
_MIN_PACKET: Final = 16 * MIB
"""Bytes: twice the longest statement that is still faster than a shorter one. A single row may be longer."""
_OTHER_CONNECTIONS: Final = 50
"""The number of connections for administrators, monitoring, replicas and other programs."""


def max_connections(tuning_input: TuningInput) -> Advice | None:
    """Advise the number of our own connections at most, and some for others."""
    now = tuning_input.int_variable("max_connections")
    if now is None:
        return None
    needed = tuning_input.connections + _OTHER_CONNECTIONS
    why = f"sensorsync opens up to {tuning_input.connections} (pipeline.processes x database.pool_size), and others need some"
    risk = "each connection that is used takes some MiB of memory"
    return Advice("max_connections", str(now), str(max(now, needed)), why, risk, dynamic=True)


def max_allowed_packet(tuning_input: TuningInput) -> Advice | None:
    """Advise a packet size for a batch, which is one statement of up to 8 MiB; a single row can be larger."""
    now = tuning_input.int_variable("max_allowed_packet")
    if now is None:
        return None
    why = "a batch goes as one statement; a smaller packet cuts it, and refuses a large row"
    return Advice("max_allowed_packet", str(now), str(now if now >= _MIN_PACKET else 64 * MIB), why, "", dynamic=True)


def binlog_format(tuning_input: TuningInput) -> Advice | None:
    """Advise ROW, because our transactions are READ COMMITTED and InnoDB refuses to log those as statements (1665)."""
    now = tuning_input.variables.get("binlog_format")
    if now is None or not tuning_input.is_on("log_bin") or now.upper() != "STATEMENT":
        return None
    why = "with STATEMENT the server refuses our writes: they are READ COMMITTED (error 1665)"
    return Advice("binlog_format", now, "ROW", why, "the binary log is larger", dynamic=True)


def skip_name_resolve(tuning_input: TuningInput) -> Advice | None:
    """Advise ON, but leave it to a person, because only a person knows if accounts are named by host names."""
    now = tuning_input.variables.get("skip_name_resolve")
    if now is None or tuning_input.product.service:
        return None
    why = "without it each new connection waits for a look-up of its name in the DNS"
    risk = "accounts at a host name ('app'@'db.example.com', and over TCP 'localhost', too) cannot log in"
    advised = now if tuning_input.is_on("skip_name_resolve") else "ON"
    return Advice("skip_name_resolve", now, advised, why, risk, dynamic=False, by_hand=True)


RULES: Final[tuple[Callable[[TuningInput], Advice | None], ...]] = (
    max_connections,
    max_allowed_packet,
    binlog_format,
    skip_name_resolve,
)
