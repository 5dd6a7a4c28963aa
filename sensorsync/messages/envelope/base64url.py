"""Strict base64url without padding (RFC 7515, section 2). `decode_canonical` accepts one spelling for each sequence of bytes."""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64

TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_+/=", b"+/!!!")  # the characters of plain base64 become invalid ones
_PADDING = (b"", b"===", b"==", b"=")
"""By length modulo 4. There is no text of length 1, and the padding for it makes the decoder refuse it."""
_LAST_LETTERS = (b"", b"", b"AQgw", b"AEIMQUYcgkosw048")
"""By length modulo 4: the last letters whose bits beyond the last byte are zero. For 0 it is any letter, without a check."""


def encode(data: bytes) -> bytes:
    """Encode bytes as a text."""
    return b2a_base64(data, newline=False).translate(TO_URL).rstrip(b"=")


def decode(text: bytes) -> bytes:
    """Decode a text. The bits beyond the last byte may have any value, as in most libraries. Raises binascii.Error (a ValueError)."""
    return a2b_base64(text.translate(_FROM_URL) + _PADDING[len(text) & 3], strict_mode=True)


def decode_canonical(text: bytes) -> bytes:
    """Decode a tag or a signature, whose text no signature covers. Raises ValueError for a second spelling of the same bytes."""
    rest = len(text) % 4
    if rest and text[-1] not in _LAST_LETTERS[rest]:
        raise ValueError("not the one spelling of these bytes")
    return decode(text)
