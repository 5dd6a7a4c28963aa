"""Attacks on signatures and encryption with tokens of other forms, with moved parts and with other keys."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorsync.config import Settings
from sensorsync.messages.envelope import Encrypter, EnvelopeDecoder, Key, Signer, envelope_encoder
from sensorsync.messages.reading import Rejected
from sensorsync.pipeline.contract import Delivery, Reading
from sensorsync.wiring import message_decoder
from tests.bad_input import GOOD
from tests.unit.messages.envelope.samples import MESSAGE, PAIRS, SIGNATURES, b64, head, key, public, refusal

SIGNER = key("HS256")
CONTENT = key("A256GCM", "2026-e")
READING = json.dumps(GOOD).encode()


def parts(token: bytes) -> list[str]:
    return [part.decode() for part in token.split(b".")]


def flattened() -> bytes:
    protected, payload, signature = parts(Signer(SIGNER).sign(READING))
    return json.dumps({"protected": protected, "payload": payload, "signature": signature}).encode()


def general() -> bytes:
    protected, payload, signature = parts(Signer(SIGNER).sign(READING))
    return json.dumps({"payload": payload, "signatures": [{"protected": protected, "signature": signature}]}).encode()


def unprotected() -> bytes:
    """`alg` where no signature covers it (RFC 7515, section 7.2), and the members of a reading beside it."""
    _, payload, signature = parts(Signer(SIGNER).sign(READING))
    return json.dumps({**GOOD, "header": {"alg": "none"}, "payload": payload, "signature": signature}).encode()


def encrypted_json() -> bytes:
    protected, _, iv, ciphertext, tag = parts(Encrypter(CONTENT).encrypt(READING))
    return json.dumps({"protected": protected, "iv": iv, "ciphertext": ciphertext, "tag": tag}).encode()


# -- the other serializations ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [flattened, general, unprotected, encrypted_json])
def test_only_the_compact_serialization_is_a_signed_or_encrypted_message(form: Callable[[], bytes]) -> None:
    token = form()
    assert "not signed" in refusal(token, SIGNER, CONTENT, signatures="required")
    assert "not encrypted" in refusal(token, SIGNER, CONTENT, reason="encryption", encryption="required")
    assert "not signed" in refusal(Encrypter(CONTENT).encrypt(token), SIGNER, CONTENT, signatures="required")


@pytest.mark.parametrize("before", [b" ", b"\n", b"\t", b"\xef\xbb\xbf", b"\x00", b".", b"=", b'"'])
@pytest.mark.parametrize("after", [b"", b"\n", b"=", b"\x00"])
def test_nothing_may_stand_around_a_token(before: bytes, after: bytes) -> None:
    for token in (Signer(SIGNER).sign(MESSAGE), Encrypter(CONTENT).encrypt(Signer(SIGNER).sign(MESSAGE))):
        for around in (before + token + after, token + (after or before)):
            opened = EnvelopeDecoder([SIGNER, CONTENT], signatures="required").verify_and_decrypt(around)
            assert isinstance(opened, Rejected), around


@pytest.mark.parametrize(
    "alg", ["none", "None", "NONE", "nOnE", "", " none", "HS256 ", "hs256", 0, None, [], {}, ["HS256"], True]
)
@pytest.mark.parametrize("signed", [True, False])
def test_no_spelling_of_none_is_an_algorithm(alg: object, signed: bool) -> None:
    signing_input = head(alg=alg, kid=SIGNER.id) + b"." + b64(MESSAGE)
    signature = SIGNER.signature.sign(signing_input) if signed else b""
    assert "but the key is for HS256" in refusal(signing_input + b"." + signature, SIGNER)


def test_an_unencoded_payload_is_refused() -> None:
    """RFC 7797 requires `crit`. Without it, `b64` has no effect and the payload is base64url."""
    critical = head(alg="HS256", kid=SIGNER.id, b64=False, crit=["b64"]) + b"." + b64(MESSAGE)
    assert "critical" in refusal(critical + b"." + SIGNER.signature.sign(critical), SIGNER)
    silent = head(alg="HS256", kid=SIGNER.id, b64=False) + b"." + b64(MESSAGE)
    assert EnvelopeDecoder([SIGNER]).verify_and_decrypt(silent + b"." + SIGNER.signature.sign(silent)) == MESSAGE


# -- one token's parts in another ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", SIGNATURES)
def test_head_payload_and_signature_of_two_tokens_are_never_one_token(algorithm: str) -> None:
    one, other = key(algorithm), key(algorithm, "2026-b")
    first = Signer(one).sign(MESSAGE).split(b".")
    second = Signer(other).sign(MESSAGE.replace(b"21.5", b"99.5")).split(b".")
    envelope = EnvelopeDecoder([one, other], signatures="required")
    for choice in range(1, 7):
        mixed = b".".join((second if choice >> place & 1 else first)[place] for place in range(3))
        assert isinstance(envelope.verify_and_decrypt(mixed), Rejected), choice


def test_the_parts_of_two_encrypted_messages_are_never_one_message() -> None:
    first, second = (Encrypter(CONTENT).encrypt(message).split(b".") for message in (MESSAGE, MESSAGE[::-1]))
    envelope = EnvelopeDecoder([CONTENT])
    for choice in range(1, 7):
        tail = [(second if choice >> place & 1 else first)[place + 2] for place in range(3)]
        assert isinstance(envelope.verify_and_decrypt(b".".join([*first[:2], *tail])), Rejected), choice


def test_a_signed_head_before_an_encrypted_body_is_not_a_message_and_the_other_way_round() -> None:
    signed, encrypted = Signer(SIGNER).sign(MESSAGE).split(b"."), Encrypter(CONTENT).encrypt(MESSAGE).split(b".")
    envelope = EnvelopeDecoder([SIGNER, CONTENT], signatures="required")
    for whole in (signed, encrypted):
        envelope.verify_and_decrypt(b".".join(whole))  # both headers are now in the cache of valid headers
    assert isinstance(envelope.verify_and_decrypt(b".".join([signed[0], *encrypted[1:]])), Rejected)
    assert isinstance(envelope.verify_and_decrypt(b".".join([encrypted[0], *signed[1:]])), Rejected)


# -- keys of another use -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", PAIRS)
def test_the_public_key_of_a_pair_signs_nothing(algorithm: str) -> None:
    """The public key, in every form that an attacker may have, is used as a shared secret under the pair's own name."""
    half = public(key(algorithm))
    pem = half.material
    body = b"".join(pem.splitlines()[1:-1])
    for material in (
        pem,
        pem + b"\n",
        pem.replace(b"\n", b"\r\n"),
        body,
        (half.fingerprint and half.fingerprint.encode()) or b"x",
    ):
        for alg in ("HS256", algorithm):
            signing_input = head(alg=alg, kid=half.id) + b"." + b64(MESSAGE)
            token = signing_input + b"." + b64(hmac.digest(material, signing_input, "sha256"))
            assert isinstance(EnvelopeDecoder([half], signatures="required").verify_and_decrypt(token), Rejected)


@pytest.mark.parametrize("before", [b"", b"\n\n", b"\xef\xbb\xbf", b"Bag Attributes\n    friendlyName: device\n"])
@pytest.mark.parametrize("kind", ["public", "private"])
def test_a_pem_is_not_a_shared_secret_with_any_text_before_it(before: bytes, kind: str) -> None:
    whole = key("EdDSA")
    pem = whole.material if kind == "private" else public(whole).material
    with pytest.raises(ValueError, match="PEM is no secret"):
        Key("a", before + pem, "HS256")


def test_an_encryption_key_does_not_replace_a_signature() -> None:
    """A sender who can encrypt can write any content. With `signatures: required` that is not enough."""
    inside = head(alg="HS256", kid=CONTENT.id) + b"." + b64(READING)
    forged = inside + b"." + b64(hmac.digest(CONTENT.material, inside, "sha256"))
    for content in (READING, forged, Encrypter(CONTENT).encrypt(READING)):
        token = Encrypter(CONTENT).encrypt(content)
        assert isinstance(EnvelopeDecoder([SIGNER, CONTENT], signatures="required").verify_and_decrypt(token), Rejected)
        assert isinstance(
            EnvelopeDecoder([public(key("EdDSA")), CONTENT], signatures="required").verify_and_decrypt(token), Rejected
        )


def test_two_envelopes_of_one_kind_are_refused() -> None:
    twice = Signer(SIGNER).sign(Signer(SIGNER).sign(READING))
    settings = Settings.model_validate(
        {"security": {"signatures": "required", "keys": [{"id": SIGNER.id, "secret": SIGNER.material.decode()}]}}
    )
    decode = message_decoder(settings)
    assert isinstance(decode(Delivery("t", Signer(SIGNER).sign(READING), 1, 0.0, None)), Reading)
    outcome = decode(Delivery("t", twice, 1, 0.0, None))
    assert isinstance(outcome, Rejected)
    assert outcome.reason == "json"


# -- bombs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        b"." * 500_000,
        b"e" + b"." * 2,
        b"e" * 500_000,
        b"e." * 250_000,
        b"eyJ" + b"A" * 400_000 + b"..",
        b64(b"[" * 3000) + b".x.x",
        b64(b'{"kid":' + b"9" * 3000 + b"}") + b".x.x",
        b64(b'{"kid":"' + b"\\ud800" * 400 + b'"}') + b".x.x",
        b64(b'{"a":1,' * 400 + b'"kid":1}') + b".x.x",
        b64(b'{"alg":"HS256","kid":1e999}') + b".x.x",
        head(alg="dir", enc="A256GCM", kid=CONTENT.id) + b"." * 4,
        head(alg="PBES2-HS256+A128KW", enc="A256GCM", kid=CONTENT.id, p2c=2**31, p2s="x") + b".x.x.x.x",
        head(alg="HS256", kid="x" * 3000) + b".x.x",
    ],
    ids=range(13),
)
def test_no_token_is_expensive_to_refuse(raw: bytes) -> None:
    refused = EnvelopeDecoder([SIGNER, CONTENT], signatures="required").verify_and_decrypt(raw)
    assert isinstance(refused, Rejected)
    assert len(refused.message) < 1000


@given(
    st.lists(
        st.sampled_from(
            [b"", b"x", head(alg="HS256", kid=SIGNER.id), b64(READING), head(alg="dir", enc="A256GCM", kid=CONTENT.id)]
        ),
        min_size=1,
        max_size=7,
    )
)
def test_no_arrangement_of_right_parts_without_a_key_is_a_message(pieces: list[bytes]) -> None:
    raw = b".".join(pieces)
    assert isinstance(EnvelopeDecoder([SIGNER, CONTENT], signatures="required").verify_and_decrypt(raw), Rejected)
    assert isinstance(EnvelopeDecoder([SIGNER, CONTENT], encryption="required").verify_and_decrypt(raw), Rejected)


def test_the_longest_chain_of_envelopes_ends_after_two() -> None:
    encode_message = envelope_encoder(SIGNER, CONTENT)
    assert encode_message is not None
    message = READING
    for _ in range(5):
        message = encode_message(message)
    assert (
        EnvelopeDecoder([SIGNER, CONTENT], signatures="required", encryption="required").verify_and_decrypt(message)
        != READING
    )
