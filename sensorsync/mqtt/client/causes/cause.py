"""What is said about one cause."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class GuideSection(StrEnum):
    """Where the troubleshooting guide tells of it."""

    NETWORK = "network"
    CERTIFICATES = "certificates"
    HANDSHAKE = "handshake"
    FILES = "files"
    LOGIN = "login"
    ACCESS = "access"
    DELIVERY = "delivery"
    CODES = "codes"
    """Only in the list of reason codes."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One reason why a broker can't be used, or not as it should."""

    key: str
    """A stable word for machines."""
    section: GuideSection
    description: str
    """What is wrong, without a full stop: it stands after "broker x: " and before details."""
    hint: str | None
    """What helps, without a full stop; None when nothing but waiting does."""
    permanent: bool = True
    """It will be so again until somebody mends it: connecting again is of no use."""
    insufficient: bool = False
    """The broker lets us in, but what it does is not enough (exit code 5, not 3)."""
    typical_messages: str = ""
    """How logs and other programs word it."""
    reason_code: int | None = None
    """The broker's reason code (MQTT 5.0, section 2.4)."""
