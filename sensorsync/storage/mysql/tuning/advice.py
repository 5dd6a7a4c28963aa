"""Advice and notes for a TuningInput. This module does no I/O: the TuningInput has all facts."""

from __future__ import annotations

from typing import Final

from sensorsync.storage.mysql.tuning.rules import RULES
from sensorsync.storage.mysql.tuning.tuning_input import Advice, TuningInput

UNTOUCHED_NOTE: Final = (
    "unique_checks and foreign_key_checks are never touched. They belong to a session: switched off globally, they are off for every"
    " program that connects. Our upserts gain nothing by it, and on MariaDB the first plain INSERT into an empty table becomes a bulk"
    " load that makes other writers wait and fail."
)


def advise(tuning_input: TuningInput) -> list[Advice]:
    """Return the advice about each variable, including those that need no change, in the order in which to set them."""
    if not tuning_input.product.uses_innodb:
        return []
    return [advice for rule in RULES if (advice := rule(tuning_input)) is not None]


def notes(tuning_input: TuningInput) -> list[str]:
    """Return sentences about advice that was left out, and about facts that the variables do not show."""
    product = tuning_input.product
    if not product.uses_innodb:
        return [f"{product.label} speaks MySQL's protocol but does not store with InnoDB: there is nothing to advise."]
    sentences: list[str] = []
    if product.service:
        sentences.append(
            f"This is {product.service.name}: set variables in {product.service.settings_location}. SET GLOBAL is mostly refused"
            " there, and the size of the buffer pool goes with the size of the instance."
        )
    elif tuning_input.memory is None:
        sentences.append(
            "The server runs on another machine (or in a container), whose memory is not known: innodb_buffer_pool_size is left out."
            " Give it by --memory, such as --memory 16GiB."
        )
    if tuning_input.is_on("innodb_dedicated_server"):
        sentences.append("innodb_dedicated_server is ON: the server sizes its buffer pool and redo log by itself.")
    if product.service is None and tuning_input.is_on("log_bin"):
        sentences.append(
            "log_bin is ON: each COMMIT syncs two logs. Where nothing replicates from here and no backup uses the binary log,"
            " skip_log_bin in my.cnf saves one of them. That is for you to know; tune-db never does it."
        )
    if tuning_input.is_on("wsrep_on") or tuning_input.variables.get("group_replication_group_name"):
        sentences.append("This is one node of a cluster: what is set here is set on this node alone.")
    if any(tuning_input.is_on(name) for name in ("read_only", "super_read_only", "innodb_read_only")):
        sentences.append("This server is read-only, as replicas are: tune the one that sensorsync writes to as well.")
    return sentences
