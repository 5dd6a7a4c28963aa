"""Keys. Each has an id, its material, and the only algorithm that it is for."""

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
    """A key for one algorithm, and therefore for one use.

    `material` is the secret itself (HS256), the base64 text of 32 bytes (A256GCM), or a private or public key in PEM (RS256, PS256,
    EdDSA). Raises ValueError when the algorithm is unknown or the material is not for it. Its text contains nothing of the key.
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
        """Kind of messages that the key is for."""
        return "signature" if self.algorithm in SIGNATURES else "encryption"

    @property
    def is_private(self) -> bool:
        """True when the key can make messages. A public key only verifies them."""
        return self._ready.is_private

    @property
    def public_pem(self) -> str | None:
        """Public half of the key in PEM. None when it has none."""
        return self._ready.public_pem

    @property
    def fingerprint(self) -> str | None:
        """Short name that is equal for equal keys. None for a weak secret, which could be guessed with it.

        For a public key it is the thumbprint of RFC 7638. For a secret it is a name of our own.
        """
        if self._ready.thumbprint is not None or self.weakness is not None:
            return self._ready.thumbprint
        return secret_fingerprint(self.algorithm, self.material)

    @property
    def weakness(self) -> str | None:
        """Reason why the key is weaker than its algorithm, in a sentence. None when it is not."""
        words = key_weakness(self.algorithm, self.material)
        return words and f"key {self.id!r} {words}"

    @property
    def material_identity(self) -> object:
        """Value that is equal for two keys of the same material. It is also equal for both halves of a pair."""
        return self._ready.thumbprint or self.material

    @property
    def signature(self) -> Signature:
        """Signature algorithm with this key. Raises ValueError when the key is for encryption."""
        if self.use != "signature":
            raise ValueError(f"key {self.id!r} is for {self.algorithm}, not for signatures")
        return self._ready  # type: ignore[return-value]  # the table of its algorithm ensures the type

    @property
    def encryption(self) -> ContentEncryption:
        """Encryption algorithm with this key. Raises ValueError when the key is for signatures."""
        if self.use != "encryption":
            raise ValueError(f"key {self.id!r} is for {self.algorithm}, not for encryption")
        return self._ready  # type: ignore[return-value]  # the table of its algorithm ensures the type


def key_ring(keys: Iterable[Key]) -> dict[str, Key]:
    """Return the keys by id. Raises ValueError when two keys have the same id, or the same material for two algorithms."""
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
    """Return a new key with both halves. Raises ValueError for an unknown algorithm."""
    symmetric = algorithm not in {"RS256", "PS256", "EdDSA"}
    return Key(key_id, generate_base64_key() if symmetric else generate_pem(algorithm), algorithm)
