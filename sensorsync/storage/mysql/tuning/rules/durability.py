"""Rules about the acknowledged rows that a crash can lose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sensorsync.storage.mysql.tuning.tuning_input import Advice, Profile, TuningInput

_FLUSH_ADVICE: Final = {
    Profile.DURABLE: ("1", "on disk before COMMIT is answered: what our acknowledgements stand on", ""),
    Profile.BALANCED: (
        "2",
        "COMMIT writes the redo log but does not wait for the disk, which syncs about once per second",
        "a crash of the host or a power cut loses the rows of about the last second",
    ),
    Profile.THROUGHPUT: (
        "0",
        "COMMIT only fills the log buffer, which is written and synced about once per second",
        "a crash of the server process or of its host loses the rows of about the last second",
    ),
}
_SYNC_BINLOG_ADVICE: Final = {
    Profile.DURABLE: (
        "1",
        "the binary log is synced with each group of commits: replicas never lack what we acknowledged",
        "",
    ),
    Profile.BALANCED: (
        "10",
        "one sync for ten groups of commits: else each COMMIT waits for the disk all the same",
        "a crash of the host loses up to ten groups of commits from the binary log; replicas can differ afterwards",
    ),
    Profile.THROUGHPUT: (
        "0",
        "the system decides when the binary log is synced: else each COMMIT waits for the disk all the same",
        "a crash of the host loses an unknown end of the binary log; replicas and point-in-time recovery lack it",
    ),
}


def flush_log_at_trx_commit(tuning_input: TuningInput) -> Advice | None:
    """Advise a value by the profile.

    1: write and sync at COMMIT. 2: write. 0: neither. MariaDB also has 3, which is as durable as 1 with more syncs.
    """
    name = "innodb_flush_log_at_trx_commit"
    now = tuning_input.variables.get(name)
    if now is None:
        return None
    advised, why, risk = _FLUSH_ADVICE[tuning_input.profile]
    if tuning_input.product.has_custom_storage and tuning_input.profile is not Profile.DURABLE:
        # The values 2 and 0 differ between Aurora 2 and 3, and Aurora 3 requires innodb_trx_commit_allow_data_loss first.
        advised, why, risk = "1", "the service's storage gains little from less; the service itself advises 1", ""
    return Advice(name, now, advised, why, risk, dynamic=True)


def flush_log_at_timeout(tuning_input: TuningInput) -> Advice | None:
    """Advise the seconds between two syncs when COMMIT does not sync. A crash loses the rows of this time."""
    name = "innodb_flush_log_at_timeout"
    now = tuning_input.int_variable(name)
    if now is None or now <= 1 or tuning_input.profile is Profile.DURABLE or tuning_input.product.has_custom_storage:
        return None
    why = f"COMMIT no longer syncs, so this is how much a crash loses: 1 second, not {now}"
    return Advice(name, str(now), "1", why, "", dynamic=True)


def sync_binlog(tuning_input: TuningInput) -> Advice | None:
    """Advise the number of commit groups between two syncs of the binary log. MySQL's default is 1, MariaDB's 0."""
    now = tuning_input.variables.get("sync_binlog")
    if now is None or not tuning_input.is_on("log_bin") or tuning_input.product.has_custom_storage:
        return None
    advised, why, risk = _SYNC_BINLOG_ADVICE[tuning_input.profile]
    return Advice("sync_binlog", now, advised, why, risk, dynamic=True)


def doublewrite(tuning_input: TuningInput) -> Advice | None:
    """Advise ON in every profile. Without it a torn page damages the table instead of only losing rows."""
    name = "innodb_doublewrite"
    now = tuning_input.variables.get(name)
    if now is None or tuning_input.product.has_custom_storage:
        return None
    why = "a page that was half written at a crash is restored from its copy; no profile switches it off"
    # MariaDB 11.0.6 has `fast`. MySQL changes between ON and DETECT_ONLY, but not from OFF.
    safe = now.upper() in {"ON", "1", "FAST", "DETECT_AND_RECOVER"}
    dynamic = not tuning_input.product.mariadb and now.upper() == "DETECT_ONLY"
    return Advice(name, now, now if safe else "ON", why, "", dynamic=dynamic)


RULES: Final[tuple[Callable[[TuningInput], Advice | None], ...]] = (
    flush_log_at_trx_commit,
    flush_log_at_timeout,
    sync_binlog,
    doublewrite,
)
