"""The numbered migrations of `mysql/sql/`, and the SQL script for users who apply them by hand."""

from __future__ import annotations

import functools
import re
from importlib import resources
from typing import Final, NamedTuple

CREATE_MIGRATIONS_TABLE: Final = """\
-- The applied migrations.
CREATE TABLE IF NOT EXISTS sensorsync_migrations (
    version    INT          NOT NULL PRIMARY KEY,
    name       VARCHAR(128) NOT NULL,
    applied_at DATETIME(6)  NOT NULL COMMENT 'UTC'
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin"""

RECORD_MIGRATION: Final = """\
-- Record the migration. Nothing happens when it is recorded already.
INSERT INTO sensorsync_migrations (version, name, applied_at) VALUES ({version}, '{name}', UTC_TIMESTAMP(6))
ON DUPLICATE KEY UPDATE version = sensorsync_migrations.version"""

_FILE_NAME = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")


class Migration(NamedTuple):
    """One file of `mysql/sql/`.

    Its statements can be run again after a failure in between, because DDL is not transactional.
    """

    version: int
    name: str
    statements: tuple[str, ...]
    """The statements, each with its comment and without the semicolon."""


@functools.cache
def migrations() -> tuple[Migration, ...]:
    """Return all migrations of this version, in order."""
    files = resources.files("sensorsync.storage.mysql").joinpath("sql").iterdir()
    return tuple(
        sorted(
            Migration(int(match[1]), file.name.removesuffix(".sql"), split_statements(file.read_text(encoding="utf-8")))
            for file in files
            if (match := _FILE_NAME.fullmatch(file.name))
        )
    )


def split_statements(script: str) -> tuple[str, ...]:
    """Split a script into its statements. A semicolon at the end of a line ends a statement; our files have no other semicolons."""
    parts = (part.strip() for part in re.split(r";[ \t]*$", script, flags=re.MULTILINE))
    return tuple(part for part in parts if part)


def create_database_statement(name: str) -> str:
    """Return the statement that creates the database."""
    return f"CREATE DATABASE IF NOT EXISTS {quote_identifier(name)} DEFAULT CHARACTER SET utf8mb4 DEFAULT COLLATE utf8mb4_bin"


def quote_identifier(name: str) -> str:
    """Quote an identifier in backticks (MySQL Reference Manual, "Schema Object Names")."""
    return f"`{name.replace('`', '``')}`"


def schema_script(database: str) -> str:
    """Return all SQL that `init-db` would run on an empty server, for the mysql client."""
    lines = [
        "SET NAMES utf8mb4;",
        f"{create_database_statement(database)};",
        f"USE {quote_identifier(database)};\n",
        f"{CREATE_MIGRATIONS_TABLE};\n",
    ]
    for migration in migrations():
        lines.append(f"-- Migration {migration.name}\n")
        lines += [f"{statement};\n" for statement in migration.statements]
        lines.append(f"{RECORD_MIGRATION.format(version=migration.version, name=migration.name)};\n")
    return "\n".join(lines)
