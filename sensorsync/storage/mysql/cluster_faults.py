"""Error numbers of clusters, proxies and other databases that speak MySQL's protocol; and numbers that stand inside a message.

Sources: TiDB, docs.pingcap.com/tidb/stable/error-codes and pkg/errno/errcode.go; ProxySQL, lib/MySQL_Session.cpp; MaxScale passes on
the server's numbers, and uses 1927, 2003 and 1290 of its own, which `faults` has; Galera and group replication, MySQL Error Message
Reference and MariaDB's; storage engines, include/my_base.h (HA_ERR_*); NDB, storage/ndb/src/ndbapi/ndberror.cpp.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from sensorsync.storage.mysql.error_rule import ErrorAction, ErrorRule, build_rules
from sensorsync.storage.mysql.faults import ERROR_RULES

UNKNOWN_ERROR: Final = 1105
COMMIT_ERROR: Final = 1180
ENGINE_ERROR: Final = 1296
GROUP_HOOK_ERROR: Final = 3100

_CLUSTER_HINT: Final = "check the state of the cluster"
_PROXYSQL_LOCKED: Final = 9006
_PROXYSQL_HINT: Final = (
    "in ProxySQL's admin interface: SET mysql-set_query_lock_on_hostgroup='false'; or one rule in mysql_query_rules that sends all"
    " statements of this user to the writer's hostgroup; then LOAD ... TO RUNTIME"
)

_RULES: Final[Mapping[int, ErrorRule]] = build_rules(
    (
        ErrorAction.RETRY,
        None,
        {
            3101: "group replication rolled the transaction back",
            8002: "TiDB cannot repeat the transaction by itself",
            8005: "a write conflict in TiDB",
            8022: "TiDB rolled the transaction back",
            8028: "the schema changed under the transaction (TiDB)",
            8147: "a duplicate was found at the commit (TiDB)",
            8229: "the transaction lived for too long (TiDB)",
            9004: "a lock was not resolved in time (TiKV)",
            9006: "the transaction took longer than TiDB's garbage collection allows",
            9007: "a write conflict in TiKV",
        },
    ),
    (
        ErrorAction.OUTAGE,
        _CLUSTER_HINT,
        {
            1047: "this node of the cluster is not ready",
            3796: "group replication does not allow this in the member's state",
            3797: "group replication waited in vain before the transaction",
            3798: "group replication waited in vain at the begin of the transaction",
            3799: "group replication does not allow this in the member's state",
            8020: "the table is locked (TiDB)",
            8027: "the schema of this TiDB server is out of date",
            8120: "TiDB gets no timestamp",
            8176: "this TiDB server is out of memory",
            8251: "TiDB's resource control is not available",
            8252: "TiDB's resource group is used up",
            8253: "TiDB interrupted the statement as a runaway query",
            8254: "TiDB quarantines the statement as a runaway query",
            9001: "TiDB's PD, or the server behind ProxySQL, did not answer in time",
            9002: "TiKV did not answer in time, or ProxySQL does not reach a server",
            9003: "TiKV is busy, or ProxySQL does not support the command",
            9005: "a region of TiKV is not available, or ProxySQL keeps the session on another hostgroup",
            9008: "a store of TiKV is at its limit",
            9010: "TiKV did not accept the command in time",
            9011: "TiKV's timestamp is not synchronized",
            1297: "the storage engine has a temporary error",
        },
    ),
    (
        ErrorAction.TOO_LARGE,
        None,
        {
            3100: "a hook of group replication refused the transaction, as one above group_replication_transaction_size_limit",
            8004: "the transaction is larger than TiDB allows",
            8175: "the statement needs more memory than TiDB allows",
            9500: "the transaction is larger than TiDB allows",
        },
    ),
    (
        ErrorAction.REJECT,
        None,
        {
            8025: "the row is larger than TiDB allows",
            8129: "a name in the JSON document is longer than TiDB allows",
            8178: "the row is not accepted by TiDB",
        },
    ),
    (
        ErrorAction.CONFIG,
        "let the server accept the statement: check its version, its settings and the rights of database.user",
        {
            1235: "the server does not support what we need",
            8047: "the server does not support a value of a setting of ours (TiDB)",
            8048: "the server does not support READ COMMITTED (TiDB)",
            8121: "this user lacks a privilege (TiDB)",
        },
    ),
)
_PROXYSQL_RULE: Final = ErrorRule(
    ErrorAction.CONFIG,
    "ProxySQL keeps the connection on one hostgroup and sends a statement to another",
    _PROXYSQL_HINT,
)

_HANDLER_RULES: Final[Mapping[int, ErrorRule]] = build_rules(
    (
        ErrorAction.RETRY,
        None,
        {
            146: "a lock was not granted in time",
            149: "deadlock; the server rolled the transaction back",
            159: "the table's definition changed under the transaction",
            189: "the transaction was rolled back for one of a higher priority",
        },
    ),
    (ErrorAction.TOO_LARGE, None, {90: "the transaction is larger than the cluster allows (wsrep_max_ws_size)"}),
    (
        ErrorAction.OUTAGE,
        _CLUSTER_HINT,
        {
            5: "the server cannot write a file",
            6: "this node of the cluster has no quorum",
            28: "the server's disk is full",
            157: "the storage engine is not connected to its cluster",
        },
    ),
)
_NDB_OUTAGES: Final = frozenset(
    {157, 286, 4002, 4006, 4007, 4008, 4009, 4010, 4012, 4013, 4025, 4027, 4028, 4029, 4031}
)
"""Of a node that failed or was not reached (classes NR and UR); a temporary error comes as 1297."""
_NDB_RULE: Final = ErrorRule(ErrorAction.OUTAGE, "NDB Cluster does not answer", _CLUSTER_HINT)

_VITESS_NUMBER = re.compile(r"\(errno (\d+)\) \(sqlstate \w+\)")
_CLASS_NUMBER = re.compile(r"\[\w+:(\d+)\]")
_FIRST_NUMBER = re.compile(r"\D*?(\d+)")


def find_rule(errno: int, text: str, product: str = "") -> ErrorRule | None:
    """Return the rule for a number and the server's text, None where neither the number nor one inside the text is known.

    `product` is what the server reports as its version: two products use 9006, of which neither blames a row.
    """
    if errno in {UNKNOWN_ERROR, COMMIT_ERROR, ENGINE_ERROR}:
        return _inner_rule(errno, text)
    if errno == _PROXYSQL_LOCKED and "tidb" not in product.lower() and text.startswith("ProxySQL Error:"):
        return _PROXYSQL_RULE
    return ERROR_RULES.get(errno) or _RULES.get(errno)


def known_numbers() -> frozenset[int]:
    """Return all numbers that have a rule of their own."""
    return frozenset(ERROR_RULES) | frozenset(_RULES)


def _inner_rule(errno: int, text: str) -> ErrorRule | None:
    """Return the rule of the number inside a message: 1105, 1180 and 1296 only wrap what another layer reported.

    Vitess ends with `(errno 1205) (sqlstate HY000)`, TiDB begins with `[kv:9007]`, 1180 and 1296 begin with `Got error 149` in the
    server's language: there the first number is the one.
    """
    if errno == UNKNOWN_ERROR:
        match = _VITESS_NUMBER.search(text) or _CLASS_NUMBER.match(text)
        rule = None if match is None else ERROR_RULES.get(int(match[1])) or _RULES.get(int(match[1]))
        # The text can hold what a device sent: it may at most delay, never stop the process.
        return rule._replace(action=ErrorAction.OUTAGE) if rule and rule.action is ErrorAction.CONFIG else rule
    match = _FIRST_NUMBER.match(text)
    inner = int(match[1]) if match else 0
    if errno == ENGINE_ERROR:
        return _NDB_RULE if inner in _NDB_OUTAGES else None
    return _HANDLER_RULES.get(inner)
