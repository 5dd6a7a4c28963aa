"""DESIGN: a key is for one algorithm; the content of a token is not trusted before its signature is verified."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import OctKey

from sensorsync.messages.envelope import EnvelopeDecoder, Key, SignaturePolicy, Signer
from sensorsync.messages.envelope.algorithms import Hs256
from sensorsync.messages.reading import Rejected

SECRET = b"a secret of 32 bytes, or of more."
KEY = Key("2026-a", SECRET)
OTHER = Key("2026-b", b"another secret of 32 bytes......")
MESSAGE = b'{"device_id":"boiler-7","value":21.5}'


def b64(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


def token(header: object, payload: bytes = MESSAGE, secret: bytes = SECRET) -> bytes:
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    signing_input = b64(head) + b"." + b64(payload)
    return signing_input + b"." + b64(hmac.digest(secret, signing_input, "sha256"))


def opened(raw: bytes, *keys: Key, signatures: SignaturePolicy = "required") -> bytes | Rejected:
    return EnvelopeDecoder(keys or (KEY,), signatures=signatures).verify_and_decrypt(raw)


def refusal(raw: bytes, *keys: Key, signatures: SignaturePolicy = "required") -> str:
    result = opened(raw, *keys, signatures=signatures)
    assert isinstance(result, Rejected), result
    assert result.reason == "signature"
    return result.message


# -- right signatures --------------------------------------------------------------------------------------------------


def test_a_signed_message_is_verified() -> None:
    assert opened(Signer(KEY).sign(MESSAGE)) == MESSAGE


def test_the_example_of_rfc_7515_appendix_a_1_is_verified() -> None:
    secret = urlsafe_b64decode(
        b"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow=="
    )
    example = (
        b"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9"
        b".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
        b".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    )
    expected = b'{"iss":"joe",\r\n "exp":1300819380,\r\n "http://example.com/is_root":true}'
    assert opened(example, Key("joe", secret)) == expected


def test_a_token_of_joserfc_is_verified() -> None:
    theirs = jws.serialize_compact({"alg": "HS256", "kid": "2026-a"}, MESSAGE, OctKey.import_key(SECRET))
    assert opened(theirs.encode()) == MESSAGE


def test_joserfc_verifies_our_tokens() -> None:
    theirs = jws.deserialize_compact(Signer(KEY).sign(MESSAGE), OctKey.import_key(SECRET))
    assert theirs.payload == MESSAGE
    assert theirs.headers() == {"alg": "HS256", "kid": "2026-a"}


@given(st.binary(min_size=1, max_size=200), st.binary(max_size=300))
def test_our_hmac_is_the_standard_librarys(secret: bytes, message: bytes) -> None:
    assert Hs256(secret).sign(message) == b64(hmac.digest(secret, message, hashlib.sha256))


@given(st.binary(max_size=300))
def test_any_payload_comes_back_as_it_was(message: bytes) -> None:
    assert opened(Signer(KEY).sign(message)) == message


def test_each_key_of_a_rotation_verifies_its_own_messages() -> None:
    envelope = EnvelopeDecoder((KEY, OTHER), signatures="required")
    for _ in range(2):
        assert envelope.verify_and_decrypt(Signer(KEY).sign(MESSAGE)) == MESSAGE
        assert envelope.verify_and_decrypt(Signer(OTHER).sign(MESSAGE)) == MESSAGE


def test_a_token_without_kid_is_checked_with_the_only_key_and_refused_when_there_are_two() -> None:
    assert opened(token({"alg": "HS256"})) == MESSAGE
    assert "names no key" in refusal(token({"alg": "HS256"}), KEY, OTHER)


# -- policies ----------------------------------------------------------------------------------------------------------


def test_required_refuses_plain_messages() -> None:
    for plain in (MESSAGE, b"hello", b"", b"a.b", b"[1]"):
        assert "not signed" in refusal(plain)


def test_optional_accepts_plain_messages_and_refuses_a_wrong_signature() -> None:
    for plain in (MESSAGE, b"hello", b"", b"e.g. one. two. three.", b"[1.5]"):
        assert opened(plain, signatures="optional") == plain
    assert refusal(Signer(OTHER).sign(MESSAGE), signatures="optional")


def test_optional_without_keys_refuses_signatures_that_it_cannot_check() -> None:
    result = EnvelopeDecoder().verify_and_decrypt(Signer(KEY).sign(MESSAGE))
    assert isinstance(result, Rejected)
    assert "no key for this is configured" in result.message


def test_off_decodes_without_verifying() -> None:
    envelope = EnvelopeDecoder(signatures="off")
    assert envelope.verify_and_decrypt(Signer(KEY).sign(MESSAGE)) == MESSAGE
    assert envelope.verify_and_decrypt(MESSAGE) == MESSAGE


# -- attacks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alg", ["none", "None", "HS512", "RS256", "", None, 5, ["HS256"], {}])
def test_the_algorithm_is_the_keys_and_not_the_tokens(alg: object) -> None:
    assert "alg" in refusal(token({"alg": alg, "kid": "2026-a"}))
    head = b64(json.dumps({"alg": alg, "kid": "2026-a"}).encode())
    assert refusal(head + b"." + b64(MESSAGE) + b".")


def test_a_token_without_alg_is_refused() -> None:
    assert refusal(token({"kid": "2026-a"}))


@pytest.mark.parametrize("kid", ["2026-b", "", 5, ["2026-a"], {"a": 1}, True])
def test_an_unknown_key_is_refused(kid: object) -> None:
    assert "not configured" in refusal(token({"alg": "HS256", "kid": kid}))


def test_a_key_does_not_verify_what_another_signed_under_its_name() -> None:
    assert refusal(token({"alg": "HS256", "kid": "2026-a"}, secret=OTHER.material)) == "the signature is wrong"


@pytest.mark.parametrize("crit", [["b64"], ["exp"], [], None, 1])
def test_critical_extensions_are_refused(crit: object) -> None:
    assert "critical" in refusal(token({"alg": "HS256", "kid": "2026-a", "crit": crit}))


def test_every_shortened_token_is_refused() -> None:
    whole = Signer(KEY).sign(MESSAGE)
    for length in range(len(whole)):
        assert isinstance(opened(whole[:length]), Rejected)


def test_every_flipped_bit_is_refused() -> None:
    whole = Signer(KEY).sign(MESSAGE)
    envelope = EnvelopeDecoder((KEY,), signatures="required")
    envelope.verify_and_decrypt(whole)
    for index in range(len(whole)):
        for bit in range(8):
            broken = bytearray(whole)
            broken[index] ^= 1 << bit
            assert isinstance(envelope.verify_and_decrypt(bytes(broken)), Rejected), (index, bit)


def test_a_tag_has_one_spelling_only() -> None:
    whole = Signer(KEY).sign(MESSAGE)
    last = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    accepted = [letter for letter in last if opened(whole[:-1] + bytes([letter])) == MESSAGE]
    assert accepted == [whole[-1]]
    for junk in (b"=", b"\n", b" ", b"A", b"."):
        assert isinstance(opened(whole + junk), Rejected)


@pytest.mark.parametrize("body", [b"a", b"YQ==", b"Y+/Q", b"Y\nQ", b"Y Q"])
def test_a_signed_payload_that_is_not_strict_base64url_is_refused(body: bytes) -> None:
    signing_input = b64(b'{"alg":"HS256","kid":"2026-a"}') + b"." + body
    refusal(signing_input + b"." + Hs256(SECRET).sign(signing_input))


@pytest.mark.parametrize(
    "header", [b"", b"{", b"[]", b"17", b'"x"', b"null", b"\xff", b'{"alg":"HS256"' + b"," * 9, b"[" * 3000]
)
def test_a_header_that_is_not_a_json_object_is_refused(header: bytes) -> None:
    refusal(token(header))


def test_a_huge_header_is_refused_before_it_is_read() -> None:
    assert "bytes" in refusal(token({"alg": "HS256", "kid": "2026-a", "x": "y" * 100_000}))


def test_five_parts_are_not_a_signed_message() -> None:
    result = opened(b"eyJhbGciOiJkaXIifQ..aXY.Y2lwaGVy.dGFn")
    assert isinstance(result, Rejected)
    assert result.reason == "encryption"


def test_the_cache_of_headers_is_bounded_and_holds_no_refused_ones() -> None:
    envelope = EnvelopeDecoder((KEY,), signatures="required")
    for number in range(2000):
        assert envelope.verify_and_decrypt(token({"alg": "HS256", "kid": "2026-a", "n": number})) == MESSAGE
        assert isinstance(envelope.verify_and_decrypt(token({"alg": "none", "n": number})), Rejected)
        assert len(envelope._cached_verification_keys) <= 256


@given(st.binary(max_size=200) | st.lists(st.binary(max_size=20).map(b64), max_size=5).map(b".".join))
def test_no_bytes_at_all_make_it_raise_or_pass_unsigned(raw: bytes) -> None:
    assert isinstance(opened(raw), Rejected)
    EnvelopeDecoder(signatures="off").verify_and_decrypt(raw)


# -- keys --------------------------------------------------------------------------------------------------------------


def test_a_key_reports_its_weakness_and_never_its_secret() -> None:
    assert KEY.weakness is None
    assert "32" in str(Key("short", b"secret").weakness)
    assert "secret of" not in repr(KEY)


def test_an_unknown_algorithm_an_empty_secret_and_two_keys_of_one_id_are_errors() -> None:
    for wrong in ("none", "HS1", "RS512"):
        with pytest.raises(ValueError, match="algorithm"):
            Key("a", SECRET, wrong)
    with pytest.raises(ValueError, match="empty"):
        Key("a", b"")
    with pytest.raises(ValueError, match="two keys"):
        EnvelopeDecoder((KEY, KEY))
