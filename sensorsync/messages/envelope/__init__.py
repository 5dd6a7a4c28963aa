"""Signed and encrypted messages: JOSE in compact serialization, so that any device's library can make them.

JWS (RFC 7515) with HS256, RS256, PS256 and EdDSA (Ed25519), JWE (RFC 7516) with `dir` and A256GCM, and a JWS inside a JWE.

A key has an id (`kid`), one algorithm and, with that, one use. What a token's header says is only compared with its key and never
chooses anything, so neither `none` nor another algorithm can be talked into a key. The keys' own material never leaves this package:
not in a repr, not in an error.
"""

from sensorsync.messages.envelope.algorithms import ALGORITHMS, ENCRYPTIONS, SIGNATURES
from sensorsync.messages.envelope.keys import Key, generated, key_ring
from sensorsync.messages.envelope.opening import MAX_TOKEN, Encryption, Envelope, Signatures
from sensorsync.messages.envelope.sealing import Encrypter, Signer, sealing

__all__ = [
    "ALGORITHMS",
    "ENCRYPTIONS",
    "MAX_TOKEN",
    "SIGNATURES",
    "Encrypter",
    "Encryption",
    "Envelope",
    "Key",
    "Signatures",
    "Signer",
    "generated",
    "key_ring",
    "sealing",
]
