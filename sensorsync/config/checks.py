"""Checks of valid settings: credentials that would travel unencrypted, and mappings that receive no message."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address

from sensorsync.config.settings import Settings
from sensorsync.messages.mapping.topics import TopicPattern
from sensorsync.messages.topics import filter_includes, filters_overlap


def broker_cleartext_credentials(settings: Settings) -> list[str]:
    """Return the warnings about a broker password that would cross a network unencrypted."""
    mqtt = settings.mqtt
    if mqtt.password is None or mqtt.use_tls or is_loopback(mqtt.host):
        return []
    return [f"mqtt.password goes to {mqtt.host} unencrypted: set mqtt.tls.enabled or port 8883."]


def database_cleartext_credentials(settings: Settings) -> list[str]:
    """Return the warnings about a database password that would, or could, cross a network unencrypted."""
    database = settings.database
    local = database.driver == "sqlite" or database.unix_socket is not None or is_loopback(database.host)
    if local or not database.password.get_secret_value():
        return []
    if database.tls.mode == "disabled":
        return [f"database.password goes to {database.host} unencrypted: set database.tls.mode to verify-identity."]
    if database.tls.mode == "preferred":
        doubt = "database.tls.mode is preferred: when the server offers no encryption, there is none"
        return [
            f"database.password may go to {database.host} unencrypted ({doubt}): set database.tls.mode to verify-identity."
        ]
    return []


def is_loopback(host: str) -> bool:
    """Return True when data for `host` stays on this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def unreachable_mappings(settings: Settings) -> Iterator[str]:
    """Yield a sentence for each mapping that receives no message.

    Either no filter in `mqtt.topics` matches its topics, or an earlier mapping takes all of them.
    """
    takers: dict[str, str] = {}
    for mapping in settings.mappings:
        topic = TopicPattern(mapping.topic).filter
        taker = next((name for taken, name in takers.items() if filter_includes(taken, topic)), None)
        if not any(filters_overlap(topic, subscribed) for subscribed in settings.mqtt.topics):
            yield f"The mapping {mapping.name} gets no message: mqtt.topics has nothing of {topic}."
        elif taker is not None:
            yield (
                f"The mapping {mapping.name} gets no message: {taker}, which stands before it, takes all of {topic}. "
                f"Put {mapping.name} first, or give {taker} a `when`."
            )
        if mapping.when is None:
            takers.setdefault(topic, mapping.name)
