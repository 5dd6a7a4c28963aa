"""Contents of a broker's certificate, also of one that is not accepted."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from typing import Any

from sensorsync.mqtt.check.handshake import tls_handshake
from sensorsync.mqtt.client.options import ConnectOptions

_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL's x509_vfy.h, which the ssl module does not define."""
_NAME_ATTRIBUTES = ("commonName", "organizationName", "organizationalUnitName")


def certificate_facts(certificate: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result of `getpeercert` as JSON values."""
    return {
        "subject": _display_name(certificate.get("subject", ())),
        "issuer": _display_name(certificate.get("issuer", ())),
        "names": [value for _, value in certificate.get("subjectAltName", ())],
        "not_before": certificate.get("notBefore"),
        "not_after": certificate.get("notAfter"),
    }


def describe(certificate: Mapping[str, Any]) -> str:
    """Return the names, the issuer and the validity of a certificate as text."""
    return (
        f"for {', '.join(certificate['names']) or certificate['subject'] or 'nobody'}, issued by {certificate['issuer'] or 'nobody'},"
        f" valid from {certificate['not_before']} to {certificate['not_after']}"
    )


def trusted_authorities(context: ssl.SSLContext) -> list[str]:
    """Return the names of the authorities that `context` trusts, as far as they are loaded.

    The system's are loaded when they are needed.
    """
    return sorted({_display_name(one.get("subject", ())) for one in context.get_ca_certs()})


async def fetch_rejected_certificate(
    options: ConnectOptions, unverified_context: Callable[[], ssl.SSLContext | None]
) -> dict[str, Any] | None:
    """Return the facts of a certificate that is not accepted, or None when it cannot be fetched.

    Nothing but the handshake is sent to such a peer. Python parses only a certificate that it has verified. Therefore the
    certificate is fetched first, and trusted as it is in a second handshake.
    """
    plain, pinned = unverified_context(), unverified_context()
    if plain is None or pinned is None:
        return None
    try:
        first = await tls_handshake(options, plain)
        der = first.ssl_object.getpeercert(binary_form=True) if first.ssl_object else None
        if not der:
            return None
        pinned.verify_mode = ssl.CERT_REQUIRED
        pinned.load_verify_locations(cadata=der)
        pinned.verify_flags |= ssl.VerifyFlags(ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME)
        second = await tls_handshake(options, pinned)
    except OSError:
        return None
    certificate: Any = second.ssl_object.getpeercert() if second.ssl_object else None
    return certificate_facts(certificate) if certificate else None


def _display_name(parts: Any) -> str:
    """Return the common name of `((('commonName', 'x'),), ...)`, or its organization and unit."""
    values = {key: value for part in parts for key, value in part}
    if common := values.get("commonName"):
        return str(common)
    return ", ".join(str(values[key]) for key in _NAME_ATTRIBUTES if key in values)
