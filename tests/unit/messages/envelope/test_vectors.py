"""The examples of the RFCs themselves (7515, 7516, 7520, 8037), in vectors.json."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import OctKey, OKPKey, RSAKey

from sensorsync.messages.envelope import EnvelopeDecoder, Key
from sensorsync.messages.envelope.content import A256Gcm
from sensorsync.messages.reading import Rejected
from tests.unit.messages.envelope.samples import key

VECTORS = json.loads((Path(__file__).parent / "vectors.json").read_text(encoding="utf-8"))
KINDS: dict[str, Any] = {"oct": OctKey, "RSA": RSAKey, "OKP": OKPKey}


def source(vector: Any) -> str:
    return str(vector["source"])


def decoded(text: str) -> bytes:
    return urlsafe_b64decode(text + "==")


def materials(jwk: dict[str, str]) -> list[bytes]:
    """Return the secret, or the halves of the pair as PEM, the private one first."""
    if jwk["kty"] == "oct":
        return [decoded(jwk["k"])]
    whole = KINDS[jwk["kty"]].import_key(jwk)
    return [whole.as_pem(private=private) for private in ((True, False) if "d" in jwk else (False,))]


@pytest.mark.parametrize("vector", VECTORS["signatures"], ids=source)
def test_a_signature_of_the_rfcs_is_verified(vector: Any) -> None:
    for material in materials(vector["jwk"]):
        bound = Key(vector["jwk"].get("kid", "any"), material, vector["algorithm"])
        assert (
            EnvelopeDecoder([bound], signatures="required").verify_and_decrypt(vector["token"].encode())
            == vector["payload"].encode()
        )


@pytest.mark.parametrize("vector", VECTORS["signatures"], ids=source)
def test_a_key_of_the_rfcs_signs_the_same_again(vector: Any) -> None:
    signing_input, _, text = vector["token"].encode().rpartition(b".")
    whole = Key("k", materials(vector["jwk"])[0], vector["algorithm"])
    if not whole.is_private:
        return  # vectors.json has only its public half
    signed = whole.signature.sign(signing_input)
    assert whole.signature.verify(signing_input, signed)
    if vector["algorithm"] != "PS256":  # which has a random salt
        assert signed == text


@pytest.mark.parametrize("vector", VECTORS["contents"], ids=source)
def test_contents_that_the_rfcs_encrypted_with_a256gcm_are_decrypted(vector: Any) -> None:
    cipher = A256Gcm(vector["cek"].encode())
    vec, ciphertext, tag = (decoded(vector[name]) for name in ("vector", "ciphertext", "tag"))
    header = vector["header"].encode()
    assert cipher.decrypt(vec, ciphertext, tag, header) == vector["plaintext"].encode()
    assert cipher.decrypt(vec, ciphertext, tag, header + b"A") is None


@pytest.mark.parametrize("vector", VECTORS["others"], ids=source)
def test_other_algorithms_of_the_rfcs_are_refused(vector: Any) -> None:
    keys = [key("A256GCM", vector["kid"]), key("PS256")]
    assert isinstance(EnvelopeDecoder(keys).verify_and_decrypt(vector["token"].encode()), Rejected)
