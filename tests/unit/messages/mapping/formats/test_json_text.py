"""`json`: any JSON text, as strict as the decoder of plain readings."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorsync.messages.mapping.model import FormatSpec
from sensorsync.messages.reading import MAX_NESTING, ReadingDecoder, Rejected
from tests.unit.messages.mapping.formats.parsing import parse, rejected

JSON = FormatSpec("json")
_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
_documents = st.recursive(_scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))


@pytest.mark.parametrize("document", [{"a": 1}, [1, 2], "text", 21.5, 7, True, None])
def test_a_document_is_of_any_type(document: Any) -> None:
    assert parse(JSON, json.dumps(document)) == document


@given(_documents)
def test_written_json_is_read_again(document: Any) -> None:
    assert parse(JSON, json.dumps(document, ensure_ascii=False)) == document


def test_of_a_name_that_occurs_twice_the_last_one_counts() -> None:
    assert parse(JSON, '{"a": 1, "a": 2}') == {"a": 2}


def test_an_integer_beyond_64_bits_becomes_the_nearest_double() -> None:
    assert parse(JSON, str(2**70)) == float(2**70)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "json"),
        (b" \n", "json"),
        (b"{", "json"),
        (b'{"a": 1} x', "json"),
        (b"{'a': 1}", "json"),
        (rb'"\ud800"', "json"),
        (b"\xef\xbb\xbf{}", "json"),
        (b'{"a": NaN}', "nan"),
        (b"[-Infinity]", "nan"),
        (b"1e400", "nan"),
        (b'{"a": "\xff"}', "encoding"),
        (b"[" * 5000, "nesting"),
    ],
)
def test_invalid_json_has_the_same_reason_as_in_a_plain_reading(payload: bytes, reason: str) -> None:
    found = rejected(JSON, payload)

    assert found.reason == reason
    assert found == ReadingDecoder().decode(payload, "t", 0)


def test_the_decode_error_names_the_byte_that_is_not_utf8() -> None:
    assert rejected(JSON, b'{"a": "\xff"}').message == "the payload is not UTF-8 (byte 7)"


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_a_document_may_be_as_deep_as_the_servers_take_and_no_deeper(opening: str, closing: str) -> None:
    deepest = opening * MAX_NESTING + "1" + closing * MAX_NESTING
    deeper = opening + deepest + closing

    assert not isinstance(parse(JSON, deepest), Rejected)
    assert rejected(JSON, deeper).reason == "nesting"


def test_many_objects_beside_one_another_are_not_deep() -> None:
    document = [{"a": [1]}] * 100

    assert parse(JSON, json.dumps(document)) == document


def test_a_text_of_brackets_is_not_deep() -> None:
    assert parse(JSON, json.dumps("[{" * 100)) == "[{" * 100
