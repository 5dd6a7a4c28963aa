"""The settings of a target table, which a mapping writes to."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, model_validator

from sensorsync.config.sections.fields import CommaSeparated, Section, setting
from sensorsync.config.sections.mapping_sources import PathSource
from sensorsync.config.sections.suggestions import nearest_name
from sensorsync.config.sections.validation import ValidationIssue, raise_for_issues

_RESERVED_NAMES = re.compile(r"sensor_readings|sensorsync_.*", re.IGNORECASE)
_LONGEST_IDENTIFIER = 64
"""Longest identifier in characters (MySQL 9.7 Reference Manual, 11.2.1)."""


def _identifier(name: str) -> str:
    if (
        not 0 < len(name) <= _LONGEST_IDENTIFIER
        or not name.isprintable()
        or name != name.strip()
        or re.search(r'[`".]', name)
    ):
        raise ValueError(
            f"must be the plain name of a table or a column: up to {_LONGEST_IDENTIFIER} characters, no dots, no quotes"
        )
    return name


def _validate_not_reserved(name: str) -> str:
    if _RESERVED_NAMES.fullmatch(name):
        raise ValueError(
            f"{name} is a table of sensorsync: leave table away and give readings, or name a table of yours"
        )
    return name


SqlIdentifier = Annotated[str, AfterValidator(_identifier)]


class TableSettings(Section):
    """`mappings[].table`: a table of yours that the rows go to, instead of sensor_readings."""

    name: Annotated[SqlIdentifier, AfterValidator(_validate_not_reserved)] = setting(
        doc="Name of the table, which must exist in the database of the settings.", example="machine_state"
    )
    key: Annotated[tuple[SqlIdentifier, ...], CommaSeparated] = setting(
        doc="The columns that are a row's identity: the table needs a unique key of exactly these.",
        example=["machine", "at"],
        min_length=1,
    )
    conflict: Literal["first", "last"] = setting(
        "first",
        doc="Which of two rows with the same key stays: the `first` one that came, or the `last`.",
        example="last",
    )
    columns: dict[SqlIdentifier, PathSource] = setting(
        doc="A source for each column that is written, by the column's name. A plain text is a JMESPath expression over the element.",
        example={"machine": {"topic": "{machine}"}, "at": {"path": "ts", "type": "time"}, "celsius": "temperature"},
        min_length=1,
    )

    def has_field_column(self, field: str) -> bool:
        """Return True when a column gets this field of the mapping itself."""
        return any(source.field == field for source in self.columns.values())

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        raise_for_issues(self, self._issues())
        return self

    def _issues(self) -> Iterator[ValidationIssue]:
        for place, name in enumerate(self.key):
            if name not in self.columns:
                near = nearest_name(name, self.columns)
                yield (
                    ("key", place),
                    f"{name} is none of the columns that the mapping writes"
                    + (f": did you mean {near}?" if near else ""),
                )
            elif self.columns[name].field == "received_at":
                yield (
                    ("key", place),
                    f"{name} is when the message arrived: delivered again, it would become a second row",
                )
        names = [name.lower() for name in self.columns]
        for place, column in enumerate(self.columns):
            if names.index(column.lower()) < place:
                yield ("columns", column), "is there twice: names of columns know no case"
        if len(set(self.key)) != len(self.key):
            yield ("key",), "has a column twice"
