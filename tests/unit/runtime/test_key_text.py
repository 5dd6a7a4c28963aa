"""Keys and certificates as text: found in every form in which they reach a setting, and nothing else is taken for one."""

from __future__ import annotations

import base64

import pytest

from sensorsync.runtime.key_text import HIDDEN, hide_private_key, holds_key_or_certificate, holds_private_key

ED25519 = bytes.fromhex("302e020100300506032b657004220420") + bytes(range(0xC0, 0xE0))
RSA = bytes.fromhex("308204a40201000282010100") + bytes((7 * number) % 256 for number in range(1180))
SEC1 = bytes.fromhex("30770201010420") + bytes(range(114))
ENCRYPTED = bytes.fromhex("3081b0301b06092a864886f70d01050d300e") + bytes(range(161))
PUBLIC = bytes.fromhex("302a300506032b6570032100") + bytes(range(0xC0, 0xE0))
PEM = f"-----BEGIN EC PRIVATE KEY-----\n{base64.b64encode(SEC1).decode()}\n-----END EC PRIVATE KEY-----\n"


def in_lines(der: bytes) -> str:
    text = base64.b64encode(der).decode()
    return "\n".join(text[start : start + 64] for start in range(0, len(text), 64))


@pytest.mark.parametrize("der", [ED25519, RSA, SEC1, ENCRYPTED], ids=["Ed25519", "RSA", "SEC 1", "encrypted"])
def test_a_private_key_is_found_without_the_lines_of_pem_around_it(der: bytes) -> None:
    text = base64.b64encode(der).decode()
    for form in (
        text,
        in_lines(der),
        text.rstrip("="),
        base64.urlsafe_b64encode(der).decode(),
        der.hex(),
        f"data:application/x-pem-file;base64,{text}",
        f"/etc/sensorsync/{text}",
        f"/etc/MQTT/{text.replace('//', '/')}",
        f"No such option: {text}",
    ):
        assert holds_private_key(form), form
        assert holds_key_or_certificate(form), form
        assert hide_private_key(form) == HIDDEN


@pytest.mark.parametrize(
    "text",
    [
        PEM,
        PEM.replace("-----", "----"),
        PEM.replace("-----", ""),
        PEM.replace("\n", " "),
        base64.b64encode(PEM.encode()).decode(),
        "-----BEGIN PGP PRIVATE KEY BLOCK----- lQOYBF",
        '{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"}',
    ],
)
def test_a_private_key_is_found_in_the_forms_that_have_a_name_in_them(text: str) -> None:
    assert holds_private_key(text)
    assert holds_key_or_certificate(text)


def test_a_public_key_is_not_a_private_one_and_not_a_path() -> None:
    text = base64.b64encode(PUBLIC).decode()
    assert not holds_private_key(text)
    assert holds_key_or_certificate(text)


@pytest.mark.parametrize(
    "text",
    [
        "/run/secrets/sensorsync-key",
        "MEASUREMENTS/factory/building-1/floor-2/room-12345/line-7/machine",
        "/nix/store/30s1xq0z9y8w7v6u5t4s3r2q1p0n9m8l-ca-bundle/etc/ssl/certs/ca-bundle.crt",
        "/var/lib/docker/" + "30" * 32,
        "MD/" + "a" * 60,
        "devices/+/readings",
        "/etc/ssl/BEGIN/CERTIFICATES/ca.pem",
    ],
)
def test_paths_and_topics_are_not_taken_for_keys(text: str) -> None:
    assert not holds_private_key(text)
    assert not holds_key_or_certificate(text)
    assert hide_private_key(text) == text
