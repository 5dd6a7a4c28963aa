"""A private mosquitto from the PATH."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from sensorsync.demo.service import Service, accepts_mqtt_connect, find_program, free_port
from sensorsync.errors import BrokerError, ConfigurationError


class MosquittoBroker(Service):
    """A mosquitto on 127.0.0.1 that queues without bound and keeps sessions over a restart.

    By default mosquitto queues 1000 messages per session and drops further ones, although it has acknowledged them.
    Raises ConfigurationError when there is no mosquitto.
    """

    name = "mosquitto"
    error_class = BrokerError
    start_attempts = 3

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        program = find_program("mosquitto")
        if program is None:
            raise ConfigurationError(
                "There is no mosquitto on the PATH.",
                hint="Install it (Debian: apt-get install mosquitto), or leave out --broker mosquitto.",
            )
        self._program = program
        self.port = 0

    @property
    def label(self) -> str:
        """The name of the product, for people."""
        return "mosquitto"

    async def prepare(self) -> Sequence[str]:
        self.port = free_port()
        lines = [
            f"listener {self.port} 127.0.0.1",
            "allow_anonymous true",
            "max_queued_messages 0",
            "persistence true",
            f"persistence_location {self.folder}/",
            "log_dest stderr",
        ]
        if os.geteuid() == 0:
            lines.append(
                "user root"
            )  # else it drops root privileges, cannot read this folder, and loses its parent-death signal
        config = self.folder / "mosquitto.conf"
        config.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return [self._program, "-c", str(config)]

    def is_ready(self) -> bool:
        return accepts_mqtt_connect(self.port)
