"""joserfc, another implementation, decodes our messages, and the other way round."""

from __future__ import annotations

from typing import Any

import pytest
from joserfc import jwe, jws
from joserfc.jwk import OctKey, OKPKey, RSAKey

from sensorsync.messages.envelope import Encrypter, EnvelopeDecoder, Key, Signer, envelope_encoder
from tests.unit.messages.envelope.samples import MESSAGE, PAIRS, SIGNATURES, key, public

# Our name for it is the one that more libraries know. Both are accepted.
pytestmark = pytest.mark.filterwarnings("ignore:EdDSA is deprecated via RFC 9864")

KINDS: dict[str, Any] = {"HS256": OctKey, "RS256": RSAKey, "PS256": RSAKey, "EdDSA": OKPKey}
DIRECT = {"alg": "dir", "enc": "A256GCM", "kid": "2026-e"}


def theirs(ours: Key) -> Any:
    return KINDS[ours.algorithm].import_key(ours.material)


def their_secret() -> OctKey:
    return OctKey.import_key({"kty": "oct", "k": key("A256GCM", "2026-e").material.decode()})


@pytest.mark.parametrize("algorithm", SIGNATURES)
def test_joserfc_verifies_what_we_sign(algorithm: str) -> None:
    ours = key(algorithm)
    found = jws.deserialize_compact(Signer(ours).sign(MESSAGE), theirs(ours), algorithms=[algorithm])
    assert found.payload == MESSAGE
    assert found.headers() == {"alg": algorithm, "kid": "2026-a"}


@pytest.mark.parametrize("algorithm", SIGNATURES)
def test_we_verify_what_joserfc_signs(algorithm: str) -> None:
    ours = key(algorithm)
    header = {"alg": algorithm, "kid": "2026-a", "typ": "JOSE"}
    token = jws.serialize_compact(header, MESSAGE, theirs(ours), algorithms=[algorithm]).encode()
    for half in (ours, public(ours)) if algorithm in PAIRS else (ours,):
        assert EnvelopeDecoder([half], signatures="required").verify_and_decrypt(token) == MESSAGE


def test_we_verify_ed25519_by_its_newer_name_too() -> None:
    token = jws.serialize_compact({"alg": "Ed25519", "kid": "2026-a"}, MESSAGE, theirs(key("EdDSA")), ["Ed25519"])
    assert EnvelopeDecoder([public(key("EdDSA"))], signatures="required").verify_and_decrypt(token.encode()) == MESSAGE


def test_joserfc_decrypts_what_we_encrypt() -> None:
    found = jwe.decrypt_compact(Encrypter(key("A256GCM", "2026-e")).encrypt(MESSAGE), their_secret())
    assert found.plaintext == MESSAGE
    assert found.headers() == DIRECT


def test_we_decrypt_what_joserfc_encrypts() -> None:
    token = jwe.encrypt_compact(DIRECT, MESSAGE, their_secret()).encode()
    assert EnvelopeDecoder([key("A256GCM", "2026-e")], encryption="required").verify_and_decrypt(token) == MESSAGE


@pytest.mark.parametrize("algorithm", SIGNATURES)
def test_a_signed_message_inside_of_an_encrypted_one_goes_both_ways(algorithm: str) -> None:
    ours, secret = key(algorithm), key("A256GCM", "2026-e")
    inner = jws.serialize_compact({"alg": algorithm, "kid": "2026-a"}, MESSAGE, theirs(ours), algorithms=[algorithm])
    outer = jwe.encrypt_compact({**DIRECT, "cty": "JOSE"}, inner.encode(), their_secret()).encode()
    assert (
        EnvelopeDecoder([ours, secret], signatures="required", encryption="required").verify_and_decrypt(outer)
        == MESSAGE
    )

    encode_message = envelope_encoder(ours, secret)
    assert encode_message is not None
    content = jwe.decrypt_compact(encode_message(MESSAGE), their_secret()).plaintext
    assert content is not None
    assert jws.deserialize_compact(content, theirs(ours), algorithms=[algorithm]).payload == MESSAGE


@pytest.mark.parametrize("algorithm", PAIRS)
def test_the_fingerprint_of_a_pair_is_its_jwk_thumbprint(algorithm: str) -> None:
    ours = key(algorithm)
    assert ours.fingerprint == theirs(ours).thumbprint() == public(ours).fingerprint
