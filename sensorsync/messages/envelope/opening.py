"""Messages are opened, by one policy: decrypted, then verified."""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from collections.abc import Iterable
from typing import Literal

from sensorsync.messages.envelope.algorithms import OTHER_NAMES, ContentEncryption, Signature
from sensorsync.messages.envelope.base64url import decode, decode_exactly
from sensorsync.messages.envelope.headers import Bound, Headers
from sensorsync.messages.envelope.keys import Key, key_ring
from sensorsync.messages.reading import Rejected

Signatures = Literal["required", "optional", "off"]
Encryption = Literal["required", "optional", "off"]

_HEAD = re.compile(rb"e[A-Za-z0-9_-]*+")
"""What a token begins with: base64url, of "{" first. `energy v=21.5,a=3.2` has three parts as well, and is none."""
MAX_TOKEN = 512 * 1024
"""Bytes of a token. The largest reading (256 KiB), signed and encrypted, is 4/3 * 4/3 times as long."""


class Envelope:
    """Opens messages, plain, signed, encrypted, or signed inside of encrypted.

    `signatures`: `required`: what is not signed by one of `keys` is rejected. `optional`: unsigned messages are taken too; a signature
    that is there must be right. `off`: signed messages are opened unchecked, which is no less than to take plain ones.

    `encryption`: `required`: what is not encrypted for one of `keys` is rejected. `optional`: other messages are taken too. `off`:
    encrypted messages are rejected.

    A token that names no key is tried with the only key of its kind, if there is one only. That a message could be decrypted says who
    may read it, not who wrote it: it does not stand for a signature. Raises ValueError as `key_ring` does.
    """

    def __init__(
        self, keys: Iterable[Key] = (), *, signatures: Signatures = "optional", encryption: Encryption = "optional"
    ) -> None:
        ring = key_ring(keys)
        self._checked = signatures != "off"
        self._unsigned = _UNSIGNED if signatures == "required" else None
        self._decrypts = encryption != "off"
        self._unencrypted = _UNENCRYPTED if encryption == "required" else None
        self._plain = self._unencrypted or self._unsigned
        self._signers: Headers[Signature] = Headers(
            "signature",
            {k.id: Bound(k.signature, _signed(k)) for k in ring.values() if k.use == "signature"},
        )
        self._known = self._signers.known
        self._ciphers: Headers[ContentEncryption] = Headers(
            "encryption",
            {k.id: Bound(k.encryption, _direct(k)) for k in ring.values() if k.use == "encryption"},
        )

    def open(self, payload: bytes) -> bytes | Rejected:
        """What the message says, or Rejected("signature" | "encryption" | "too_large", why). Raises nothing; thread-safe."""
        if payload[:1] == b"{":
            return self._plain or payload
        if len(payload) > MAX_TOKEN:
            return Rejected(
                "too_large", f"the message has {len(payload)} bytes; tokens of at most {MAX_TOKEN} are opened"
            )
        parts = payload.split(b".", 5)
        if len(parts) == 3:
            return self._unencrypted or self._verified(payload, parts)
        if len(parts) == 5 and _HEAD.fullmatch(parts[0]):
            return self._decrypted(parts)
        return self._plain or payload  # no token; the reading's decoder will say what is wrong with it

    def _verified(self, payload: bytes, parts: list[bytes]) -> bytes | Rejected:
        """What a JWS says; anything else as it is, if that need not be signed."""
        head, body, signature = parts
        if head not in self._known and not _HEAD.fullmatch(head):
            return self._unsigned or payload
        if self._checked:
            key = self._known.get(head)
            if key is None:
                found = self._signers.key_of(head)
                if isinstance(found, Rejected):
                    return found
                key = found
            if not key.verify(payload[: -1 - len(signature)], signature):
                return _WRONG
        try:
            return decode(body)
        except Base64Error:
            return Rejected("signature", "the signed payload is not base64url")

    def _decrypted(self, parts: list[bytes]) -> bytes | Rejected:
        """What a JWE holds, opened as a JWS if it is one. A second JWE inside is no message."""
        if not self._decrypts:
            return _NOT_DECRYPTED
        head, encrypted_key, vector, ciphertext, tag = parts
        key = self._ciphers.known.get(head) or self._ciphers.key_of(head)
        if isinstance(key, Rejected):
            return key
        if encrypted_key:  # RFC 7516, section 5.2, step 10
            return Rejected("encryption", "the token has an encrypted key, which `dir` has not")
        try:
            content = key.decrypt(decode_exactly(vector), decode_exactly(ciphertext), decode_exactly(tag), head)
        except ValueError:
            return Rejected("encryption", "a part of the encrypted message is not base64url")
        if content is None:
            return _UNDECRYPTABLE
        inner = content.split(b".", 3)
        return self._verified(content, inner) if len(inner) == 3 else self._unsigned or content


def _signed(key: Key) -> dict[str, tuple[str, ...]]:
    return {"alg": (key.algorithm, *OTHER_NAMES.get(key.algorithm, ()))}


def _direct(key: Key) -> dict[str, tuple[str, ...]]:
    return {"alg": ("dir",), "enc": (key.algorithm,)}


_UNSIGNED = Rejected("signature", "the message is not signed, and security.signatures is required")
_WRONG = Rejected("signature", "the signature is wrong")
_UNENCRYPTED = Rejected("encryption", "the message is not encrypted, and security.encryption is required")
_NOT_DECRYPTED = Rejected("encryption", "the message is encrypted, and security.encryption is off")
_UNDECRYPTABLE = Rejected("encryption", "the message cannot be decrypted: it was changed, or another key made it")
