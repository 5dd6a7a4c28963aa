"""Encryption of contents: A256GCM with the key itself (`dir`; RFC 7518, sections 4.5 and 5.3)."""

from __future__ import annotations

import os
from binascii import Error as Base64Error

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sensorsync.messages.envelope.base64url import decode, encode

KEY_BYTES = 32
IV_BYTES = 12
TAG_BYTES = 16


class A256Gcm:
    """AES-256 in Galois/Counter Mode. The material is the base64 text (either alphabet) of 32 bytes.

    Initialization vectors are random, so a key may encrypt up to 2**32 messages (NIST SP 800-38D, section 8.3).
    """

    is_private = True
    thumbprint = None
    public_pem = None

    def __init__(self, text: bytes) -> None:
        try:
            key = decode(text.rstrip(b"=").replace(b"+", b"-").replace(b"/", b"_"))
        except Base64Error:
            key = b""
        if len(key) != KEY_BYTES:
            raise ValueError(f"it is not the base64 text of {KEY_BYTES} bytes (`openssl rand -base64 {KEY_BYTES}`)")
        self._cipher = AESGCM(key)

    def encrypt(self, plaintext: bytes, header: bytes) -> tuple[bytes, bytes, bytes]:
        vector = os.urandom(IV_BYTES)
        encrypted = self._cipher.encrypt(vector, plaintext, header)
        return vector, encrypted[:-TAG_BYTES], encrypted[-TAG_BYTES:]

    def decrypt(self, vector: bytes, ciphertext: bytes, tag: bytes, header: bytes) -> bytes | None:
        if len(vector) != IV_BYTES or len(tag) != TAG_BYTES:  # the library accepts other sizes
            return None
        try:
            return self._cipher.decrypt(vector, ciphertext + tag, header)
        except InvalidTag:
            return None


def generate_base64_key() -> bytes:
    """Return the text of a new key."""
    return encode(os.urandom(KEY_BYTES))
