"""Sessions in this state folder that are no process's any more: of our own processes beyond the last, and of other instances.

An instance that was renamed and one that is only stopped for a while look the same from here, and what the second one has waiting in
its sessions must wait for it: its topics, its keys and its database may be others than ours. So of other instances we take over only
what we are told to (`mqtt.adopt`), and of the others we say that nobody runs them.
"""

from __future__ import annotations

import asyncio
import logging
import time

from sensorsync.config import Settings
from sensorsync.errors import ConfigurationError
from sensorsync.mqtt.subscriber.session_cleanup import StaleSessionCleaner
from sensorsync.mqtt.subscriber.session_registry import (
    SessionOwner,
    SessionRegistry,
    is_instance_running,
    last_started_or_stopped,
    registered_process_numbers,
    registered_session_counts,
)

logger = logging.getLogger(__name__)


async def take_over_orphaned_sessions(settings: Settings, cleaner: StaleSessionCleaner) -> None:
    """Drain and end the sessions of our surplus processes and of the instances in `mqtt.adopt`; warn of those that nobody runs."""
    us = SessionOwner.from_settings(settings)
    missing = set(settings.mqtt.adopt)
    ending = [
        cleaner.end_process_sessions(SessionRegistry.for_process(settings, number))
        for number in registered_process_numbers(settings)
        if number >= settings.pipeline.processes
    ]
    for owner, count in sorted(registered_session_counts(settings).items()):
        if owner == us:
            continue
        former = _settings_for_owner(owner, settings)
        wanted = _instance_label(owner, us) in settings.mqtt.adopt and _broker_address(owner) == _broker_address(us)
        if wanted:
            missing.discard(_instance_label(owner, us))
            ending.append(cleaner.end_instance_sessions(former))
        else:
            _warn_unless_running(owner, us, count, former)
    for name in sorted(missing):
        logger.info("mqtt.adopt: no session of %s is on record", name, extra={"event": "nothing_to_adopt"})
    await asyncio.gather(*ending)


def _warn_unless_running(owner: SessionOwner, us: SessionOwner, count: int, owner_settings: Settings) -> None:
    try:
        if not is_instance_running(owner_settings):
            _warn_not_running(owner, us, count, last_started_or_stopped(owner_settings))
    except ConfigurationError as error:  # another user's, whose lock we may not touch: no reason to stop
        logger.warning(
            "we cannot tell whether %s-%s runs: %s",
            owner.client_id,
            owner.instance,
            error,
            extra={"event": "owner_unknown", "instance": owner.instance, "sessions": count},
        )


def _settings_for_owner(owner: SessionOwner, settings: Settings) -> Settings:
    """Our settings under another's name."""
    mqtt = settings.mqtt.model_copy(
        update={"client_id": owner.client_id, "instance": owner.instance, "host": owner.host, "port": owner.port}
    )
    return settings.model_copy(update={"mqtt": mqtt})


def _instance_label(owner: SessionOwner, us: SessionOwner) -> str:
    """As `mqtt.adopt` has it."""
    return owner.instance if owner.client_id == us.client_id else f"{owner.client_id}-{owner.instance}"


def _broker_address(owner: SessionOwner) -> str:
    return f"{owner.host}:{owner.port}"


def _warn_not_running(owner: SessionOwner, us: SessionOwner, count: int, last_started_or_stopped_at: float) -> None:
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(last_started_or_stopped_at))
    if _broker_address(owner) == _broker_address(us):
        remedy = f"sensorsync subscribe --adopt {_instance_label(owner, us)}"
    else:
        changes = {"MQTT_BROKER": _broker_address(owner), "SENSORSYNC_MQTT__INSTANCE": owner.instance}
        if owner.client_id != us.client_id:
            changes["SENSORSYNC_MQTT__CLIENT_ID"] = owner.client_id
        words = " ".join(f"{name}={value}" for name, value in changes.items())
        remedy = f"{words} sensorsync subscribe --leave --until-idle 5s"
    logger.warning(
        "nobody runs %s-%s here (last started or stopped %s), and the broker %s goes on collecting in its %d session(s);"
        " if it does not come back, fetch what they hold and end them: %s",
        owner.client_id,
        owner.instance,
        since,
        _broker_address(owner),
        count,
        remedy,
        extra={"event": "sessions_without_owner", "instance": owner.instance, "sessions": count, "remedy": remedy},
    )
