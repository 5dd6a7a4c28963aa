"""The TLS step: version, cipher and certificate, or the cause of a failure."""

from __future__ import annotations

import ssl
import time
from functools import partial
from typing import Any

from sensorsync.config import Settings
from sensorsync.mqtt.check import certificate
from sensorsync.mqtt.check.handshake import TlsHandshake, tls_handshake
from sensorsync.mqtt.check.report import StepFailed, StepOutput, StepProblem
from sensorsync.mqtt.client.causes import CAUSES
from sensorsync.mqtt.client.diagnosis import cause_of_first_bytes, cause_of_os_error, cause_of_tls_error, is_tls_record
from sensorsync.mqtt.client.options import ConnectOptions, tls_context

EXPIRY_WARNING_DAYS = 21.0
"""Days before the end of a certificate from which on there is a warning."""
_DAY = 86400.0
_HANDSHAKE_RECORD = b"\x16"


async def check_tls(options: ConnectOptions, context: ssl.SSLContext, settings: Settings) -> StepOutput:
    """Complete a TLS handshake with full verification, and check the certificate. Raises StepFailed."""
    try:
        shake = await tls_handshake(options, context)
    except TimeoutError:
        raise StepFailed("handshake_timeout", f"nothing came in {options.connect_timeout:g} s") from None
    except OSError as error:
        raise StepFailed(cause_of_os_error(error), error.strerror or str(error)) from error
    if shake.ssl_object is None:
        raise await _diagnose_failure(shake, options, settings)
    return _step_output(shake.ssl_object, settings)


async def _diagnose_failure(attempt: TlsHandshake, options: ConnectOptions, settings: Settings) -> StepFailed:
    error, first = attempt.error, bytes(attempt.first_bytes)
    if isinstance(error, ssl.SSLCertVerificationError):
        return await _certificate_failure(error, options, settings)
    if first and not is_tls_record(first):
        found = cause_of_first_bytes(first)
        key = "http_port" if found is CAUSES["http_port"] else "plaintext_port"
        return StepFailed(key, f"its answer to the TLS handshake begins with {first[:16]!r}")
    if isinstance(error, ssl.SSLError):
        cause = cause_of_tls_error(error, with_client_certificate=options.has_client_certificate)
        if cause.key == "handshake_failed" and first[:1] == _HANDSHAKE_RECORD:
            # The first answer settles version, name and ciphers. After it, only our certificate can be refused.
            cause = CAUSES[f"client_certificate_{'rejected' if options.has_client_certificate else 'required'}"]
        return StepFailed(cause, error.reason or str(error))
    if not first:
        return StepFailed("plaintext_port", "it hung up on the TLS handshake without a byte of TLS")
    return StepFailed("handshake_cut", (error.strerror or str(error)) if error else "the broker hung up in the middle")


async def _certificate_failure(
    error: ssl.SSLCertVerificationError, options: ConnectOptions, settings: Settings
) -> StepFailed:
    cause = cause_of_tls_error(error)
    words = f"certificate verify failed: {error.verify_message.rstrip('.')}"
    found = await certificate.fetch_rejected_certificate(options, partial(tls_context, settings, verify=False))
    if found is None:
        return StepFailed(cause, words)
    if cause.key == "certificate_name":
        carried = ", ".join(found["names"]) or "no name"
        wanted = options.server_name or options.host
        return StepFailed(cause, f"{words}; we ask for {wanted}, and it is for {carried}", certificate=found)
    words += f"; it is {certificate.describe(found)}"
    if cause.key == "certificate_authority":
        words += f"; we trust {_trusted_authorities_text(options, settings)}"
    return StepFailed(cause, words, certificate=found)


def _trusted_authorities_text(options: ConnectOptions, settings: Settings) -> str:
    ca_file = settings.mqtt.tls.ca_file
    if ca_file is None or options.tls is None:
        return "this system's authorities (mqtt.tls.ca_file is not set)"
    return f"{', '.join(certificate.trusted_authorities(options.tls))} ({ca_file})"


def _step_output(ssl_object: ssl.SSLObject, settings: Settings) -> StepOutput:
    peer: Any = ssl_object.getpeercert() or {}
    found = certificate.certificate_facts(peer)
    days = (ssl.cert_time_to_seconds(found["not_after"]) - time.time()) / _DAY
    chain = getattr(ssl_object, "get_verified_chain", None)  # since Python 3.13
    name, _, bits = ssl_object.cipher() or (None, None, None)
    alpn, offered = ssl_object.selected_alpn_protocol(), settings.mqtt.tls.alpn
    warnings = []
    if days < EXPIRY_WARNING_DAYS:
        warnings.append(StepProblem(CAUSES["certificate_expires_soon"], f"in {days:.0f} days ({found['not_after']})"))
    if offered and alpn is None:
        warnings.append(StepProblem(CAUSES["alpn_ignored"], ", ".join(offered)))
    return StepOutput(
        f"{ssl_object.version()}, {name}; certificate for {ssl_object.server_hostname}, issued by {found['issuer']},"
        f" valid for {days:,.0f} days",
        {
            "version": ssl_object.version(),
            "cipher": name,
            "bits": bits,
            "server_name": ssl_object.server_hostname,
            "alpn": alpn,
            "client_certificate": settings.mqtt.tls.cert_file is not None,
            "certificate": {**found, "days_left": round(days, 1)},
            "chain": len(chain()) if chain else None,
        },
        tuple(warnings),
    )
