"""Base64url without padding (RFC 7515, section 2), strictly: one spelling for each sequence of bytes."""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64

TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_+/=", b"+/!!!")  # the characters of plain base64 are made to fail
_PADDING = (b"", b"===", b"==", b"=")
"""By length modulo 4. There is no text of length 1; its padding is one that is refused."""
_LAST_LETTERS = (b"", b"", b"AQgw", b"AEIMQUYcgkosw048")
"""By length modulo 4: the last letters whose bits beyond the last byte are zero. (The whole alphabet, for 0, is not looked up.)"""


def encode(data: bytes) -> bytes:
    """Bytes -> their text."""
    return b2a_base64(data, newline=False).translate(TO_URL).rstrip(b"=")


def decode(text: bytes) -> bytes:
    """A text -> its bytes. Takes any last bits, as most libraries do. Raises binascii.Error (a ValueError)."""
    return a2b_base64(text.translate(_FROM_URL) + _PADDING[len(text) & 3], strict_mode=True)


def decode_canonical(text: bytes) -> bytes:
    """Decode what no signature covers as text (tags, signatures): a second spelling of it is an error. Raises ValueError."""
    rest = len(text) % 4
    if rest and text[-1] not in _LAST_LETTERS[rest]:
        raise ValueError("not the one spelling of these bytes")
    return decode(text)
