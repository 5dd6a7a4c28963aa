from __future__ import annotations

import re

from sensorsync.storage.mysql.migrations import migrations, quote_identifier, schema_script, split_statements


def test_migrations_are_numbered_from_one_without_a_gap() -> None:
    assert [migration.version for migration in migrations()] == list(range(1, len(migrations()) + 1))


def test_every_statement_has_a_comment_with_its_reason() -> None:
    for migration in migrations():
        assert migration.statements
        for statement in migration.statements:
            assert statement.startswith("-- ")


def test_a_semicolon_inside_a_line_ends_no_statement() -> None:
    assert split_statements("-- a; b\nSELECT ';' , 1;\n\nSELECT 2; \n") == ("-- a; b\nSELECT ';' , 1", "SELECT 2")


def test_the_printed_script_creates_all_and_records_it() -> None:
    printed = schema_script("my`db")
    assert "CREATE DATABASE IF NOT EXISTS `my``db`" in printed
    assert "USE `my``db`;" in printed
    for migration in migrations():
        assert f"({migration.version}, '{migration.name}', UTC_TIMESTAMP(6))" in printed
    assert len(re.findall(r"CREATE TABLE IF NOT EXISTS", printed)) == 1 + len(migrations())


def test_a_name_with_a_backtick_stays_one_name() -> None:
    assert quote_identifier("a`b") == "`a``b`"
