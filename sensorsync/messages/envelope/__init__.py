"""Signed and encrypted messages: JOSE in compact serialization, so that any device's library can make them.

JWS (RFC 7515) with HS256, RS256, PS256 and EdDSA (Ed25519), JWE (RFC 7516) with `dir` and A256GCM, and a JWS inside a JWE.

A key has an id (`kid`), one algorithm and, with that, one use. What a token's header says is only compared with its key and never
chooses anything, so neither `none` nor another algorithm can be talked into a key. The keys' own material never leaves this package:
not in a repr, not in an error.
"""

from sensorsync.messages.envelope.algorithms import ALGORITHMS, ENCRYPTIONS, SIGNATURES
from sensorsync.messages.envelope.keys import Key, generate_key, key_ring
from sensorsync.messages.envelope.sign_and_encrypt import Encrypter, Signer, envelope_encoder
from sensorsync.messages.envelope.verify_and_decrypt import (
    MAX_TOKEN,
    EncryptionPolicy,
    EnvelopeDecoder,
    SignaturePolicy,
)

__all__ = [
    "ALGORITHMS",
    "ENCRYPTIONS",
    "MAX_TOKEN",
    "SIGNATURES",
    "Encrypter",
    "EncryptionPolicy",
    "EnvelopeDecoder",
    "Key",
    "SignaturePolicy",
    "Signer",
    "envelope_encoder",
    "generate_key",
    "key_ring",
]
