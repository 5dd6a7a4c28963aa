"""The models of the settings, and the loader that finds their values."""

from __future__ import annotations

from sensorsync.config.loading.loader import LoadedSettings, load
from sensorsync.config.sections.database import DatabaseSettings, DatabaseTlsSettings
from sensorsync.config.sections.dead_letters import DeadLetterSettings
from sensorsync.config.sections.log import LogSettings
from sensorsync.config.sections.mqtt import MqttSettings, TlsSettings
from sensorsync.config.sections.pipeline import PipelineSettings
from sensorsync.config.sections.publish import PublishSettings
from sensorsync.config.sections.reading import ReadingSettings
from sensorsync.config.sections.security import KeySettings, SecuritySettings
from sensorsync.config.settings import Settings

__all__ = [
    "DatabaseSettings",
    "DatabaseTlsSettings",
    "DeadLetterSettings",
    "KeySettings",
    "LoadedSettings",
    "LogSettings",
    "MqttSettings",
    "PipelineSettings",
    "PublishSettings",
    "ReadingSettings",
    "SecuritySettings",
    "Settings",
    "TlsSettings",
    "load",
]
