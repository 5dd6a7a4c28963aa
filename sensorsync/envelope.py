"""Signed messages: JWS compact serialization (RFC 7515), so that any device's JOSE library can make them.

A key has an id (`kid`) and one algorithm that it is for. A token's `alg` is only compared with that of its key and never chooses
anything, so neither `none` nor another algorithm can be talked into a key. To add an algorithm is to add a class with `sign` and
`verify` to `_ALGORITHMS`.
"""

from __future__ import annotations

import hashlib
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hmac import compare_digest
from typing import Literal, Protocol

import orjson

from sensorsync.reading import Rejected

Signatures = Literal["required", "optional", "off"]

MAX_HEADER = 4096
"""Bytes of an encoded protected header. Ours has about 60."""
_CACHED_HEADERS = 256
_HS256_BYTES = 32

_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_+/=", b"+/!!!")  # the characters of plain base64 are made to fail


class Algorithm(Protocol):
    """One key, ready to be used. Texts are base64url without padding (RFC 7515, section 2)."""

    def sign(self, signing_input: bytes) -> bytes:
        """The signature's text."""
        ...

    def verify(self, signing_input: bytes, signature: bytes) -> bool:
        """Whether `signature` (its text) is right, in a time that does not tell how wrong it is."""
        ...


class Hs256:
    """HMAC with SHA-256 (RFC 7518, section 3.2)."""

    def __init__(self, secret: bytes) -> None:
        # RFC 2104 with both keyed states prepared: the hmac module's own copy() takes half as long again.
        block = (hashlib.sha256(secret).digest() if len(secret) > 64 else secret).ljust(64, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def sign(self, signing_input: bytes) -> bytes:
        inner = self._inner.copy()
        inner.update(signing_input)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return b2a_base64(outer.digest(), newline=False)[:43].translate(_TO_URL)  # 43 letters and one "="

    def verify(self, signing_input: bytes, signature: bytes) -> bool:
        # Texts are compared, not bytes: so a tag has one spelling only, and need not be decoded.
        return compare_digest(self.sign(signing_input), signature)


_ALGORITHMS: dict[str, Callable[[bytes], Algorithm]] = {"HS256": Hs256}
ALGORITHMS = tuple(_ALGORITHMS)
"""The names that a key's algorithm may have."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key and the one algorithm that it is for. Raises ValueError when that is unknown or the secret empty."""

    id: str
    secret: bytes = field(repr=False)
    algorithm: str = "HS256"

    def __post_init__(self) -> None:
        if self.algorithm not in _ALGORITHMS:
            raise ValueError(f"algorithm {self.algorithm!r} of key {self.id!r} is not one of {', '.join(ALGORITHMS)}")
        if not self.secret:
            raise ValueError(f"the secret of key {self.id!r} is empty")

    @property
    def weakness(self) -> str | None:
        """Why the key is weaker than its algorithm, in a sentence; None when it is not."""
        if len(self.secret) >= _HS256_BYTES:
            return None
        return (
            f"key {self.id!r} has {len(self.secret)} bytes; HS256 wants {_HS256_BYTES} or more (RFC 7518, section 3.2)"
        )

    def ready(self) -> Algorithm:
        """The algorithm with this key in it."""
        return _ALGORITHMS[self.algorithm](self.secret)


class Signer:
    """Signs payloads with one key; the header is made once."""

    def __init__(self, key: Key) -> None:
        self._head = _encode(orjson.dumps({"alg": key.algorithm, "kid": key.id})) + b"."
        self._sign = key.ready().sign

    def sign(self, payload: bytes) -> bytes:
        """The JWS compact serialization of `payload`."""
        signing_input = self._head + b2a_base64(payload, newline=False).translate(_TO_URL).rstrip(b"=")
        return signing_input + b"." + self._sign(signing_input)


class Envelope:
    """Opens messages, plain or signed, by one policy.

    `required`: what is not signed by one of `keys` is rejected. `optional`: plain messages are taken too; a signature that is there
    must be right. `off`: signed messages are opened unchecked, which is no less than to take plain ones.

    A token that names no key is checked with the only key, if there is one only.
    """

    def __init__(self, keys: Iterable[Key] = (), *, signatures: Signatures = "optional") -> None:
        self._required = signatures == "required"
        self._checked = signatures != "off"
        self._keys: dict[str, tuple[str, Algorithm]] = {}
        for key in keys:
            if key.id in self._keys:
                raise ValueError(f"two keys have the id {key.id!r}")
            self._keys[key.id] = (key.algorithm, key.ready())
        self._headers: dict[bytes, Algorithm] = {}

    def open(self, payload: bytes) -> bytes | Rejected:
        """What the message says, or Rejected("signature", why). Raises nothing; thread-safe."""
        if payload[:1] == b"{":
            return _UNSIGNED if self._required else payload
        signing_input, _, signature = payload.rpartition(b".")
        head, dot, body = signing_input.partition(b".")
        if not dot or b"." in body or payload[:1] != b"e":
            return (
                _UNSIGNED if self._required else payload
            )  # no JWS; the reading's decoder will say what is wrong with it
        if self._checked:
            key = self._headers.get(head)
            if key is None:
                found = self._key_of(head)
                if isinstance(found, Rejected):
                    return found
                key = found
            if not key.verify(signing_input, signature):
                return _WRONG
        try:
            return _decode(body)
        except Base64Error:
            return Rejected("signature", "the signed payload is not base64url")

    def _key_of(self, head: bytes) -> Algorithm | Rejected:
        if len(head) > MAX_HEADER:
            return Rejected("signature", f"the header has {len(head)} bytes; at most {MAX_HEADER} are read")
        try:
            header = orjson.loads(_decode(head))
        except ValueError:  # base64 and JSON alike
            return Rejected("signature", "the header is not base64url of JSON")
        if not isinstance(header, dict):
            return Rejected("signature", "the header is not a JSON object")
        if "crit" in header:  # RFC 7515, section 4.1.11: extensions that must be understood, and none is
            return Rejected("signature", "the header has critical extensions, which are not supported")
        return self._chosen(header.get("kid"), header.get("alg"), head)

    def _chosen(self, kid: object, algorithm: object, head: bytes) -> Algorithm | Rejected:
        if not self._keys:
            return Rejected("signature", "the message is signed, and no key is configured (security.keys)")
        if kid is None and len(self._keys) == 1:
            kid = next(iter(self._keys))
        if kid is None:
            return Rejected("signature", "the header names no key (kid), and more than one is configured")
        found = self._keys.get(kid) if isinstance(kid, str) else None
        if found is None:
            return Rejected("signature", f"the key {str(kid)[:64]!r} is not configured (security.keys)")
        if algorithm != found[0]:
            return Rejected("signature", f"the header says alg {str(algorithm)[:16]!r}, but the key is for {found[0]}")
        if len(self._headers) >= _CACHED_HEADERS:
            self._headers.clear()  # headers of devices are few; only an attacker makes many
        self._headers[head] = found[1]
        return found[1]


_UNSIGNED = Rejected("signature", "the message is not signed, and security.signatures is required")
_WRONG = Rejected("signature", "the signature is wrong")


def _encode(data: bytes) -> bytes:
    return b2a_base64(data, newline=False).translate(_TO_URL).rstrip(b"=")


def _decode(text: bytes) -> bytes:
    """Base64url without padding, strictly. Raises binascii.Error (a ValueError)."""
    return a2b_base64(text.translate(_FROM_URL) + b"==="[: -len(text) % 4], strict_mode=True)
