"""The decoder of messages, which are decrypted and then verified by one policy."""

from __future__ import annotations

import re
from binascii import Error as Base64Error
from collections.abc import Iterable
from typing import Literal

from sensorsync.messages.envelope.algorithms import ALGORITHM_ALIASES, ContentEncryption, Signature
from sensorsync.messages.envelope.base64url import decode, decode_canonical
from sensorsync.messages.envelope.headers import HeaderKeys, KeyBinding
from sensorsync.messages.envelope.keys import Key, key_ring
from sensorsync.messages.reading import Rejected

SignaturePolicy = Literal["required", "optional", "off"]
EncryptionPolicy = Literal["required", "optional", "off"]

_HEAD = re.compile(rb"e[A-Za-z0-9_-]*+")
"""First part of a token: base64url of a text that begins with "{". `energy v=21.5,a=3.2` has three parts too, but is not a token."""
MAX_TOKEN = 512 * 1024
"""Bytes of the largest token. The largest reading (256 KiB), signed and encrypted, is 4/3 * 4/3 times as long."""


class EnvelopeDecoder:
    """A decoder of messages that are plain, signed, encrypted, or signed inside of encrypted.

    With `signatures` `required`, messages that are not signed by one of `keys` are rejected. With `optional`, unsigned messages are
    accepted too, but a signature that is present must be right. With `off`, signed messages are decoded without verification. They are
    then as safe as plain ones.

    With `encryption` `required`, messages that are not encrypted for one of `keys` are rejected. With `optional`, other messages are
    accepted too. With `off`, encrypted messages are rejected.

    A token that names no key is tried with the only key of its kind, when there is exactly one. Decryption shows who may read a
    message, not who wrote it, so it does not replace a signature. Raises ValueError as `key_ring` does.
    """

    def __init__(
        self,
        keys: Iterable[Key] = (),
        *,
        signatures: SignaturePolicy = "optional",
        encryption: EncryptionPolicy = "optional",
    ) -> None:
        ring = key_ring(keys)
        self._verify_signatures = signatures != "off"
        self._unsigned_rejection = _UNSIGNED if signatures == "required" else None
        self._decryption_enabled = encryption != "off"
        self._unencrypted_rejection = _UNENCRYPTED if encryption == "required" else None
        self._plain_rejection = self._unencrypted_rejection or self._unsigned_rejection
        self._verification_keys: HeaderKeys[Signature] = HeaderKeys(
            "signature",
            {k.id: KeyBinding(k.signature, _jws_header_values(k)) for k in ring.values() if k.use == "signature"},
        )
        self._cached_verification_keys = self._verification_keys.cache
        self._decryption_keys: HeaderKeys[ContentEncryption] = HeaderKeys(
            "encryption",
            {k.id: KeyBinding(k.encryption, _jwe_header_values(k)) for k in ring.values() if k.use == "encryption"},
        )

    def verify_and_decrypt(self, payload: bytes) -> bytes | Rejected:
        """Return the content of a message, or Rejected("signature" | "encryption" | "too_large", sentence).

        It raises nothing and is thread-safe.
        """
        if payload[:1] == b"{":
            return self._plain_rejection or payload
        if len(payload) > MAX_TOKEN:
            return Rejected(
                "too_large", f"the message has {len(payload)} bytes; tokens of at most {MAX_TOKEN} are opened"
            )
        parts = payload.split(b".", 5)
        if len(parts) == 3:
            return self._unencrypted_rejection or self._verify(payload, parts)
        if len(parts) == 5 and _HEAD.fullmatch(parts[0]):
            return self._decrypt(parts)
        return self._plain_rejection or payload  # not a token; the decoder of readings reports the mistake

    def _verify(self, payload: bytes, parts: list[bytes]) -> bytes | Rejected:
        """Return the content of a JWS, and any other payload as it is unless signatures are required."""
        head, body, signature = parts
        if head not in self._cached_verification_keys and not _HEAD.fullmatch(head):
            return self._unsigned_rejection or payload
        if self._verify_signatures:
            key = self._cached_verification_keys.get(head)
            if key is None:
                found = self._verification_keys.find_key(head)
                if isinstance(found, Rejected):
                    return found
                key = found
            if not key.verify(payload[: -1 - len(signature)], signature):
                return _WRONG
        try:
            return decode(body)
        except Base64Error:
            return Rejected("signature", "the signed payload is not base64url")

    def _decrypt(self, parts: list[bytes]) -> bytes | Rejected:
        """Return the content of a JWE, which is verified when it is a JWS. A second JWE inside is not decrypted."""
        if not self._decryption_enabled:
            return _NOT_DECRYPTED
        head, encrypted_key, vector, ciphertext, tag = parts
        key = self._decryption_keys.cache.get(head) or self._decryption_keys.find_key(head)
        if isinstance(key, Rejected):
            return key
        if encrypted_key:  # RFC 7516, section 5.2, step 10
            return Rejected("encryption", "the token has an encrypted key, which `dir` has not")
        try:
            content = key.decrypt(decode_canonical(vector), decode_canonical(ciphertext), decode_canonical(tag), head)
        except ValueError:
            return Rejected("encryption", "a part of the encrypted message is not base64url")
        if content is None:
            return _UNDECRYPTABLE
        inner = content.split(b".", 3)
        return self._verify(content, inner) if len(inner) == 3 else self._unsigned_rejection or content


def _jws_header_values(key: Key) -> dict[str, tuple[str, ...]]:
    return {"alg": (key.algorithm, *ALGORITHM_ALIASES.get(key.algorithm, ()))}


def _jwe_header_values(key: Key) -> dict[str, tuple[str, ...]]:
    return {"alg": ("dir",), "enc": (key.algorithm,)}


_UNSIGNED = Rejected("signature", "the message is not signed, and security.signatures is required")
_WRONG = Rejected("signature", "the signature is wrong")
_UNENCRYPTED = Rejected("encryption", "the message is not encrypted, and security.encryption is required")
_NOT_DECRYPTED = Rejected("encryption", "the message is encrypted, and security.encryption is off")
_UNDECRYPTABLE = Rejected("encryption", "the message cannot be decrypted: it was changed, or another key made it")
