"""Signatures with pairs of keys: only right ones are verified. HS256 and the policies are in test_envelope.py."""

from __future__ import annotations

import hmac
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorsync.messages.envelope import EnvelopeDecoder, Key, Signer
from sensorsync.messages.reading import Rejected
from tests.unit.messages.envelope.samples import MESSAGE, PAIRS, SIGNATURES, b64, head, key, public, refusal

LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@pytest.mark.parametrize("algorithm", PAIRS)
def test_a_public_key_verifies_and_does_not_sign(algorithm: str) -> None:
    whole = key(algorithm)
    half = public(whole)
    assert EnvelopeDecoder([half], signatures="required").verify_and_decrypt(Signer(whole).sign(MESSAGE)) == MESSAGE
    with pytest.raises(ValueError, match="signs nothing"):
        Signer(half)
    with pytest.raises(ValueError, match="does not sign"):
        half.signature.sign(b"x")


@pytest.mark.parametrize("dots", [2, 4])
def test_a_text_without_base64url_before_its_first_dot_is_not_a_token(dots: int) -> None:
    line = b"energy,site=roof " + b",".join(b"v%d=1.5" % number for number in range(dots))
    for envelope in (EnvelopeDecoder(), EnvelopeDecoder([key("HS256")]), EnvelopeDecoder(signatures="off")):
        assert envelope.verify_and_decrypt(line) == line
    found = EnvelopeDecoder([key("HS256")], signatures="required").verify_and_decrypt(line)
    assert isinstance(found, Rejected)
    assert found.reason == "signature"


def test_keys_of_all_algorithms_work_side_by_side() -> None:
    keys = [key(algorithm, f"key-{algorithm}") for algorithm in SIGNATURES]
    envelope = EnvelopeDecoder([*keys, key("A256GCM", "content")], signatures="required")
    for _ in range(2):
        for one in keys:
            assert envelope.verify_and_decrypt(Signer(one).sign(MESSAGE)) == MESSAGE


def test_a_rotation_takes_the_old_key_and_the_new_one() -> None:
    old, new = key("EdDSA", "2025"), key("EdDSA", "2026")
    both = EnvelopeDecoder([public(old), public(new)], signatures="required")
    assert (
        both.verify_and_decrypt(Signer(old).sign(MESSAGE))
        == both.verify_and_decrypt(Signer(new).sign(MESSAGE))
        == MESSAGE
    )
    assert "'2025' is not configured" in refusal(Signer(old).sign(MESSAGE), public(new))


@pytest.mark.parametrize("algorithm", PAIRS)
def test_every_kind_of_damage_to_a_signature_is_refused(algorithm: str) -> None:
    whole = Signer(key(algorithm)).sign(MESSAGE)
    envelope = EnvelopeDecoder([public(key(algorithm))], signatures="required")
    start = whole.rindex(b".") + 1
    for index in (0, 5, start - 2, start - 1, start, start + 7, len(whole) - 1):
        for bit in range(8):
            broken = bytearray(whole)
            broken[index] ^= 1 << bit
            assert isinstance(envelope.verify_and_decrypt(bytes(broken)), Rejected), (index, bit)
    for length in (0, 1, 21, len(whole) - start - 1):
        assert isinstance(envelope.verify_and_decrypt(whole[: start + length]), Rejected)
    for junk in (b"=", b"A", b"\n", b"."):
        assert isinstance(envelope.verify_and_decrypt(whole + junk), Rejected)


@pytest.mark.parametrize("algorithm", PAIRS)
def test_a_signature_has_one_spelling_only(algorithm: str) -> None:
    whole = Signer(key(algorithm)).sign(MESSAGE)
    envelope = EnvelopeDecoder([key(algorithm)], signatures="required")
    accepted = [letter for letter in LETTERS if envelope.verify_and_decrypt(whole[:-1] + bytes([letter])) == MESSAGE]
    assert accepted == [whole[-1]]


@pytest.mark.parametrize("algorithm", PAIRS)
def test_a_public_key_is_not_a_secret_for_hs256(algorithm: str) -> None:
    """The confusion of RS256 and HS256: an attacker knows the public key, and signs with it as if it were a shared secret."""
    half = public(key(algorithm))
    with pytest.raises(ValueError, match="PEM is no secret"):
        Key("2026-a", half.material, "HS256")
    for material in (half.material, half.material.rstrip(), b64(half.material)):
        forged = head(alg="HS256", kid="2026-a") + b"." + b64(MESSAGE)
        token = forged + b"." + b64(hmac.digest(material, forged, "sha256"))
        assert f"the key is for {algorithm}" in refusal(token, half)


@pytest.mark.parametrize("algorithm", SIGNATURES)
@pytest.mark.parametrize("claimed", ["none", "HS256", "RS256", "PS256", "EdDSA", "ES256", "dir", "", None])
def test_no_header_makes_a_key_use_another_algorithm(algorithm: str, claimed: str | None) -> None:
    if claimed == algorithm:
        return
    signing_input = head(alg=claimed, kid="2026-a") + b"." + b64(MESSAGE)
    for signature in (key(algorithm).signature.sign(signing_input), b""):
        assert "but the key is for" in refusal(signing_input + b"." + signature, key(algorithm))


def test_rs256_and_ps256_do_not_take_each_others_signatures() -> None:
    pem = key("RS256").material
    plain, salted = Key("k", pem, "RS256"), Key("k", pem, "PS256")
    for signer, verifier in ((plain, salted), (salted, plain)):
        signing_input = head(alg=verifier.algorithm, kid="k") + b"." + b64(MESSAGE)
        token = signing_input + b"." + signer.signature.sign(signing_input)
        assert refusal(token, verifier) == "the signature is wrong"


def test_a_key_that_the_token_brings_along_is_not_used() -> None:
    attacker = key("EdDSA", "attacker")
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
    members = {"alg": "EdDSA", "kid": "2026-a", "jwk": jwk, "jku": "https://x.example/keys", "x5u": "https://x.example"}
    signing_input = head(**members) + b"." + b64(MESSAGE)
    token = signing_input + b"." + attacker.signature.sign(signing_input)
    assert refusal(token, public(key("EdDSA"))) == "the signature is wrong"


@pytest.mark.parametrize(
    "text",
    [
        '{"alg":"HS256","kid":"a","kid":"2026-a"}',
        '{"alg":"HS256","kid":"2026-a","kid":"2026-a"}',
        '{"alg":"none","alg":"HS256","kid":"2026-a"}',
        '{"alg":"HS256","kid":"2026-a","x":{"y":1,"y":2}}',
        '{"alg":"HS256","kid":"2026-a","x":NaN}',
    ],
)
def test_a_header_that_two_programs_could_read_in_two_ways_is_refused(text: str) -> None:
    signing_input = b64(text.encode()) + b"." + b64(MESSAGE)
    token = signing_input + b"." + key("HS256").signature.sign(signing_input)
    assert "unique names" in refusal(token, key("HS256"))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_a_header_in_another_encoding_is_refused(encoding: str) -> None:
    signing_input = b64(json.dumps({"alg": "HS256", "kid": "2026-a"}).encode(encoding)) + b"." + b64(MESSAGE)
    token = signing_input + b"." + key("HS256").signature.sign(signing_input)
    assert isinstance(EnvelopeDecoder([key("HS256")], signatures="required").verify_and_decrypt(token), Rejected)


def test_a_deeply_nested_header_is_refused_and_breaks_nothing() -> None:
    deep = b'{"alg":"HS256","kid":"2026-a","x":' + b"[" * 1400 + b"]" * 1400 + b"}"
    assert "not base64url of JSON" in refusal(b64(deep) + b"." + b64(MESSAGE) + b".x", key("HS256"))


def test_a_compressed_signed_message_is_refused() -> None:
    signing_input = head(alg="HS256", kid="2026-a", zip="DEF") + b"." + b64(MESSAGE)
    token = signing_input + b"." + key("HS256").signature.sign(signing_input)
    assert "compressed" in refusal(token, key("HS256"))


def test_a_huge_signed_message_is_refused_before_it_is_read() -> None:
    token = Signer(key("HS256")).sign(b"x" * 500_000)
    assert "at most" in refusal(token, key("HS256"), reason="too_large")


@settings(max_examples=30)
@given(st.binary(max_size=300))
def test_any_payload_comes_back_as_it_was(message: bytes) -> None:
    for algorithm in ("EdDSA", "PS256"):
        assert (
            EnvelopeDecoder([key(algorithm)], signatures="required").verify_and_decrypt(
                Signer(key(algorithm)).sign(message)
            )
            == message
        )
