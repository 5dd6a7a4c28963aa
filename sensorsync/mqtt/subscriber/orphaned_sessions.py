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
from sensorsync.mqtt.subscriber.session_cleanup import Retirement
from sensorsync.mqtt.subscriber.session_registry import (
    Owner,
    SessionRegistry,
    instance_runs,
    last_change,
    processes_on_record,
    sessions_on_record,
)

logger = logging.getLogger(__name__)


async def look_after_others(settings: Settings, retirement: Retirement) -> None:
    """Drain and end the sessions of our surplus processes and of the instances in `mqtt.adopt`; warn of those that nobody runs."""
    us = Owner.of(settings)
    missing = set(settings.mqtt.adopt)
    ending = [
        retirement.of_process(SessionRegistry.of(settings, number))
        for number in processes_on_record(settings)
        if number >= settings.pipeline.processes
    ]
    for owner, count in sorted(sessions_on_record(settings).items()):
        if owner == us:
            continue
        former = _settings_of(owner, settings)
        wanted = _name(owner, us) in settings.mqtt.adopt and _broker(owner) == _broker(us)
        if wanted:
            missing.discard(_name(owner, us))
            ending.append(retirement.of_instance(former))
        else:
            _see_to(owner, us, count, former)
    for name in sorted(missing):
        logger.info("mqtt.adopt: no session of %s is on record", name, extra={"event": "nothing_to_adopt"})
    await asyncio.gather(*ending)


def _see_to(owner: Owner, us: Owner, count: int, former: Settings) -> None:
    try:
        if not instance_runs(former):
            _warn(owner, us, count, last_change(former))
    except ConfigurationError as error:  # another user's, whose lock we may not touch: no reason to stop
        logger.warning(
            "we cannot tell whether %s-%s runs: %s",
            owner.client_id,
            owner.instance,
            error,
            extra={"event": "owner_unknown", "instance": owner.instance, "sessions": count},
        )


def _settings_of(owner: Owner, settings: Settings) -> Settings:
    """Our settings under another's name."""
    mqtt = settings.mqtt.model_copy(
        update={"client_id": owner.client_id, "instance": owner.instance, "host": owner.host, "port": owner.port}
    )
    return settings.model_copy(update={"mqtt": mqtt})


def _name(owner: Owner, us: Owner) -> str:
    """As `mqtt.adopt` has it."""
    return owner.instance if owner.client_id == us.client_id else f"{owner.client_id}-{owner.instance}"


def _broker(owner: Owner) -> str:
    return f"{owner.host}:{owner.port}"


def _warn(owner: Owner, us: Owner, count: int, changed: float) -> None:
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(changed))
    if _broker(owner) == _broker(us):
        remedy = f"sensorsync subscribe --adopt {_name(owner, us)}"
    else:
        changes = {"MQTT_BROKER": _broker(owner), "SENSORSYNC_MQTT__INSTANCE": owner.instance}
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
        _broker(owner),
        count,
        remedy,
        extra={"event": "sessions_without_owner", "instance": owner.instance, "sessions": count, "remedy": remedy},
    )
