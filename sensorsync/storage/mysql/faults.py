"""The table of error numbers of MySQL and MariaDB: what becomes of a batch when the server refuses it.

Errors are classified by number, never by text (it is translated) and never by the driver's class: PyMySQL raises OperationalError for
deadlocks, outages, bad dates and unknown columns alike. Numbers: MySQL Error Message Reference; from 1900 on MariaDB has its own.
Those of clusters, proxies and other databases with the same protocol are in `cluster_faults`.
"""

from __future__ import annotations

from collections.abc import Mapping

from sensorsync.storage.mysql.error_rule import ErrorAction, ErrorRule, build_rules
from sensorsync.storage.store import FIX_TABLE_HINT, INIT_HINT

__all__ = ["ERROR_RULES", "ErrorAction", "ErrorRule"]

UNKNOWN_DATABASE = 1049
NO_PARTITION = 1526
PACKET_TOO_LARGE = 1153
NOT_NULL = 1048
OUT_OF_RANGE = 1264
DUPLICATE_KEY = 1062
USER_LIMIT = 1226
FOREIGN_KEY_ERRNOS = frozenset({1216, 1452})
AUTO_INCREMENT_ERRNOS = frozenset({167, 1467})
STATEMENT_TIMEOUTS = frozenset({1969, 3024})
_GRANTS_HINT = (
    "`sensorsync init-db --grants` prints the GRANT statements that each command's user needs; a database that does not exist is"
    " refused in the same words, then run `sensorsync init-db`"
)
_ACCOUNT_HINT = "check database.user and database.password (DB_USER, DB_PASSWORD)"
_DISK_HINT = "make room on the disk of the database server"
TLS_HINT = "check database.tls.ca_file, database.tls.mode and the name in database.host"
_AUTH_PLUGIN_HINT = "let the account use caching_sha2_password, or mysql_native_password on MariaDB"
_REPORT_BUG_HINT = "report this as a bug of sensorsync, with the version of the server"


ERROR_RULES: Mapping[int, ErrorRule] = build_rules(
    (
        ErrorAction.RETRY,
        None,
        {
            1020: "a row changed under our snapshot (MariaDB's snapshot isolation)",
            1205: "a lock was not granted in time; only the statement was rolled back",
            1213: "deadlock; the server rolled the transaction back",
            1317: "the statement was killed",
            1412: "the table's definition changed under the transaction",
            1969: "statement timed out (MariaDB)",
            3024: "statement timed out (MySQL)",
            3572: "a lock was not granted at once",
        },
    ),
    (
        ErrorAction.OUTAGE,
        None,
        {
            0: "the connection is closed",
            1037: "the server is out of memory",
            1038: "the server is out of sort memory",
            1041: "the server is out of memory",
            1042: "the server cannot look up our host name",
            1043: "the handshake was cut short",
            1053: "the server is shutting down",
            1152: "the server aborted the connection",
            1156: "packets arrived out of order",
            1158: "the server could not read from the connection",
            1159: "the server timed out while reading from the connection",
            1160: "the server could not write to the connection",
            1161: "the server timed out while writing to the connection",
            1184: "the server aborted the connection",
            1206: "the server has too many locks for its buffer pool",
            1637: "the server has too many transactions at once",
            1927: "the connection was killed (MariaDB)",
            2002: "cannot reach the server's socket",
            2003: "cannot reach the server",
            2005: "the server's host name is unknown",
            2006: "the server has gone away",
            2013: "the connection was lost",
            2014: "client and server disagree whose turn it is",
            2027: "the server's answer makes no sense",
            2055: "the connection was lost",
            3032: "the server is in offline mode",
            3168: "the server is not available",
            3169: "the session was killed",
            3185: "the server does not find its master key in the keyring",
            4031: "the server closed the idle connection",
        },
    ),
    (
        ErrorAction.OUTAGE,
        "raise max_connections on the server, or lower database.pool_size",
        {
            1040: "the server has no connection left",
            1203: "this user has no connection left",
            1226: "this user has used up a limit of its account",
        },
    ),
    (
        ErrorAction.OUTAGE,
        "unblock this host on the server (FLUSH HOSTS, or TRUNCATE performance_schema.host_cache)",
        {1129: "the server blocks this host after too many failed connections"},
    ),
    (
        ErrorAction.OUTAGE,
        "point database.host at the primary, or make the server writable",
        {
            1015: "the server cannot lock its files (read-only or innodb_force_recovery)",
            1036: "the table is read-only (innodb_read_only or innodb_force_recovery)",
            1290: "the server runs with an option that forbids this, as a rule read_only",
            1792: "the transaction is read-only (transaction_read_only, as a rule after a fail-over)",
            1836: "the server is read-only",
            1874: "InnoDB is read-only",
            1881: "InnoDB runs with innodb_force_recovery",
        },
    ),
    (
        ErrorAction.OUTAGE,
        _DISK_HINT,
        {
            3: "the server cannot write a file",
            1016: "the server cannot open a file of the table",
            1021: "the server's disk is full",
            1026: "the server cannot write a file",
            1114: "the table or its tablespace is full",
            1030: "the storage engine failed",
        },
    ),
    (
        ErrorAction.OUTAGE,
        "repair the table on the server (CHECK TABLE sensor_readings)",
        {
            1034: "a key file of the table is damaged",
            1194: "the table is marked as crashed",
            1195: "the table is marked as crashed",
            1712: "an index is corrupted",
            1812: "the tablespace of the table is missing",
            1814: "the tablespace of the table was discarded",
            1877: "the table is missing or corrupt",
        },
    ),
    (
        ErrorAction.OUTAGE,
        "let the table's AUTO_INCREMENT column be BIGINT UNSIGNED (ALTER TABLE ... MODIFY)",
        {
            167: "the table's AUTO_INCREMENT is used up (MariaDB)",
            1467: "the table's AUTO_INCREMENT is used up",
        },
    ),
    (
        ErrorAction.OUTAGE,
        "unlock the account (ALTER USER ... ACCOUNT UNLOCK), or wait",
        {3955: "the account is blocked for a while after too many wrong passwords"},
    ),
    (
        ErrorAction.REJECT,
        None,
        {
            1048: "a column may not be NULL",
            1118: "the row is too large",
            1153: "the row is larger than max_allowed_packet",
            1216: "a foreign key has no such row",
            1241: "a value is a list",
            1264: "a number is out of range",
            1265: "a value would be truncated",
            1292: "a date or number is malformed",
            1300: "a text is malformed in its character set",
            1366: "a value does not fit its column's type",
            1365: "a division by zero",
            1367: "a number is malformed",
            1406: "a text is too long for its column",
            1411: "a value does not fit the function",
            1441: "a date is out of range",
            1452: "a foreign key has no such row",
            1525: "a value is not allowed",
            1526: "the table has no partition for this time",
            1690: "a number is out of range",
            1748: "the row belongs to another partition",
            1863: "the row belongs to another partition",
            3140: "the JSON text is malformed",
            3141: "the JSON text is malformed",
            3144: "the JSON text has the wrong character set",
            3146: "the JSON text has the wrong type",
            3150: "the JSON document is too large",
            3156: "a JSON value does not fit its column",
            3157: "the JSON document is too deep",
            3819: "a CHECK of the table refuses the row",
            3903: "a JSON value does not fit",
            4025: "a CHECK of the table refuses the row (MariaDB: also JSON that is malformed)",
        },
    ),
    (
        ErrorAction.TOO_LARGE,
        None,
        {
            1197: "the rows are more than max_binlog_cache_size",
            1705: "the rows are more than max_binlog_stmt_cache_size",
        },
    ),
    (
        ErrorAction.UNKNOWN,
        "if all rows of the table are refused: fix the table's trigger, or DROP TRIGGER",
        {
            1062: "another unique key has this value, of the table or of one that a trigger writes to",
            1305: "a trigger calls a function or procedure that does not exist",
            1449: "the definer of a trigger does not exist",
            1644: "a trigger refuses the row",
        },
    ),
    (
        ErrorAction.CONFIG,
        INIT_HINT,
        {1049: "the database does not exist", 1146: "the table does not exist"},
    ),
    (
        ErrorAction.CONFIG,
        FIX_TABLE_HINT,
        {
            1054: "the table lacks a column that we write to",
            1364: "the table has a column of its own that demands a value",
        },
    ),
    (
        ErrorAction.CONFIG,
        "restore the table from a backup, or DROP TABLE sensor_readings and run `sensorsync init-db` for an empty one",
        {1932: "the storage engine does not have the table"},
    ),
    (
        ErrorAction.CONFIG,
        _ACCOUNT_HINT,
        {
            1045: "user or password is wrong",
            1130: "the server takes no connections from this host",
            1698: "user or password is wrong",
            1820: "the password has expired",
            1862: "the password has expired",
            1873: "user or password is wrong",
            3118: "the account is locked",
            4151: "the account is locked",
        },
    ),
    (
        ErrorAction.CONFIG,
        _GRANTS_HINT,
        {
            1044: "this user may not use the database",
            1142: "this user may not do this with the table",
            1143: "this user may not do this with a column",
            1227: "this user lacks a privilege",
            1370: "this user may not run a function that the table needs",
        },
    ),
    (
        ErrorAction.CONFIG,
        _AUTH_PLUGIN_HINT,
        {
            1251: "the server wants a kind of login that we do not have",
            1524: "the account's login plugin is not loaded",
            2054: "the server wants a kind of login that we do not have",
            2059: "the server wants a kind of login that we do not have",
            2061: "the login plugin failed",
        },
    ),
    (
        ErrorAction.CONFIG,
        TLS_HINT,
        {2026: "TLS could not be set up", 3159: "the server demands TLS"},
    ),
    (
        ErrorAction.CONFIG,
        "set binlog_format to ROW or MIXED on the server",
        {
            1598: "the binary log cannot take the rows",
            1665: "the binary log is in STATEMENT format, which READ COMMITTED rules out",
        },
    ),
    (
        ErrorAction.CONFIG,
        "unlock the tables (another program holds LOCK TABLES on our account's session)",
        {
            1099: "the table is locked for reading",
            1100: "the table is not among the locked ones",
            1223: "a read lock of our own forbids writing",
        },
    ),
    (
        ErrorAction.CONFIG,
        _REPORT_BUG_HINT,
        {
            1064: "the server does not understand our SQL",
            1110: "a column stands twice in our SQL",
            1136: "our SQL has the wrong number of values",
            1193: "the server does not know a setting of ours",
            1210: "the server refuses a setting of ours",
            1229: "a setting of ours can only be set globally",
            1238: "a setting of ours is read-only",
            1298: "the server does not know the time zone",
            1503: "the table's partitioning does not fit its key",
        },
    ),
)
