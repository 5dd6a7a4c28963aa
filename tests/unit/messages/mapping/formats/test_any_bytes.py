"""Any payload gives a document of JSON's types or a DecodeError, within bounds, in every format."""

from __future__ import annotations

import json

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorsync.messages.mapping.model import FormatSpec
from tests.unit.messages.mapping.formats.parsing import check_outcome
from tests.unit.messages.mapping.formats.test_senml_cbor import RFC_DUMP

SPECS = [
    FormatSpec("json"),
    FormatSpec("value"),
    FormatSpec("senml"),
    FormatSpec("csv"),
    FormatSpec("csv", ";", ("a", "b")),
    FormatSpec("influx"),
    FormatSpec("influx", precision="s"),
]
LARGEST = 256 * 1024
each_format = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.name}-{spec.delimiter}-{spec.precision}")

_SAMPLES = [
    b'{"a": [1, 2.5, "x", null, true], "b": {"c": -1e5}}',
    b'[{"bn": "urn:dev:", "bt": 1.3e9, "bver": 5, "n": "a", "v": 1, "s": 2}, {"n": "b", "t": -5, "vs": "x"}]',
    RFC_DUMP,
    b'time,celsius\n10:00,"21.5"\n10:01,"2""1"\n',
    b'm\\ x,t\\,=a\\ b v=1.5,w=5i,x="a\\"b",y=t 1556813561098000000\n# c\nm v=1\n',
]
_special = st.text(st.sampled_from(list('\\",=; \t\r\n#-.019eiutnN{}[]:x\0é')), max_size=200).map(str.encode)
_scalar = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=8)
_label = st.integers(-8, 10) | st.sampled_from(
    ["bn", "bt", "bv", "bs", "bver", "n", "v", "vs", "vb", "vd", "s", "t", "x", "x_"]
)
_loose = st.recursive(_scalar, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_label, inner, max_size=4))
_packs = st.lists(st.dictionaries(_label, _loose, max_size=6), max_size=4)


@each_format
@given(payload=st.binary(max_size=300) | _special)
def test_any_bytes_have_one_outcome(spec: FormatSpec, payload: bytes) -> None:
    check_outcome(spec, payload)


@given(spec=st.sampled_from(SPECS), data=st.data())
def test_a_damaged_payload_has_one_outcome(spec: FormatSpec, data: st.DataObject) -> None:
    payload = bytearray(data.draw(st.sampled_from(_SAMPLES)))
    for place, letter in data.draw(
        st.lists(st.tuples(st.integers(0, len(payload) - 1), st.integers(0, 255)), max_size=4)
    ):
        payload[place] = letter

    check_outcome(spec, bytes(payload))


@given(_packs | _loose)
def test_any_cbor_has_one_outcome_as_senml(item: object) -> None:
    check_outcome(FormatSpec("senml"), cbor2.dumps(item))


@given(
    st.lists(
        st.dictionaries(st.sampled_from(["bn", "bt", "bv", "bs", "n", "v", "vs", "s", "t", "x"]), _scalar, max_size=6),
        max_size=4,
    )
)
def test_any_json_has_one_outcome_as_senml(pack: list[dict[str, object]]) -> None:
    check_outcome(FormatSpec("senml"), json.dumps(pack, default=str).encode())


_STARTS = ["", "m ", "m,", 'm v="', "m v=1 ", '"', "a\n", "["]
_PIECES = [
    "\\",
    '"',
    ",",
    " ",
    "\n",
    "[",
    '{"a":',
    "=",
    "a=",
    "a,",
    '""',
    '\\"',
    "1",
    "1e",
    "-",
    "#\n",
    "m v=1\n",
    'm v="',
    "m,a=b",
]


@each_format
@pytest.mark.parametrize("piece", _PIECES)
def test_the_largest_payloads_take_time_in_proportion(spec: FormatSpec, piece: str) -> None:
    # Quadratic work would take minutes and exceed the time limit of a test.
    for start in _STARTS:
        check_outcome(spec, (start + piece * LARGEST)[:LARGEST].encode())


@pytest.mark.parametrize("start", ["9a0003fff0", "9f", "81bf", "815f", "817f"])
def test_the_largest_cbor_takes_time_in_proportion(start: str) -> None:
    for byte in b"\x80\x9f\xa0\xbf\xc1\x5f\x7f\xf6\xf9\xff\x00\x40":
        check_outcome(FormatSpec("senml"), (bytes.fromhex(start) + bytes([byte]) * LARGEST)[:LARGEST])
