"""Persistence of our session at the broker, and of the messages that arrive while we are disconnected."""

from __future__ import annotations

from contextlib import suppress

from sensorsync.mqtt.check.client import CheckClient
from sensorsync.mqtt.check.context import CheckContext
from sensorsync.mqtt.check.report import StepFailed, StepOutput
from sensorsync.mqtt.check.traffic import subscribe_all

SESSION_EXPIRY = 120.0
"""Seconds for which our session would remain if this process were killed in the middle."""


async def check_persistence(context: CheckContext) -> StepOutput:
    """Subscribe, disconnect, have a message sent, and reconnect. Raises StepFailed. No session remains in either case."""
    # No clean start, like `subscribe`: some brokers (rumqttd) treat it as the clean session of MQTT 3.1.1, which ends
    # with the connection.
    options = context.options("session", session_expiry=SESSION_EXPIRY, clean_start=False)
    first, again = CheckClient(options), CheckClient(options)
    try:
        await first.open()
        if first.connack.session_expiry_interval == 0:
            raise StepFailed("session_not_kept", "CONNACK grants a session expiry of 0 s")
        await subscribe_all(first, context.topic)
        await first.close(end_session=False)
        payloads = context.make_payloads("queued", 1)
        await context.publish(payloads)
        await again.open()
        if not again.connack.session_present:
            raise StepFailed("session_not_kept", "session_present is 0 after connecting again")
        if not await again.wait_until(
            lambda: any(one.payload == payloads[0] for one in again.arrivals), context.delivery_timeout
        ):
            raise StepFailed("queued_message_lost", f"it did not come in {context.delivery_timeout:g} s")
    finally:
        await first.close(end_session=True)
        if not await again.close(end_session=True):
            await _discard_session(context)
    return StepOutput(
        "the session is there after connecting again, and so is the message that came meanwhile",
        {"session_present": True, "queued_delivered": True},
    )


async def _discard_session(context: CheckContext) -> None:
    """Discard any session under our client id by a clean start ([MQTT-3.1.2-4])."""
    with suppress(StepFailed):
        async with CheckClient(context.options("session")):
            pass
