"""What keys can be for. To add an algorithm is to add a class to one of the two tables."""

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
    """One key, ready to be used. Its class is made with the key's material and raises ValueError when that is none of its kind."""

    @property
    def is_private(self) -> bool:
        """Whether the half that makes messages is there, and not only the one that checks them."""
        ...

    @property
    def thumbprint(self) -> str | None:
        """The public key's JWK thumbprint (RFC 7638, SHA-256); None when nothing of the key is public."""
        ...

    @property
    def public_pem(self) -> str | None:
        """The public key (SubjectPublicKeyInfo); None when there is none."""
        ...


class Signature(Algorithm, Protocol):
    """A key that signs and verifies. Texts are base64url without padding."""

    def sign(self, signing_input: bytes) -> bytes:
        """The signature's text. Raises ValueError when the private half is not there."""
        ...

    def verify(self, signing_input: bytes, signature: bytes) -> bool:
        """Whether `signature` (its text) is right, in a time that does not tell how wrong it is."""
        ...


class ContentEncryption(Algorithm, Protocol):
    """A key that encrypts and decrypts."""

    def encrypt(self, plaintext: bytes, header: bytes) -> tuple[bytes, bytes, bytes]:
        """(initialization vector, ciphertext, tag); the tag covers `header` too."""
        ...

    def decrypt(self, vector: bytes, ciphertext: bytes, tag: bytes, header: bytes) -> bytes | None:
        """The plaintext; None when tag and all the rest do not fit."""
        ...


class Hs256:
    """HMAC with SHA-256 (RFC 7518, section 3.2). The material is the secret itself."""

    is_private = True
    thumbprint = None
    public_pem = None

    def __init__(self, secret: bytes) -> None:
        if b"-----BEGIN " in secret:  # wherever: openssl writes lines about the key before it
            # A public key as a shared secret is how RS256 and HS256 get confused.
            raise ValueError("PEM is no secret for HS256")
        # RFC 2104 with both keyed states prepared: the hmac module's own copy() takes half as long again.
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
        # Texts are compared, not bytes: so a tag has one spelling only, and need not be decoded.
        return compare_digest(self.sign(signing_input), signature)


SIGNATURES: Mapping[str, Callable[[bytes], Signature]] = {
    "HS256": Hs256,
    "RS256": Rs256,
    "PS256": Ps256,
    "EdDSA": Ed25519,
}
"""`alg` of a JWS -> what makes the key of it."""
ALGORITHM_ALIASES: Mapping[str, tuple[str, ...]] = {"EdDSA": ("Ed25519",)}
"""What else an `alg` may be called: RFC 9864 names the curve too. It is the same algorithm."""
ENCRYPTIONS: Mapping[str, Callable[[bytes], ContentEncryption]] = {"A256GCM": A256Gcm}
"""`enc` of a JWE (with `alg` `dir`) -> what makes the key of it."""
ALGORITHMS = (*SIGNATURES, *ENCRYPTIONS)
"""The names that a key's algorithm may have."""


def key_weakness(algorithm: str, material: bytes) -> str | None:
    """Why such a key is weaker than its algorithm, in words; None when it is not. Other weak keys are refused."""
    if algorithm == "HS256" and len(material) < _HS256_BYTES:
        return f"has {len(material)} bytes; HS256 wants {_HS256_BYTES} or more (RFC 7518, section 3.2)"
    return None


def secret_fingerprint(algorithm: str, material: bytes) -> str:
    """A short name for a secret, by which two people can tell that they have the same one; of no use for anything else."""
    return encode(
        hmac.digest(material, f"sensorsync fingerprint {algorithm}".encode(), "sha256")[:_FINGERPRINT_BYTES]
    ).decode()
