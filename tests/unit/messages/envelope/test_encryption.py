"""Encrypted messages (JWE, `dir` with A256GCM), alone and around signed ones."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorsync.messages.envelope import (
    MAX_TOKEN,
    Encrypter,
    EnvelopeDecoder,
    Key,
    SignaturePolicy,
    Signer,
    envelope_encoder,
)
from sensorsync.messages.reading import Rejected
from tests.unit.messages.envelope.samples import MESSAGE, SIGNATURES, b64, head, key, public, refusal

SECRET = key("A256GCM", "2026-e")
SIGNER = key("EdDSA")
LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def encrypted(payload: bytes = MESSAGE, secret: Key = SECRET) -> bytes:
    return Encrypter(secret).encrypt(payload)


def token(payload: bytes = MESSAGE, *, encrypted_key: bytes = b"", **members: object) -> bytes:
    """Return a JWE with any header, whose other parts are right."""
    protected = head(**members)
    vector, ciphertext, tag = SECRET.encryption.encrypt(payload, protected)
    return b".".join((protected, encrypted_key, b64(vector), b64(ciphertext), b64(tag)))


def refused(raw: bytes, *keys: Key) -> str:
    return refusal(raw, *(keys or (SECRET,)), reason="encryption")


# -- right messages ----------------------------------------------------------------------------------------------------


@given(st.binary(max_size=300))
def test_an_encrypted_message_is_decrypted(message: bytes) -> None:
    opened = EnvelopeDecoder([SECRET], encryption="required").verify_and_decrypt(encrypted(message))
    assert opened == message or message.count(b".") == 2  # which may look like a signed message


def test_no_two_tokens_have_one_vector() -> None:
    tokens = [encrypted() for _ in range(1000)]
    assert len({raw.split(b".")[2] for raw in tokens}) == 1000


@pytest.mark.parametrize("algorithm", SIGNATURES)
def test_signed_inside_of_encrypted_is_verified_after_it_is_decrypted(algorithm: str) -> None:
    encode_message = envelope_encoder(key(algorithm), SECRET)
    assert encode_message is not None
    both = EnvelopeDecoder([key(algorithm), SECRET], signatures="required", encryption="required")
    for _ in range(2):
        assert both.verify_and_decrypt(encode_message(MESSAGE)) == MESSAGE


def test_a_rotation_takes_the_old_key_and_the_new_one() -> None:
    new = key("A256GCM", "2027-e")
    both = EnvelopeDecoder([SECRET, new], encryption="required")
    assert both.verify_and_decrypt(encrypted()) == both.verify_and_decrypt(encrypted(secret=new)) == MESSAGE
    assert "'2026-e' is not configured" in refused(encrypted(), new)


def test_a_token_without_kid_is_tried_with_the_only_key_for_encryption() -> None:
    raw = token(alg="dir", enc="A256GCM")
    assert EnvelopeDecoder([SIGNER, SECRET]).verify_and_decrypt(raw) == MESSAGE
    assert "names no key" in refused(raw, SECRET, key("A256GCM", "2027-e"))


def test_the_encoder_signs_and_encrypts_with_the_configured_keys() -> None:
    assert envelope_encoder(None, None) is None
    for signing, encryption, parts in ((SIGNER, None, 3), (None, SECRET, 5), (SIGNER, SECRET, 5)):
        encode_message = envelope_encoder(signing, encryption)
        assert encode_message is not None
        assert len(encode_message(MESSAGE).split(b".")) == parts
    with pytest.raises(ValueError, match="not for encryption"):
        envelope_encoder(None, SIGNER)
    with pytest.raises(ValueError, match="not for signatures"):
        envelope_encoder(SECRET, None)


# -- policies ----------------------------------------------------------------------------------------------------------


def test_required_refuses_unencrypted_messages() -> None:
    for plain in (MESSAGE, b"hello", b"", b"a.b.c", Signer(SIGNER).sign(MESSAGE)):
        assert "not encrypted" in refusal(plain, SECRET, SIGNER, reason="encryption", encryption="required")


def test_optional_accepts_all_messages_and_off_refuses_encrypted_ones() -> None:
    assert (
        EnvelopeDecoder([SECRET]).verify_and_decrypt(MESSAGE)
        == EnvelopeDecoder([SECRET]).verify_and_decrypt(encrypted())
        == MESSAGE
    )
    assert EnvelopeDecoder([SECRET], encryption="off").verify_and_decrypt(MESSAGE) == MESSAGE
    assert "encryption is off" in refusal(encrypted(), SECRET, reason="encryption", encryption="off")


def test_encryption_does_not_replace_a_signature() -> None:
    assert "not signed" in refusal(encrypted(), SECRET, SIGNER, signatures="required")


@pytest.mark.parametrize("signatures", ["required", "optional"])
def test_a_wrong_signature_inside_is_refused(signatures: SignaturePolicy) -> None:
    inner = Signer(key("EdDSA", "other")).sign(MESSAGE)
    assert "not configured" in refusal(encrypted(inner), SECRET, public(SIGNER), signatures=signatures)
    broken = Signer(SIGNER).sign(MESSAGE)[:-4] + b"AAAA"
    assert refusal(encrypted(broken), SECRET, public(SIGNER), signatures=signatures) == "the signature is wrong"


def test_signatures_off_decrypts_without_verifying() -> None:
    inner = Signer(SIGNER).sign(MESSAGE)
    assert EnvelopeDecoder([SECRET], signatures="off").verify_and_decrypt(encrypted(inner)) == MESSAGE


def test_encrypted_inside_of_encrypted_and_of_signed_is_not_a_message() -> None:
    twice = EnvelopeDecoder([SECRET]).verify_and_decrypt(encrypted(encrypted()))
    assert isinstance(twice, bytes)
    assert twice != MESSAGE  # the decoder refuses it, because it is not JSON
    assert "not signed" in refusal(encrypted(encrypted()), SECRET, SIGNER, signatures="required")
    inside_out = EnvelopeDecoder([SIGNER, SECRET], signatures="required").verify_and_decrypt(
        Signer(SIGNER).sign(encrypted())
    )
    assert inside_out != MESSAGE


# -- attacks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("enc", ["A128GCM", "A192GCM", "A256CBC-HS512", "a256gcm", "none", "", None, 5, ["A256GCM"]])
def test_a_wrong_enc_is_refused(enc: object) -> None:
    assert "but the key is for A256GCM" in refused(token(alg="dir", enc=enc, kid="2026-e"))


@pytest.mark.parametrize(
    "alg", ["none", "A256KW", "A256GCMKW", "RSA-OAEP", "ECDH-ES", "PBES2-HS256+A128KW", "HS256", None]
)
def test_a_wrong_alg_is_refused(alg: object) -> None:
    assert "but the key is for dir" in refused(token(alg=alg, enc="A256GCM", kid="2026-e", p2c=2**31))


def test_a_key_for_signatures_does_not_decrypt_and_the_other_way_round() -> None:
    secret = key("HS256", "shared")
    assert "not configured for this" in refused(token(alg="dir", enc="A256GCM", kid="shared"), secret, SECRET)
    signing_input = head(alg="HS256", kid="2026-e") + b"." + b64(MESSAGE)
    raw = signing_input + b"." + Key("x", SECRET.material).signature.sign(signing_input)
    assert "not configured for this" in refusal(raw, secret, SECRET)


def test_a_compressed_message_is_refused() -> None:
    bomb = zlib.compress(b"0" * 1_000_000)
    assert "compressed" in refused(token(bomb, alg="dir", enc="A256GCM", kid="2026-e", zip="DEF"))


@pytest.mark.parametrize("crit", [["exp"], ["zip"], [], None, 1])
def test_critical_extensions_are_refused(crit: object) -> None:
    assert "critical" in refused(token(alg="dir", enc="A256GCM", kid="2026-e", crit=crit))


def test_an_encrypted_key_is_refused() -> None:
    assert "encrypted key" in refused(token(alg="dir", enc="A256GCM", kid="2026-e", encrypted_key=b64(b"k" * 32)))


def test_two_kids_in_one_header_are_refused() -> None:
    protected = b64(b'{"alg":"dir","enc":"A256GCM","kid":"x","kid":"2026-e"}')
    vector, ciphertext, tag = SECRET.encryption.encrypt(MESSAGE, protected)
    assert "unique names" in refused(b".".join((protected, b"", b64(vector), b64(ciphertext), b64(tag))))


def test_a_huge_header_is_refused_before_it_is_read() -> None:
    assert "at most" in refused(token(alg="dir", enc="A256GCM", kid="2026-e", x="y" * 10_000))


def test_a_huge_ciphertext_is_refused_before_it_is_decoded() -> None:
    raw = encrypted(b"x" * (MAX_TOKEN * 3 // 4))
    assert len(raw) > MAX_TOKEN
    assert "at most" in refusal(raw, SECRET, reason="too_large")
    assert len(EnvelopeDecoder([SECRET]).verify_and_decrypt(encrypted(b"x" * 300_000))) == 300_000


def test_the_largest_reading_fits_signed_and_encrypted() -> None:
    encode_message = envelope_encoder(key("RS256"), SECRET)
    assert encode_message is not None
    largest = b"{" + b" " * (256 * 1024 - 2) + b"}"
    assert (
        EnvelopeDecoder([key("RS256"), SECRET], signatures="required").verify_and_decrypt(encode_message(largest))
        == largest
    )


def test_every_flipped_bit_is_refused() -> None:
    whole = encrypted()
    envelope = EnvelopeDecoder([SECRET], encryption="required")
    envelope.verify_and_decrypt(whole)
    for index in range(len(whole)):
        for bit in range(8):
            broken = bytearray(whole)
            broken[index] ^= 1 << bit
            assert isinstance(envelope.verify_and_decrypt(bytes(broken)), Rejected), (index, bit)


def test_every_shortened_token_is_refused() -> None:
    whole = encrypted()
    envelope = EnvelopeDecoder([SECRET], encryption="required")
    for length in range(len(whole)):
        assert isinstance(envelope.verify_and_decrypt(whole[:length]), Rejected)


@pytest.mark.parametrize("size", [0, 1, 4, 8, 12, 15])
def test_a_shortened_tag_is_refused(size: int) -> None:
    """GCM allows shorter tags, which are easier to guess."""
    head_, key_, vector, ciphertext, _ = encrypted().split(b".")
    _, _, tag = SECRET.encryption.encrypt(b"", head_)
    assert refused(b".".join((head_, key_, vector, ciphertext, b64(tag[:size]))))


@pytest.mark.parametrize("size", [0, 8, 11, 13, 16, 128])
def test_a_vector_of_another_size_is_refused(size: int) -> None:
    head_, key_, _, ciphertext, tag = encrypted().split(b".")
    assert "cannot be decrypted" in refused(b".".join((head_, key_, b64(b"v" * size), ciphertext, tag)))


def test_bytes_moved_from_the_tag_to_the_ciphertext_are_refused() -> None:
    head_ = head(alg="dir", enc="A256GCM", kid="2026-e")
    vector, ciphertext, tag = SECRET.encryption.encrypt(MESSAGE, head_)
    moved = b".".join((head_, b"", b64(vector), b64(ciphertext + tag[:4]), b64(tag[4:])))
    assert "cannot be decrypted" in refused(moved)


@pytest.mark.parametrize("part", [2, 3, 4])
def test_each_part_has_one_spelling_only(part: int) -> None:
    whole = encrypted(MESSAGE + b" ").split(b".")
    envelope = EnvelopeDecoder([SECRET])
    accepted = []
    for letter in LETTERS:
        parts = [*whole]
        parts[part] = parts[part][:-1] + bytes([letter])
        if not isinstance(envelope.verify_and_decrypt(b".".join(parts)), Rejected):
            accepted.append(letter)
    assert accepted == [whole[part][-1]]


@given(st.lists(st.binary(max_size=20).map(b64), min_size=5, max_size=5).map(b".".join), st.booleans())
def test_no_five_parts_make_it_raise(raw: bytes, right_header: bool) -> None:
    raw = head(alg="dir", enc="A256GCM", kid="2026-e") + raw[raw.index(b".") :] if right_header else raw
    assert isinstance(
        EnvelopeDecoder([SECRET], signatures="required", encryption="required").verify_and_decrypt(raw), Rejected
    )


def test_an_unreadable_message_is_refused_in_the_same_words_whatever_is_wrong_with_it() -> None:
    """There is no oracle: a wrong key, a changed text and a changed header give the same answer."""
    other = Key("2026-e", key("A256GCM", "another").material, "A256GCM")
    whole = encrypted()
    changed = whole[:-30] + (b"A" if whole[-30:-29] != b"A" else b"B") + whole[-29:]
    assert refused(whole, other) == refused(changed)
