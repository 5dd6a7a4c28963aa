"""One cause of a failing connection, and its place in the troubleshooting guide."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class GuideSection(StrEnum):
    """Section of the troubleshooting guide that explains a cause."""

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
    """One reason that makes a broker unusable, or not usable as required."""

    key: str
    """A stable identifier for machines."""
    section: GuideSection
    description: str
    """The problem, without a full stop. The text stands after "broker x: " and before details."""
    hint: str | None
    """The remedy, without a full stop. None when only waiting helps."""
    permanent: bool = True
    """True when the cause remains until it is fixed. Connecting again does not help."""
    insufficient: bool = False
    """True when the broker accepts us, but does not provide enough (exit code 5, not 3)."""
    typical_messages: str = ""
    """Texts of logs and other programs for this cause."""
    reason_code: int | None = None
    """The broker's reason code (MQTT 5.0, section 2.4)."""
