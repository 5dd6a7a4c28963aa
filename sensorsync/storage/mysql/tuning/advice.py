"""Situation -> advice and notes. No I/O: all that is known is in the situation."""

from __future__ import annotations

from typing import Final

from sensorsync.storage.mysql.tuning.rules import RULES
from sensorsync.storage.mysql.tuning.situation import Advice, Situation

UNTOUCHED: Final = (
    "unique_checks and foreign_key_checks are never touched. They belong to a session: switched off globally, they are off for every"
    " program that connects. Our upserts gain nothing by it, and on MariaDB the first plain INSERT into an empty table becomes a bulk"
    " load that makes other writers wait and fail."
)


def advise(situation: Situation) -> list[Advice]:
    """What to say about each variable, those that are well included, in the order in which to set them."""
    if not situation.product.innodb:
        return []
    return [advice for rule in RULES if (advice := rule(situation)) is not None]


def notes(situation: Situation) -> list[str]:
    """Sentences: what advice was left out, and what the variables cannot tell."""
    product = situation.product
    if not product.innodb:
        return [f"{product.label} speaks MySQL's protocol but does not store with InnoDB: there is nothing to advise."]
    said: list[str] = []
    if product.service:
        said.append(
            f"This is {product.service.name}: set variables in {product.service.settings}. SET GLOBAL is mostly refused there, and the"
            " size of the buffer pool goes with the size of the instance."
        )
    elif situation.memory is None:
        said.append(
            "The server runs on another machine (or in a container), whose memory is not known: innodb_buffer_pool_size is left out."
            " Give it by --memory, such as --memory 16GiB."
        )
    if situation.on("innodb_dedicated_server"):
        said.append("innodb_dedicated_server is ON: the server sizes its buffer pool and redo log by itself.")
    if product.service is None and situation.on("log_bin"):
        said.append(
            "log_bin is ON: each COMMIT syncs two logs. Where nothing replicates from here and no backup uses the binary log,"
            " skip_log_bin in my.cnf saves one of them. That is for you to know; tune-db never does it."
        )
    if situation.on("wsrep_on") or situation.variables.get("group_replication_group_name"):
        said.append("This is one node of a cluster: what is set here is set on this node alone.")
    if any(situation.on(name) for name in ("read_only", "super_read_only", "innodb_read_only")):
        said.append("This server is read-only, as replicas are: tune the one that sensorsync writes to as well.")
    return said
