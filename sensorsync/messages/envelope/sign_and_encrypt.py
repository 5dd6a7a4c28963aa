"""Encoders of messages, which are signed, encrypted, or signed and then encrypted."""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Callable

import orjson

from sensorsync.messages.envelope.base64url import TO_URL, encode
from sensorsync.messages.envelope.keys import Key


class Signer:
    """A signer of payloads with one key. The header is made once. Raises ValueError when the key cannot sign."""

    def __init__(self, key: Key) -> None:
        self._sign = key.signature.sign
        if not key.is_private:
            raise ValueError(f"key {key.id!r} is a public key: it verifies, and signs nothing")
        self._head = encode(orjson.dumps({"alg": key.algorithm, "kid": key.id})) + b"."

    def sign(self, payload: bytes) -> bytes:
        """Return the JWS compact serialization of `payload`."""
        signing_input = self._head + b2a_base64(payload, newline=False).translate(TO_URL).rstrip(b"=")
        return signing_input + b"." + self._sign(signing_input)


class Encrypter:
    """An encrypter of payloads with one key. Raises ValueError when the key is not for encryption."""

    def __init__(self, key: Key) -> None:
        self._encrypt = key.encryption.encrypt
        self._head = encode(orjson.dumps({"alg": "dir", "enc": key.algorithm, "kid": key.id}))

    def encrypt(self, payload: bytes) -> bytes:
        """Return the JWE compact serialization of `payload`. Its second part, the encrypted key, is empty."""
        vector, ciphertext, tag = self._encrypt(payload, self._head)
        return b".".join((self._head, b"", encode(vector), encode(ciphertext), encode(tag)))


def envelope_encoder(signing: Key | None, encryption: Key | None) -> Callable[[bytes], bytes] | None:
    """Return a function that makes a message of a payload with these keys, or None without keys.

    The message is a JWS, a JWE, or a JWS inside a JWE. Raises ValueError when a key is not for its use.
    """
    sign = Signer(signing).sign if signing else None
    encrypt = Encrypter(encryption).encrypt if encryption else None
    if sign is None or encrypt is None:
        return sign or encrypt
    return lambda payload: encrypt(sign(payload))
