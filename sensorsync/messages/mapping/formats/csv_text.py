"""The format `csv`: lines of fields between delimiters (RFC 4180). Each line is a record."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from sensorsync.messages.mapping.model import MAX_ROWS
from sensorsync.messages.reading.model import DecodeError
from sensorsync.messages.reading.text import decode_utf8


class CsvFormat:
    """A parser of CSV. A document is a list of `{name of the column: text of the field}`.

    Numbers stay texts, which `type: number` converts. Without `columns`, the first line names them. Every other line has as many
    fields as there are columns. Quotation marks are as in RFC 4180, blanks around a field are removed, empty lines are skipped, and
    lines may have any line ending. A payload of one line is a list of one record.
    """

    has_records = True

    def __init__(self, delimiter: str = ",", columns: Sequence[str] = ()) -> None:
        self._delimiter = delimiter
        self._columns = list(columns)

    def parse(self, payload: bytes) -> list[dict[str, str]]:
        lines = csv.reader(
            io.StringIO(decode_utf8(payload), newline=""),
            delimiter=self._delimiter,
            skipinitialspace=self._delimiter != " ",  # a quotation mark may follow the blank of `1, "a"`
            strict=True,
        )
        columns = self._columns
        found: list[dict[str, str]] = []
        try:
            for line in lines:
                fields = [field.strip() for field in line]
                if len(fields) <= 1 and not any(fields):
                    continue
                if not columns:
                    columns = _header(fields)
                    continue
                if len(fields) != len(columns):
                    raise DecodeError(
                        "format", f"line {lines.line_num}: {_count(fields)}, but there are {len(columns)} columns"
                    )
                if len(found) == MAX_ROWS:
                    raise DecodeError(
                        "too_large", f"line {lines.line_num}: a message may have {MAX_ROWS} records at most"
                    )
                found.append(dict(zip(columns, fields, strict=True)))
        except csv.Error as error:
            raise DecodeError("format", f"line {lines.line_num}: {error}") from None
        if not found:
            raise DecodeError("format", "the payload has no record" if columns else "the payload is empty")
        return found


def _header(names: list[str]) -> list[str]:
    if not all(names):
        raise DecodeError("format", "the first line, which names the columns, leaves one without a name")
    if len(set(names)) != len(names):
        raise DecodeError("format", "the first line, which names the columns, has a name twice")
    return names


def _count(fields: list[str]) -> str:
    return "1 field" if len(fields) == 1 else f"{len(fields)} fields"
