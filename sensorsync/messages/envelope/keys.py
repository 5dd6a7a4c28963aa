"""Keys: an id, the material, and the one algorithm that it is for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from sensorsync.messages.envelope.algorithms import (
    ALGORITHMS,
    ENCRYPTIONS,
    SIGNATURES,
    ContentEncryption,
    Signature,
    key_weakness,
    secret_fingerprint,
)
from sensorsync.messages.envelope.asymmetric import generate_pem
from sensorsync.messages.envelope.content import generate_base64_key


@dataclass(frozen=True, slots=True)
class Key:
    """A key and the one algorithm, so the one use, that it is for.

    `material`: the secret itself (HS256), the base64 text of 32 bytes (A256GCM), a private or a public key in PEM (RS256, PS256,
    EdDSA). Raises ValueError when the algorithm is unknown or the material is not for it; its text holds nothing of the key.
    """

    id: str
    material: bytes = field(repr=False)
    algorithm: str = "HS256"
    _ready: Signature | ContentEncryption = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        make = SIGNATURES.get(self.algorithm) or ENCRYPTIONS.get(self.algorithm)
        if make is None:
            raise ValueError(f"algorithm {self.algorithm!r} of key {self.id!r} is not one of {', '.join(ALGORITHMS)}")
        if not self.material:
            raise ValueError(f"the secret of key {self.id!r} is empty")
        try:
            object.__setattr__(self, "_ready", make(self.material))
        except ValueError as error:
            raise ValueError(f"key {self.id!r} is not for {self.algorithm}: {error}") from None

    @property
    def use(self) -> Literal["signature", "encryption"]:
        """What messages it is for."""
        return "signature" if self.algorithm in SIGNATURES else "encryption"

    @property
    def is_private(self) -> bool:
        """Whether it makes messages; a public key only verifies them."""
        return self._ready.is_private

    @property
    def public_pem(self) -> str | None:
        """Its public half; None when it has none."""
        return self._ready.public_pem

    @property
    def fingerprint(self) -> str | None:
        """Who has the same one has the same key: RFC 7638 for public keys, a name of our own for secrets; None for a weak one,
        which could be guessed by it.
        """
        if self._ready.thumbprint is not None or self.weakness is not None:
            return self._ready.thumbprint
        return secret_fingerprint(self.algorithm, self.material)

    @property
    def weakness(self) -> str | None:
        """Why the key is weaker than its algorithm, in a sentence; None when it is not."""
        words = key_weakness(self.algorithm, self.material)
        return words and f"key {self.id!r} {words}"

    @property
    def material_identity(self) -> object:
        """Equal for two keys of the same material, both halves of a pair included."""
        return self._ready.thumbprint or self.material

    @property
    def signature(self) -> Signature:
        """The algorithm with this key in it. Raises ValueError when the key is for encryption."""
        if self.use != "signature":
            raise ValueError(f"key {self.id!r} is for {self.algorithm}, not for signatures")
        return self._ready  # type: ignore[return-value]  # by its algorithm's table

    @property
    def encryption(self) -> ContentEncryption:
        """The algorithm with this key in it. Raises ValueError when the key is for signatures."""
        if self.use != "encryption":
            raise ValueError(f"key {self.id!r} is for {self.algorithm}, not for encryption")
        return self._ready  # type: ignore[return-value]  # by its algorithm's table


def key_ring(keys: Iterable[Key]) -> dict[str, Key]:
    """The keys by id. Raises ValueError when two have one id, or when one material is for two algorithms."""
    ring: dict[str, Key] = {}
    known: dict[object, Key] = {}
    for key in keys:
        if key.id in ring:
            raise ValueError(f"two keys have the id {key.id!r}")
        twin = known.setdefault(key.material_identity, key)
        if twin.algorithm != key.algorithm:
            raise ValueError(
                f"keys {twin.id!r} ({twin.algorithm}) and {key.id!r} ({key.algorithm}) are the same key: a key is for one algorithm"
            )
        ring[key.id] = key
    return ring


def generate_key(key_id: str, algorithm: str) -> Key:
    """A new key with both halves. Raises ValueError for an unknown algorithm."""
    symmetric = algorithm not in {"RS256", "PS256", "EdDSA"}
    return Key(key_id, generate_base64_key() if symmetric else generate_pem(algorithm), algorithm)
