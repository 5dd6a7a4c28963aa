"""The TLS context: what it holds, what it refuses, and which file is to blame."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from sensorsync.config import Settings
from sensorsync.errors import ConfigurationError
from sensorsync.mqtt.client.options import connect_options, tls_context
from tests.conftest import Certificates


def context(**tls: Any) -> ssl.SSLContext:
    made = tls_context(Settings.model_validate({"mqtt": {"tls": {"enabled": True, **tls}}}))
    assert made is not None
    return made


def refusal(**tls: Any) -> tuple[str, str]:
    with pytest.raises(ConfigurationError) as caught:
        context(**tls)
    return str(caught.value), caught.value.hint or ""


def test_no_tls_no_context() -> None:
    assert tls_context(Settings()) is None


def test_peers_are_verified_and_tls_1_2_is_the_least(certificates: Certificates) -> None:
    made = context(ca_file=certificates.authority)

    assert made.verify_mode is ssl.CERT_REQUIRED
    assert made.check_hostname
    assert made.minimum_version is ssl.TLSVersion.TLSv1_2
    assert not made.verify_flags & ssl.VERIFY_X509_STRICT
    assert len(made.get_ca_certs()) == 1, "an authority that is named is the only one"


def test_an_encrypted_key_is_opened_with_its_password(certificates: Certificates, tmp_path: Path) -> None:
    key = certificates.encrypted_client_key(tmp_path, "sesame")

    context(cert_file=certificates.client, key_file=key, key_password="sesame")


@pytest.mark.parametrize("password", [{}, {"key_password": "wrong-marker"}])
def test_an_encrypted_key_without_its_password_is_refused_and_nobody_is_asked_on_the_terminal(
    certificates: Certificates, tmp_path: Path, password: dict[str, str]
) -> None:
    key = certificates.encrypted_client_key(tmp_path, "sesame")

    message, hint = refusal(cert_file=certificates.client, key_file=key, **password)

    assert str(key) in message
    assert "mqtt.tls.key_password" in hint
    assert "marker" not in message + hint


def test_a_key_of_another_certificate_is_named(certificates: Certificates) -> None:
    _, hint = refusal(cert_file=certificates.client, key_file=certificates.server_key)

    assert "is not the key of mqtt.tls.cert_file" in hint


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_ca_file_that_is_none_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)

    message, hint = refusal(ca_file=path)

    assert f"mqtt.tls.ca_file {path}" in message
    assert "CA_CERT_PATH" in hint


def test_a_certificate_file_that_is_none_is_named(certificates: Certificates, tmp_path: Path) -> None:
    message, hint = refusal(cert_file=tmp_path / "none.pem", key_file=certificates.client_key)

    assert "none.pem" in message
    assert "mqtt.tls.cert_file" in hint


def test_the_options_know_of_a_certificate_of_our_own(certificates: Certificates) -> None:
    tls = {"ca_file": certificates.authority, "cert_file": certificates.client, "key_file": certificates.client_key}
    with_it = connect_options(Settings.model_validate({"mqtt": {"tls": tls}}), "me")
    without = connect_options(Settings.model_validate({"mqtt": {"tls": {"ca_file": certificates.authority}}}), "me")

    assert (with_it.has_client_certificate, without.has_client_certificate) == (True, False)


@pytest.mark.parametrize("names", [["mqtt"], ["x-amzn-mqtt-ca", "mqtt"], "mqtt, other"])
def test_alpn_names_are_offered(names: Any) -> None:
    context(alpn=names)


@pytest.mark.parametrize("name", ["", "with space", "ü", "x" * 256])
def test_an_invalid_alpn_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="alpn"):
        context(alpn=[name])
