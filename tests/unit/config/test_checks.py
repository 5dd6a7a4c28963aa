"""Credentials that would travel unencrypted are reported, and no others."""

from __future__ import annotations

from typing import Any

import pytest

from sensorsync.config import Settings
from sensorsync.config.checks import broker_cleartext_credentials, database_cleartext_credentials, is_loopback


def settings(**values: Any) -> Settings:
    return Settings.model_validate(values)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "::1", "[::1]"])
def test_loopback_credentials_are_not_reported_as_cleartext(host: str) -> None:
    assert is_loopback(host)
    assert broker_cleartext_credentials(settings(mqtt={"host": host, "password": "x"})) == []
    assert (
        database_cleartext_credentials(settings(database={"host": host, "password": "x", "tls": {"mode": "disabled"}}))
        == []
    )


@pytest.mark.parametrize("host", ["broker", "127.0.0.1.example.com", "10.0.0.1", "localhost.example.com", "::2"])
def test_every_other_host_is_another_machine(host: str) -> None:
    assert not is_loopback(host)


def test_a_broker_password_without_tls_is_reported() -> None:
    (warning,) = broker_cleartext_credentials(settings(mqtt={"host": "far", "username": "me", "password": "marker"}))

    assert warning == "mqtt.password goes to far unencrypted: set mqtt.tls.enabled or port 8883."


@pytest.mark.parametrize("mqtt", [{"password": "x", "port": 8883}, {"username": "me"}, {}])
def test_tls_or_no_password_is_not_reported(mqtt: dict[str, Any]) -> None:
    assert broker_cleartext_credentials(settings(mqtt={"host": "far", **mqtt})) == []


@pytest.mark.parametrize(
    ("mode", "words"), [("disabled", "goes to far unencrypted"), ("preferred", "may go to far unencrypted")]
)
def test_a_database_that_may_be_unencrypted_is_reported(mode: str, words: str) -> None:
    (warning,) = database_cleartext_credentials(
        settings(database={"host": "far", "password": "marker", "tls": {"mode": mode}})
    )

    assert words in warning
    assert "verify-identity" in warning
    assert "marker" not in warning


@pytest.mark.parametrize(
    "database",
    [
        {"tls": {"mode": "required"}},
        {"tls": {"mode": "verify-ca"}},
        {"tls": {"mode": "verify-identity"}},
        {"tls": {"mode": "disabled"}, "unix_socket": "/run/mysqld.sock"},
        {"tls": {"mode": "disabled"}, "password": ""},
        {"driver": "sqlite", "path": "/x.sqlite", "tls": {"mode": "disabled"}},
    ],
)
def test_an_encrypted_or_local_database_is_not_reported(database: dict[str, Any]) -> None:
    assert database_cleartext_credentials(settings(database={"host": "far", "password": "x", **database})) == []
