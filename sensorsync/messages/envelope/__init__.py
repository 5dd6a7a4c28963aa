"""Signed and encrypted messages in the compact serialization of JOSE, which the JOSE library of any device can make.

The package supports JWS (RFC 7515) with HS256, RS256, PS256 and EdDSA (Ed25519), JWE (RFC 7516) with `dir` and A256GCM, and a JWS
inside a JWE.

A key has an id (`kid`), one algorithm and therefore one use. The algorithm in the header of a token is only compared with that of its
key and never selects one, so a token cannot use a key with `none` or with another algorithm. The material of a key never leaves this
package. It appears in no repr and in no error.
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
