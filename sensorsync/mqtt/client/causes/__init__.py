"""Causes of a failing connection to a broker, each with its remedy, in one table.

Errors, `check-cloud` and docs/how-to/troubleshoot-connection.md all take their texts from here.
"""

from __future__ import annotations

from sensorsync.mqtt.client.causes.cause import Cause, GuideSection
from sensorsync.mqtt.client.causes.codes import REASON_CODES
from sensorsync.mqtt.client.causes.network import CERTIFICATES, HANDSHAKE, NETWORK, TLS_FILES
from sensorsync.mqtt.client.causes.service import ACCESS, DELIVERY, LOGIN

CAUSES: dict[str, Cause] = {
    one.key: one for one in (*NETWORK, *CERTIFICATES, *HANDSHAKE, *TLS_FILES, *LOGIN, *ACCESS, *DELIVERY, *REASON_CODES)
}
"""Every cause by its key."""

_CAUSES_BY_REASON_CODE = {one.reason_code: one for one in CAUSES.values() if one.reason_code is not None}


def cause_of_reason_code(code: int) -> Cause:
    """Return the cause for a reason code of the broker. An unknown code counts as a transient error."""
    found = _CAUSES_BY_REASON_CODE.get(code)
    return found or Cause(
        f"reason_0x{code:02x}", GuideSection.CODES, f"reason code 0x{code:02X}", None, permanent=False
    )


__all__ = ["CAUSES", "Cause", "GuideSection", "cause_of_reason_code"]
