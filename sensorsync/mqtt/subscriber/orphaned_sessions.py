"""Orphaned sessions in this state folder: those of our own surplus processes, and those of other instances.

An instance that was renamed and one that is stopped for a while look the same here. The messages in the sessions of a stopped
instance must wait for it, because its topics, its keys and its database may differ from ours. Therefore the sessions of another
instance are taken over only when `mqtt.adopt` names it. For the remaining ones, a warning states that the instance is not
running.
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
    is_same_broker,
    last_started_or_stopped,
    registered_process_numbers,
    registered_session_counts,
)

logger = logging.getLogger(__name__)


async def take_over_orphaned_sessions(settings: Settings, cleaner: StaleSessionCleaner) -> None:
    """Drain and end the sessions of our surplus processes and of the instances in `mqtt.adopt`.

    Warn of instances that are not running.
    """
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
        same_broker = await asyncio.to_thread(is_same_broker, (owner.host, owner.port), (us.host, us.port))
        if same_broker is not False and (owner.client_id, owner.instance) == (us.client_id, us.instance):
            logger.info(
                "%d session(s) of our client ids are recorded for %s, too: they are left alone, because they may be our own",
                count,
                _broker_address(owner),
                extra={"event": "same_client_ids", "sessions": count},
            )
            continue
        if same_broker and _instance_label(owner, us) in settings.mqtt.adopt:
            missing.discard(_instance_label(owner, us))
            ending.append(cleaner.end_instance_sessions(former))
        else:
            await asyncio.to_thread(_warn_unless_running, owner, us, count, former)
    for name in sorted(missing):
        logger.info(
            "mqtt.adopt: no sessions of %s are recorded in the state folder", name, extra={"event": "nothing_to_adopt"}
        )
    await asyncio.gather(*ending)


def _warn_unless_running(owner: SessionOwner, us: SessionOwner, count: int, owner_settings: Settings) -> None:
    try:
        if not is_instance_running(owner_settings):
            _warn_not_running(owner, us, count, last_started_or_stopped(owner_settings))
    except ConfigurationError as error:  # the lock belongs to another user, which is not a reason to stop
        logger.warning(
            "cannot determine whether %s-%s is running: %s",
            owner.client_id,
            owner.instance,
            error,
            extra={"event": "owner_unknown", "instance": owner.instance, "sessions": count},
        )


def _settings_for_owner(owner: SessionOwner, settings: Settings) -> Settings:
    """Return our settings with the client id, instance and broker of another owner."""
    mqtt = settings.mqtt.model_copy(
        update={"client_id": owner.client_id, "instance": owner.instance, "host": owner.host, "port": owner.port}
    )
    return settings.model_copy(update={"mqtt": mqtt})


def _instance_label(owner: SessionOwner, us: SessionOwner) -> str:
    """Return the name of the owner's instance as `mqtt.adopt` states it."""
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
        "%s-%s is not running here (last started or stopped %s), and the broker %s keeps queueing messages in its"
        " %d session(s); if it will not be started again, drain and end them: %s",
        owner.client_id,
        owner.instance,
        since,
        _broker_address(owner),
        count,
        remedy,
        extra={"event": "sessions_without_owner", "instance": owner.instance, "sessions": count, "remedy": remedy},
    )
