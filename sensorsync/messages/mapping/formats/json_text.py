"""The format `json`: any JSON text (RFC 8259). The document is its value, which may have any type."""

from __future__ import annotations

from typing import Any

import orjson

from sensorsync.messages.reading.fields import check_nesting
from sensorsync.messages.reading.model import MAX_NESTING, DecodeError
from sensorsync.messages.reading.text import decode_utf8, json_rejection


class JsonFormat:
    """A parser of JSON, as strict as the decoder of plain readings: UTF-8, no NaN, MAX_NESTING levels at most.

    When a name occurs twice, the last one counts. An integer beyond 64 bits becomes the nearest double.
    """

    has_records = False

    def parse(self, payload: bytes) -> Any:
        try:
            document = orjson.loads(payload)
        except orjson.JSONDecodeError as error:
            raise DecodeError(*json_rejection(decode_utf8(payload), error)) from None
        # A text with at most that many brackets is not nested deeper. Counting them costs a fraction of the check.
        if payload.count(b"{") + payload.count(b"[") > MAX_NESTING and isinstance(document, dict | list):
            check_nesting(document)
        return document
