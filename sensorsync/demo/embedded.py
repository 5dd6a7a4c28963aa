"""The embedded broker in a child process: iotcore, which is rumqttd in a wheel.

Its abilities and limits are in docs/explanation/embedded-broker.md. The child is this module, run as `python -m
sensorsync.demo.embedded CONFIG`.
"""
# ruff: noqa: PLC0415 - the broker is an extra: it is imported where it is needed

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from sensorsync.demo.service import Service, accepts_mqtt_connect, free_port
from sensorsync.errors import BrokerError, ConfigurationError

MAX_PAYLOAD_BYTES = 16 << 20
"""Largest payload in bytes. The broker's own default is 20 KiB."""
SEGMENT_BYTES = 16 << 20
MAX_SEGMENTS = 1 << 16
"""Segments of the broker's log, at most.

The broker keeps messages in a log in memory and drops its oldest segment when there are more than these. They are 1 TiB
together, which is never reached. So nothing is ever dropped, and the memory of the machine is the limit.
"""

_CONFIG_TEMPLATE = """\
id = 0

[router]
id = 0
max_connections = 10000
max_outgoing_packet_count = 200
max_segment_size = {segment_size}
max_segment_count = {segments}

[v5.1]
name = "v5-1"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 1

[v5.1.connections]
connection_timeout_ms = 60000
max_payload_size = {max_payload}
max_inflight_count = 100
dynamic_filters = true
"""


class EmbeddedBroker(Service):
    """An MQTT 5 broker on 127.0.0.1 that needs only the extra `demo`. Raises ConfigurationError without it."""

    name = "broker"
    error_class = BrokerError
    start_attempts = 3

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        if find_spec("iotcore") is None:
            raise ConfigurationError(
                "The embedded broker is not installed.",
                hint="pip install 'sensorsync[demo]' (with pipx: pipx inject sensorsync iotcore), or use --broker mosquitto.",
            )
        self.port = 0

    @property
    def label(self) -> str:
        """The name of the product, for people."""
        return f"embedded (iotcore {version('iotcore')})"

    async def prepare(self) -> Sequence[str]:
        self.port = free_port()
        config = self.folder / "broker.toml"
        config.write_text(
            _CONFIG_TEMPLATE.format(
                port=self.port, segment_size=SEGMENT_BYTES, segments=MAX_SEGMENTS, max_payload=MAX_PAYLOAD_BYTES
            ),
            encoding="utf-8",
        )
        return [sys.executable, "-m", "sensorsync.demo.embedded", str(config)]

    def is_ready(self) -> bool:
        return accepts_mqtt_connect(self.port)


def main(config: str) -> None:
    """Run the broker until it is killed."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # rumqttd puts each packet into an error-level span. A line for every one of them would be most of its work.
    logging.getLogger("rumqttd").setLevel(logging.CRITICAL)
    from iotcore import Broker

    Broker(config_path=config).run_forever()


if __name__ == "__main__":
    main(sys.argv[1])
