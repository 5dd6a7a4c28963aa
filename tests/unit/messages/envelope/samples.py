"""Keys of every algorithm, made once, and tokens made by hand."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from functools import cache

from sensorsync.messages.envelope import EnvelopeDecoder, Key, SignaturePolicy, generate_key
from sensorsync.messages.envelope.verify_and_decrypt import EncryptionPolicy
from sensorsync.messages.reading import Rejected

MESSAGE = b'{"device_id":"boiler-7","value":21.5}'
SIGNATURES = ("HS256", "RS256", "PS256", "EdDSA")
PAIRS = SIGNATURES[1:]


@cache
def key(algorithm: str, key_id: str = "2026-a") -> Key:
    """Return a key with both halves, the same one each time. An RSA pair takes time, so there is one for each algorithm."""
    if algorithm in {"RS256", "PS256"} and key_id != "2026-a":
        return Key(key_id, key(algorithm).material, algorithm)
    return generate_key(key_id, algorithm)


def public(whole: Key) -> Key:
    """Return its public half."""
    assert whole.public_pem is not None
    return Key(whole.id, whole.public_pem.encode(), whole.algorithm)


def b64(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


def head(**members: object) -> bytes:
    """Return an encoded header."""
    return b64(json.dumps(members).encode())


def refusal(
    raw: bytes,
    *keys: Key,
    reason: str = "signature",
    signatures: SignaturePolicy = "optional",
    encryption: EncryptionPolicy = "optional",
) -> str:
    """Return the reason of the rejection, which must be there."""
    result = EnvelopeDecoder(keys, signatures=signatures, encryption=encryption).verify_and_decrypt(raw)
    assert isinstance(result, Rejected), result
    assert result.reason == reason
    return result.message
