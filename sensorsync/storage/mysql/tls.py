"""TLS of the connection to the server."""

from __future__ import annotations

import ssl
from typing import Any

from sensorsync.config import DatabaseSettings
from sensorsync.errors import ConfigurationError


def tls_arguments(settings: DatabaseSettings) -> dict[str, Any]:
    """Return the arguments of PyMySQL for `database.tls`.

    Raises ConfigurationError when the CA file does not exist or is not a certificate file.
    """
    tls = settings.tls
    if tls.mode == "disabled":
        return {"ssl_disabled": True}
    if tls.mode == "preferred":
        return {}  # the driver's default since 1.2: encrypted where the server supports it, certificate not verified
    try:
        context = ssl.create_default_context(cafile=str(tls.ca_file) if tls.ca_file else None)
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"database.tls.ca_file: {tls.ca_file} does not exist", hint="name the PEM file of the server's authority"
        ) from error
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"database.tls.ca_file: {tls.ca_file} is no certificate file in PEM form ({error})",
            hint="name the PEM file of the server's authority",
        ) from error
    # Python 3.13 verifies strictly by default, and the certificates that MySQL generates for itself fail that.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.check_hostname = tls.mode == "verify-identity"
    context.verify_mode = ssl.CERT_NONE if tls.mode == "required" else ssl.CERT_REQUIRED
    return {"ssl": context}
