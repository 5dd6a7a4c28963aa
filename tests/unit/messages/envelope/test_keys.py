"""A key has an id, one algorithm and one use, and never shows its material."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from sensorsync.messages.envelope import ALGORITHMS, EnvelopeDecoder, Key, generate_key, key_ring
from tests.unit.messages.envelope.samples import PAIRS, key, public


def pem(
    private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed448.Ed448PrivateKey, password: bytes = b""
) -> bytes:
    how = BestAvailableEncryption(password) if password else NoEncryption()
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_generated_key_is_whole_strong_and_new(algorithm: str) -> None:
    one, other = generate_key("a", algorithm), generate_key("a", algorithm)
    assert one.is_private
    assert one.weakness is None
    assert one.fingerprint
    assert one.fingerprint != other.fingerprint
    assert (one.public_pem is not None) == (algorithm in PAIRS)
    assert one.use == ("encryption" if algorithm == "A256GCM" else "signature")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_nothing_of_a_key_is_in_its_repr(algorithm: str) -> None:
    whole = key(algorithm)
    for line in whole.material.decode().splitlines():
        assert line not in repr(whole)
        assert line not in f"{whole} {whole.fingerprint} {whole.public_pem or ''}" or "-----" in line


def test_both_halves_of_a_pair_have_one_fingerprint_and_a_weak_secret_has_none() -> None:
    assert public(key("EdDSA")).fingerprint == key("EdDSA").fingerprint
    assert Key("weak", b"secret").fingerprint is None  # one could try all words against it
    assert Key("a", b"s" * 32).fingerprint == Key("b", b"s" * 32).fingerprint != Key("a", b"t" * 32).fingerprint


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "EdDSA"])
@pytest.mark.parametrize("material", [b"secret" * 10, b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"])
def test_an_invalid_pem_is_refused_and_not_repeated(algorithm: str, material: bytes) -> None:
    with pytest.raises(ValueError, match="no key in PEM") as caught:
        Key("a", material, algorithm)
    assert "secretsecret" not in f"{caught.value} {caught.value.__cause__}"


def test_a_pair_of_another_kind_is_refused() -> None:
    wrong = {
        "RS256": [key("EdDSA").material, pem(ec.generate_private_key(ec.SECP256R1()))],
        "PS256": [key("EdDSA").material],
        "EdDSA": [key("RS256").material, public(key("RS256")).material, pem(ed448.Ed448PrivateKey.generate())],
        "HS256": [key("RS256").material, public(key("RS256")).material],
        "A256GCM": [key("RS256").material],
    }
    for algorithm, materials in wrong.items():
        for material in materials:
            with pytest.raises(ValueError, match=f"'a' is not for {algorithm}"):
                Key("a", material, algorithm)


def test_an_rsa_key_below_2048_bits_is_refused() -> None:
    small = rsa.generate_private_key(65537, 1024)  # noqa: S505 - that it is too small is the point
    with pytest.raises(ValueError, match="1024 bits"):
        Key("a", pem(small), "RS256")


def test_an_encrypted_pem_is_refused_in_words() -> None:
    encrypted = pem(rsa.generate_private_key(65537, 2048), b"passphrase")
    with pytest.raises(ValueError, match="encrypted"):
        Key("a", encrypted, "RS256")


@pytest.mark.parametrize(
    "text", [b"x", b"A" * 42, b"A" * 44, b"A" * 86, b"!" * 43, b"secret of 32 bytes, as they stand"]
)
def test_a_key_for_a256gcm_is_the_base64_of_32_bytes(text: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Key("a", text, "A256GCM")


def test_a_key_for_a256gcm_may_be_written_in_either_alphabet() -> None:
    for text in (b"-_-_" * 10 + b"-_8", b"+/+/" * 10 + b"+/8=", b"+/+/" * 10 + b"+/8"):
        assert Key("a", text, "A256GCM").is_private


def test_one_material_is_for_one_algorithm() -> None:
    pair, text = key("RS256").material, key("A256GCM").material
    twins = [
        (Key("a", pair, "RS256"), Key("b", pair, "PS256")),
        (Key("a", pair, "RS256"), public(Key("b", pair, "PS256"))),
        (Key("a", text, "A256GCM"), Key("b", text, "HS256")),
    ]
    for one, other in twins:
        with pytest.raises(ValueError, match="one algorithm"):
            EnvelopeDecoder([one, other])
    assert set(key_ring([Key("a", pair, "RS256"), Key("b", pair, "RS256")])) == {"a", "b"}  # a key with a new name


def test_two_keys_of_one_id_are_refused_whatever_they_are_for() -> None:
    with pytest.raises(ValueError, match="two keys have the id 'a'"):
        key_ring([key("HS256", "a"), key("A256GCM", "a")])
