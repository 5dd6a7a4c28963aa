"""The algorithms of keys. To add an algorithm, add a class to one of the two tables."""

from __future__ import annotations

import hashlib
import hmac
from binascii import b2a_base64
from collections.abc import Callable, Mapping
from hmac import compare_digest
from typing import Protocol

from sensorsync.messages.envelope.asymmetric import Ed25519, Ps256, Rs256
from sensorsync.messages.envelope.base64url import TO_URL, encode
from sensorsync.messages.envelope.content import A256Gcm

_HS256_BYTES = 32
_FINGERPRINT_BYTES = 12


class Algorithm(Protocol):
    """A key that is ready to be used. The constructor takes the key's material and raises ValueError when it is of another kind."""

    @property
    def is_private(self) -> bool:
        """True when the half that makes messages is present, and not only the half that verifies them."""
        ...

    @property
    def thumbprint(self) -> str | None:
        """JWK thumbprint of the public key (RFC 7638, SHA-256). None when no part of the key is public."""
        ...

    @property
    def public_pem(self) -> str | None:
        """Public key in PEM (SubjectPublicKeyInfo). None when there is none."""
        ...


class Signature(Algorithm, Protocol):
    """A key that signs and verifies. Signatures are base64url text without padding."""

    def sign(self, signing_input: bytes) -> bytes:
        """Return the text of the signature. Raises ValueError when the private half is missing."""
        ...

    def verify(self, signing_input: bytes, signature: bytes) -> bool:
        """Return True when `signature` (its text) is right. The time that this takes does not depend on the wrong part."""
        ...


class ContentEncryption(Algorithm, Protocol):
    """A key that encrypts and decrypts."""

    def encrypt(self, plaintext: bytes, header: bytes) -> tuple[bytes, bytes, bytes]:
        """Return (initialization vector, ciphertext, tag). The tag covers `header` too."""
        ...

    def decrypt(self, vector: bytes, ciphertext: bytes, tag: bytes, header: bytes) -> bytes | None:
        """Return the plaintext, or None when the tag does not match the other parts."""
        ...


class Hs256:
    """HMAC with SHA-256 (RFC 7518, section 3.2). The material is the secret itself."""

    is_private = True
    thumbprint = None
    public_pem = None

    def __init__(self, secret: bytes) -> None:
        if b"-----BEGIN " in secret:  # at any position, because openssl writes lines about the key before it
            # With a public key as the shared secret, an attacker could sign: the known confusion of RS256 and HS256.
            raise ValueError("PEM is no secret for HS256")
        # RFC 2104 with both keyed states prepared. The copy() of the hmac module takes 1.5 times as long.
        block = (hashlib.sha256(secret).digest() if len(secret) > 64 else secret).ljust(64, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def sign(self, signing_input: bytes) -> bytes:
        inner = self._inner.copy()
        inner.update(signing_input)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return b2a_base64(outer.digest(), newline=False)[:43].translate(TO_URL)  # 43 letters and one "="

    def verify(self, signing_input: bytes, signature: bytes) -> bool:
        # Texts are compared, not bytes. A tag then has only one valid spelling and does not have to be decoded.
        return compare_digest(self.sign(signing_input), signature)


SIGNATURES: Mapping[str, Callable[[bytes], Signature]] = {
    "HS256": Hs256,
    "RS256": Rs256,
    "PS256": Ps256,
    "EdDSA": Ed25519,
}
"""By `alg` of a JWS: the class that makes the key from its material."""
ALGORITHM_ALIASES: Mapping[str, tuple[str, ...]] = {"EdDSA": ("Ed25519",)}
"""Other names of an `alg`. RFC 9864 names EdDSA by its curve; it is the same algorithm."""
ENCRYPTIONS: Mapping[str, Callable[[bytes], ContentEncryption]] = {"A256GCM": A256Gcm}
"""By `enc` of a JWE (with `alg` `dir`): the class that makes the key from its material."""
ALGORITHMS = (*SIGNATURES, *ENCRYPTIONS)
"""Names that the algorithm of a key may have."""


def key_weakness(algorithm: str, material: bytes) -> str | None:
    """Return the reason why a key is weaker than its algorithm, in words, or None when it is not.

    A short HS256 secret is the only weakness that is accepted. Other weak keys are refused.
    """
    if algorithm == "HS256" and len(material) < _HS256_BYTES:
        return f"has {len(material)} bytes; HS256 wants {_HS256_BYTES} or more (RFC 7518, section 3.2)"
    return None


def secret_fingerprint(algorithm: str, material: bytes) -> str:
    """Return a short name for a secret. With it two people can find out that they have the same one. It has no other use."""
    return encode(
        hmac.digest(material, f"sensorsync fingerprint {algorithm}".encode(), "sha256")[:_FINGERPRINT_BYTES]
    ).decode()
