from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from sensorsync.config import DatabaseSettings, DatabaseTlsSettings
from sensorsync.errors import ConfigurationError
from sensorsync.storage.mysql.connect import ConnectionFactory
from sensorsync.storage.mysql.tls import tls_arguments
from tests.services import Certificates


def settings(**changes: Any) -> DatabaseSettings:
    return DatabaseSettings(**changes)


def test_preferred_is_the_drivers_default_and_disabled_is_explicit() -> None:
    assert tls_arguments(settings()) == {}
    assert tls_arguments(settings(tls=DatabaseTlsSettings(mode="disabled"))) == {"ssl_disabled": True}


@pytest.mark.parametrize(
    ("mode", "verify", "names"),
    [
        ("required", ssl.CERT_NONE, False),
        ("verify-ca", ssl.CERT_REQUIRED, False),
        ("verify-identity", ssl.CERT_REQUIRED, True),
    ],
)
def test_each_mode_checks_what_its_name_says(
    mode: Any, verify: ssl.VerifyMode, names: bool, certificates: Certificates
) -> None:
    context = tls_arguments(settings(tls=DatabaseTlsSettings(mode=mode, ca_file=certificates.authority)))["ssl"]
    assert (context.verify_mode, context.check_hostname) == (verify, names)


def test_a_ca_file_that_is_missing_or_none_is_named(tmp_path: Path) -> None:
    no_certificate = tmp_path / "ca.pem"
    with pytest.raises(ConfigurationError, match=r"database.tls.ca_file: .*ca.pem does not exist"):
        ConnectionFactory(settings(tls=DatabaseTlsSettings(ca_file=no_certificate)))
    no_certificate.write_text("hello")
    with pytest.raises(ConfigurationError, match="no certificate file"):
        ConnectionFactory(settings(tls=DatabaseTlsSettings(ca_file=no_certificate)))


def test_a_connector_connects_only_when_asked_and_takes_any_password() -> None:
    connection = ConnectionFactory(settings(host="127.0.0.1", port=1, password="pässwörd €")).new_connection()
    assert not connection.open
