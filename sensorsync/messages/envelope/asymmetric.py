"""Signatures of a private key that a public key verifies: RS256, PS256 (RFC 7518, sections 3.3, 3.5) and EdDSA (RFC 8037)."""

from __future__ import annotations

import hashlib
from typing import Generic, TypeVar

import orjson
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from sensorsync.messages.envelope.base64url import decode_canonical, encode

RSA_BITS = 2048
"""Bits of the smallest RSA key (RFC 7518, sections 3.3 and 3.5)."""
_GENERATED_RSA_BITS = 3072
_EXPONENT = 65537

Private = TypeVar("Private", bound=rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey)
Public = TypeVar("Public", bound=rsa.RSAPublicKey | ed25519.Ed25519PublicKey)


class _KeyPair(Generic[Private, Public]):
    """A public key, and the private key when it is present."""

    def __init__(self, private: Private | None, public: Public) -> None:
        self._private = private
        self._public = public

    @property
    def is_private(self) -> bool:
        return self._private is not None

    @property
    def public_pem(self) -> str:
        return self._public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def _require_private_key(self) -> Private:
        if self._private is None:
            raise ValueError("a public key does not sign")
        return self._private


class _Rsa(_KeyPair[rsa.RSAPrivateKey, rsa.RSAPublicKey]):
    _padding: padding.PKCS1v15 | padding.PSS

    def __init__(self, pem: bytes) -> None:
        private, public = _load_key_pair(pem)
        if not isinstance(public, rsa.RSAPublicKey) or not isinstance(private, rsa.RSAPrivateKey | None):
            raise ValueError("the PEM is no RSA key")  # noqa: TRY004 - a wrong key, not a wrong type
        if public.key_size < RSA_BITS:
            raise ValueError(f"the RSA key has {public.key_size} bits; at least {RSA_BITS} are asked for (RFC 7518)")
        super().__init__(private, public)

    @property
    def thumbprint(self) -> str:
        numbers = self._public.public_numbers()
        return _thumbprint({"e": _base64url_uint(numbers.e), "kty": "RSA", "n": _base64url_uint(numbers.n)})

    def sign(self, signing_input: bytes) -> bytes:
        return encode(self._require_private_key().sign(signing_input, self._padding, SHA256()))

    def verify(self, signing_input: bytes, signature: bytes) -> bool:
        try:
            self._public.verify(decode_canonical(signature), signing_input, self._padding, SHA256())
        except (InvalidSignature, ValueError):
            return False
        return True


class Rs256(_Rsa):
    """RSASSA-PKCS1-v1_5 with SHA-256. The material is PEM."""

    _padding = padding.PKCS1v15()


class Ps256(_Rsa):
    """RSASSA-PSS with SHA-256 and a salt that is as long as the hash. The material is PEM."""

    _padding = padding.PSS(padding.MGF1(SHA256()), padding.PSS.DIGEST_LENGTH)


class Ed25519(_KeyPair[ed25519.Ed25519PrivateKey, ed25519.Ed25519PublicKey]):
    """EdDSA on Curve25519 (no Ed448). The material is PEM."""

    def __init__(self, pem: bytes) -> None:
        private, public = _load_key_pair(pem)
        if not isinstance(public, ed25519.Ed25519PublicKey) or not isinstance(
            private, ed25519.Ed25519PrivateKey | None
        ):
            raise ValueError("the PEM is no Ed25519 key")  # noqa: TRY004 - see _Rsa
        super().__init__(private, public)

    @property
    def thumbprint(self) -> str:
        raw = encode(self._public.public_bytes_raw()).decode()
        return _thumbprint({"crv": "Ed25519", "kty": "OKP", "x": raw})

    def sign(self, signing_input: bytes) -> bytes:
        return encode(self._require_private_key().sign(signing_input))

    def verify(self, signing_input: bytes, signature: bytes) -> bool:
        try:
            self._public.verify(decode_canonical(signature), signing_input)
        except (InvalidSignature, ValueError):
            return False
        return True


def generate_pem(algorithm: str) -> bytes:
    """Return a new private key (PKCS #8, not encrypted) for RS256, PS256 or EdDSA."""
    key = (
        ed25519.Ed25519PrivateKey.generate()
        if algorithm == "EdDSA"
        else rsa.generate_private_key(_EXPONENT, _GENERATED_RSA_BITS)
    )
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _load_key_pair(pem: bytes) -> tuple[object | None, object]:
    """Return (private key or None, public key). Raises ValueError, whose text contains nothing of the key."""
    if b"ENCRYPTED" in pem:
        raise ValueError(
            "the PEM is encrypted, and no passphrase is asked for: store it plain, readable for one user alone"
        )
    try:
        if b"PRIVATE KEY-----" not in pem:
            return None, load_pem_public_key(pem)
        private = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("it is no key in PEM (-----BEGIN PUBLIC KEY----- or -----BEGIN PRIVATE KEY-----)") from None
    return private, private.public_key()


def _thumbprint(required_members: dict[str, str]) -> str:
    """Return the JWK thumbprint (RFC 7638, section 3). The members must be in alphabetical order."""
    return encode(hashlib.sha256(orjson.dumps(required_members)).digest()).decode()


def _base64url_uint(number: int) -> str:
    return encode(number.to_bytes((number.bit_length() + 7) // 8, "big")).decode()
