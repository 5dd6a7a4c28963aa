"""Which mappings never get a message: what people forget, or put in the wrong order."""

from __future__ import annotations

from collections.abc import Iterator

from sensorsync.config.models import Settings
from sensorsync.config.topics import includes, overlap
from sensorsync.mapping.topics import TopicPattern


def idle_mappings(settings: Settings) -> Iterator[str]:
    """A sentence for each mapping of topics that nobody subscribes to, or that an earlier mapping takes all of."""
    takers: dict[str, str] = {}
    for mapping in settings.mappings:
        topic = TopicPattern(mapping.topic).filter
        taker = next((name for taken, name in takers.items() if includes(taken, topic)), None)
        if not any(overlap(topic, subscribed) for subscribed in settings.mqtt.topics):
            yield f"The mapping {mapping.name} gets no message: mqtt.topics has nothing of {topic}."
        elif taker is not None:
            yield (
                f"The mapping {mapping.name} gets no message: {taker}, which stands before it, takes all of {topic}. "
                f"Put {mapping.name} first, or give {taker} a `when`."
            )
        if mapping.when is None:
            takers.setdefault(topic, mapping.name)
