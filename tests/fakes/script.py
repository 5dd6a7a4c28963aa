"""The knobs of the fake broker: what it answers, holds back and gets wrong."""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import mqtt5


@dataclass(eq=False)
class Script:
    """Plain attributes, read when they matter, so a test may change them at any time on the broker's loop."""

    # What the broker says to a CONNECT.
    connack_codes: deque[mqtt5.ConnAckReasonCode] = field(default_factory=deque)
    """Reason codes for the next CONNECTs, one each; SUCCESS once it is empty."""
    credentials: dict[str, bytes] | None = None
    """User name -> password. None lets everybody in; else 0x86 for a wrong password and 0x87 for an unknown user, like EMQX."""
    receive_max: int = 65535
    """CONNACK's Receive Maximum: what a publisher may have unacknowledged; one more is answered with DISCONNECT 0x93."""
    server_keep_alive: int | None = None
    session_expiry: int | None = None
    """Seconds that CONNACK states; None: as the client asked."""
    session_present: bool | None = None
    """Overrides what CONNACK says; None says the truth."""
    connack: dict[str, Any] = field(default_factory=dict)
    """Further properties of CONNACK, as the codec names them."""
    answer_connect: bool = True
    """False accepts the TCP connection and never answers."""
    ssl: ssl.SSLContext | None = None

    # Deliveries to subscribers.
    window: int = 32
    """Unacknowledged messages per connection (EMQX: 32, mosquitto: 20); the client's Receive Maximum counts if it is smaller."""
    queue_limit: int | None = 1000
    """Messages queued per session behind the window or offline; None is no bound."""
    drop: Literal["oldest", "newest"] = "oldest"
    """What a full queue drops: EMQX the oldest, mosquitto the newest."""
    kill_above: int | None = None
    """A session that holds more messages than this, queued and in flight, is killed with all of them, and its connection closes
    without a word (EMQX's force_shutdown). `killed` has the messages. None: never."""
    redeliver_with_dup: bool = True
    """Whether DUP is set after a reconnect, as it must be ([MQTT-3.3.1-1]); rumqttd does not."""

    # Answers to SUBSCRIBE and PUBLISH.
    suback_codes: dict[str, mqtt5.SubAckReasonCode] = field(default_factory=dict)
    """Filter as subscribed -> the code it gets; others are granted as asked."""
    withhold_suback: bool = False
    puback_code: Callable[[mqtt5.PublishPacket], mqtt5.PubAckReasonCode | None] | None = None
    """The code for a publisher's message (a failure is not routed); None is the broker's own: 0x00, or 0x10 without a subscriber."""
    withhold_publisher_acks: bool = False
    """Keep PUBACKs for publishers back; `release_publisher_acks()` sends them."""
