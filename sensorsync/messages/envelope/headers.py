"""The header of a token. It is parsed strictly, and only to find the key that it names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Generic, NamedTuple, NoReturn, TypeVar

from sensorsync.messages.envelope.base64url import decode
from sensorsync.messages.reading import Rejected

MAX_HEADER = 4096
"""Bytes of the longest encoded protected header. Ours has about 60."""
_CACHED_HEADERS = 256

A = TypeVar("A")


class KeyBinding(NamedTuple, Generic[A]):
    """The algorithm of a key, and the values that a header for this key must have."""

    algorithm: A
    required_header: Mapping[str, tuple[str, ...]]
    """By member of the header: the values that it may have. The first is the one that we write."""


class HeaderKeys(Generic[A]):
    """Lookup of the key that an encoded header names, with a check that the header fits the key. Thread-safe."""

    def __init__(self, reason: str, keys: Mapping[str, KeyBinding[A]]) -> None:
        self._reason = reason
        self._keys = keys
        self.cache: dict[bytes, A] = {}
        """Valid headers. A valid header does not make its token valid, because the token's own tag covers the header."""

    def find_key(self, encoded_header: bytes) -> A | Rejected:
        """Return the key that verifies or decrypts the token, or the reason why there is none."""
        try:
            key = self._matching_key(_parse_header(encoded_header))
        except _HeaderError as refused:
            return Rejected(self._reason, str(refused))
        if len(self.cache) >= _CACHED_HEADERS:
            self.cache.clear()  # devices have few headers; only an attacker makes many
        self.cache[encoded_header] = key
        return key

    def _matching_key(self, header: dict[str, Any]) -> A:
        if "crit" in header:  # RFC 7515, section 4.1.11: extensions that must be understood. We support none.
            raise _HeaderError("the header has critical extensions, which are not supported")
        if "zip" in header:  # RFC 7516, section 4.1.3: a small message could become a huge one
            raise _HeaderError("the header says that the message is compressed (zip), which is not supported")
        if not self._keys:
            raise _HeaderError(f"no key for this is configured ({self._reason}; security.keys)")
        kid = header.get("kid")
        if kid is None:
            if len(self._keys) > 1:
                raise _HeaderError("the header names no key (kid), and more than one is configured")
            kid = next(iter(self._keys))
        found = self._keys.get(kid) if isinstance(kid, str) else None
        if found is None:
            raise _HeaderError(f"the key {str(kid)[:64]!r} is not configured for this ({self._reason}; security.keys)")
        for name, wanted in found.required_header.items():
            if header.get(name) not in wanted:
                raise _HeaderError(
                    f"the header says {name} {str(header.get(name))[:16]!r}, but the key is for {wanted[0]}"
                )
        return found.algorithm


class _HeaderError(Exception):
    """A header that is refused. `find_key` turns it into a rejection."""


def _parse_header(encoded_header: bytes) -> dict[str, Any]:
    if len(encoded_header) > MAX_HEADER:
        raise _HeaderError(f"the header has {len(encoded_header)} bytes; at most {MAX_HEADER} are read")
    try:
        # Not orjson: it takes the last of two members with one name, and another program may take the first.
        header = json.loads(
            decode(encoded_header).decode(), object_pairs_hook=_unique_members, parse_constant=_reject_constant
        )
    except (ValueError, RecursionError):  # from base64, UTF-8 or JSON
        raise _HeaderError("the header is not base64url of JSON with unique names") from None
    if not isinstance(header, dict):
        raise _HeaderError("the header is not a JSON object")
    return header


def _unique_members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the members of an object. Raises ValueError when a name occurs twice (RFC 7515, section 4)."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name stands twice")
    return members


def _reject_constant(text: str) -> NoReturn:
    raise ValueError(text)
