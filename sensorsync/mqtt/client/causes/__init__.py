"""Why a connection to a broker fails, and what helps: one table.

Errors, `check-cloud` and docs/how-to/troubleshoot-connection.md all take their words from here.
"""

from __future__ import annotations

from sensorsync.mqtt.client.causes.cause import Cause, Chapter
from sensorsync.mqtt.client.causes.codes import CODES
from sensorsync.mqtt.client.causes.network import CERTIFICATES, HANDSHAKE, NETWORK, TLS_FILES
from sensorsync.mqtt.client.causes.service import ACCESS, DELIVERY, LOGIN

CAUSES: dict[str, Cause] = {
    one.key: one for one in (*NETWORK, *CERTIFICATES, *HANDSHAKE, *TLS_FILES, *LOGIN, *ACCESS, *DELIVERY, *CODES)
}
"""Every cause by its key."""

_BY_CODE = {one.code: one for one in CAUSES.values() if one.code is not None}


def cause_of_code(code: int) -> Cause:
    """What a reason code of the broker means; an unknown one is a passing fault."""
    found = _BY_CODE.get(code)
    return found or Cause(f"reason_0x{code:02x}", Chapter.CODES, f"reason code 0x{code:02X}", None, lasting=False)


__all__ = ["CAUSES", "Cause", "Chapter", "cause_of_code"]
