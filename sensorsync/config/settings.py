"""The model `Settings`: the single definition of every key, assembled from its sections.

pydantic-settings is not used. It has no origin for each value, no line numbers and no suggestions, and a person needs mostly these
when a setting is wrong. The package `config.loading` provides them with python-dotenv and PyYAML.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import model_validator

from sensorsync.config.sections.database import DatabaseSettings
from sensorsync.config.sections.dead_letters import DeadLetterSettings
from sensorsync.config.sections.fields import FilePath, Section, section, setting
from sensorsync.config.sections.log import LogSettings
from sensorsync.config.sections.mappings import EXAMPLE_MAPPINGS, MappingSettings
from sensorsync.config.sections.metrics import MetricsSettings
from sensorsync.config.sections.mqtt import MqttSettings
from sensorsync.config.sections.pipeline import PipelineSettings
from sensorsync.config.sections.publish import PublishSettings
from sensorsync.config.sections.reading import ReadingSettings
from sensorsync.config.sections.security import SecuritySettings
from sensorsync.config.sections.validation import raise_for_issues
from sensorsync.messages.reading.rows import TargetTable

ROOTS_STATE_DIR = Path("/var/lib/sensorsync")


def default_state_dir(environ: Mapping[str, str]) -> Path:
    """Return `$XDG_STATE_HOME/sensorsync`, else /var/lib/sensorsync for root and ~/.local/state/sensorsync for others."""
    if xdg := environ.get("XDG_STATE_HOME"):
        return Path(xdg) / "sensorsync"
    if os.geteuid() == 0:
        return ROOTS_STATE_DIR
    return Path(environ.get("HOME") or Path.home()) / ".local" / "state" / "sensorsync"


class Settings(Section):
    """All settings of sensorsync, validated, frozen."""

    mqtt: MqttSettings = section(MqttSettings)
    database: DatabaseSettings = section(DatabaseSettings)
    pipeline: PipelineSettings = section(PipelineSettings)
    dead_letters: DeadLetterSettings = section(DeadLetterSettings)
    reading: ReadingSettings = section(ReadingSettings)
    security: SecuritySettings = section(SecuritySettings)
    publish: PublishSettings = section(PublishSettings)
    metrics: MetricsSettings = section(MetricsSettings)
    log: LogSettings = section(LogSettings)
    state_dir: FilePath = setting(
        doc="Folder for what must outlive a run: dead letters, the registry of sessions.",
        example="/var/lib/sensorsync",
        default_factory=lambda _: default_state_dir(os.environ),
        default_text="$XDG_STATE_HOME/sensorsync, ~/.local/state/sensorsync, for root /var/lib/sensorsync",
    )
    mappings: tuple[MappingSettings, ...] = setting(
        (),
        doc="For messages that are not in sensorsync's own format: which messages, and what becomes of them. They are tried in order, "
        "the first that a message is for decides; what none is for is read in our own format. Add their topics to `mqtt.topics`.",
        example=EXAMPLE_MAPPINGS,
        default_text="none",
    )

    @property
    def dead_letter_path(self) -> Path:
        """Path of the dead-letter box: `dead_letters.path`, or `dead-letters.sqlite` in `state_dir`."""
        return self.dead_letters.path or self.state_dir / "dead-letters.sqlite"

    @property
    def target_tables(self) -> tuple[TargetTable, ...]:
        """Tables that the mappings write to, besides `sensor_readings`."""
        if not self.mappings:
            return ()
        from sensorsync.config.sections.mapping_specifications import target_tables  # noqa: PLC0415 - see _validate_mappings

        return target_tables(self.mappings)

    @model_validator(mode="after")
    def _validate_mappings(self) -> Self:
        if self.mappings:
            # The engine loads JMESPath and all formats. Most configurations have no mappings and do not have to wait for it.
            from sensorsync.config.sections.mapping_specifications import cross_mapping_issues  # noqa: PLC0415

            raise_for_issues(self, cross_mapping_issues(self.mappings, self.reading, max_age=self.security.max_age))
        return self

    @model_validator(mode="after")
    def _validate_timeouts(self) -> Self:
        if self.database.read_timeout >= self.pipeline.stop_timeout:
            raise ValueError(
                "database.read_timeout must be below pipeline.stop_timeout: a stop has to wait for the last answer of the database"
            )
        return self
