"""Private keys and certificates as text: PEM, and DER in base64 or hexadecimal digits, wherever they stand in another text.

A key reaches a setting in many forms. An environment variable often holds one line of base64, without the lines of PEM around it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Final

HIDDEN: Final = "(a key that is not shown)"
_ARMOR: Final = re.compile(
    r"-{2,}\s*BEGIN |BEGIN [A-Z0-9 ]*(PRIVATE KEY|CERTIFICATE)|PuTTY-User-Key-File-|AGE-SECRET-KEY-1"
)
_PRIVATE_ARMOR: Final = re.compile(r"BEGIN [A-Z0-9 ]*PRIVATE KEY|PuTTY-User-Key-File-|AGE-SECRET-KEY-1")
_JSON_KEY: Final = re.compile(r'"kty"')
_PRIVATE_JSON_KEY: Final = re.compile(r'"(d|k)"\s*:')
_ENCODED: Final = re.compile(r"LS0tLS1CRUdJTi|b3BlbnNzaC1rZXktdj|2d2d2d2d424547494e", re.IGNORECASE)
"""PEM, or the inside of an OpenSSH key, that was encoded once more."""
_BASE64_DER: Final = (
    re.compile(r"(?<![A-Za-z0-9+_-])(?=(M[A-P][A-Za-z0-9+/_-]{38,}))"),
    re.compile(r"(?<![A-Za-z0-9+_-])(?=(M[A-P][A-Za-z0-9+/_\s-]{38,}))"),
)
"""The first byte of DER is 0x30. A folder may stand before it, because relative paths are resolved. With and without line breaks."""
_HEX_DER: Final = re.compile(r"(?<![0-9A-Za-z])30[0-9A-Fa-f]{70,}")
_SPACE: Final = re.compile(r"\s+")
_PRIVATE_CONTENT: Final = tuple(bytes((2, 1, version)) for version in (0, 1, 3))
"""The first field of PKCS #8, PKCS #1, SEC 1 and PKCS #12 is a version. That of public keys and certificates is not."""
_PASSWORD_BASED: Final = (bytes.fromhex("2a864886f70d0105"), bytes.fromhex("2a864886f70d010c01"))
"""The object identifiers of PKCS #5 and PKCS #12: the key is encrypted with a password."""
_FIRST_TAGS: Final = frozenset({0x02, 0x30})
"""An integer or a sequence: keys and certificates begin with one of them."""
_LOST_CHARACTERS: Final = 0.03
"""The share of characters that may be missing. A path that is base64 has lost the second of two slashes."""


def holds_private_key(text: str) -> bool:
    """Return True when a private key is in the text, encrypted ones included."""
    if _PRIVATE_ARMOR.search(text) or _ENCODED.search(text):
        return True
    if _JSON_KEY.search(text) and _PRIVATE_JSON_KEY.search(text):
        return True
    return any(
        content.startswith(_PRIVATE_CONTENT) or any(name in content[:40] for name in _PASSWORD_BASED)
        for content in _der_contents(text)
    )


def holds_key_or_certificate(text: str) -> bool:
    """Return True when a key of any kind or a certificate is in the text."""
    found = _ARMOR.search(text) or _ENCODED.search(text) or _JSON_KEY.search(text)
    return found is not None or any(True for _ in _der_contents(text))


def hide_private_key(text: str) -> str:
    """Return the text, or HIDDEN in its place when a private key is in it."""
    return HIDDEN if holds_private_key(text) else text


def _der_contents(text: str) -> Iterator[bytes]:
    """Yield the content of each DER sequence in the text whose stated length is that of what follows."""
    for pattern in _BASE64_DER:
        for match in pattern.finditer(text):
            digits = _SPACE.sub("", match[1]).replace("-", "+").replace("_", "/")
            yield from _content(base64.b64decode(digits[: len(digits) // 4 * 4]))
    for match in _HEX_DER.finditer(text):
        yield from _content(binascii.unhexlify(match[0][: len(match[0]) // 2 * 2]))


def _content(der: bytes) -> Iterator[bytes]:
    header = 2 if der[1] < 0x80 else 2 + (der[1] & 0x7F)
    stated = der[1] if header == 2 else int.from_bytes(der[2:header])
    there = len(der) - header
    if header <= 5 and abs(stated - there) <= max(4, stated * _LOST_CHARACTERS) and der[header] in _FIRST_TAGS:
        yield der[header:]
