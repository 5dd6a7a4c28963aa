"""The settings: models, and how their values are found."""

from __future__ import annotations

from sensorsync.config.broker import MqttSettings, PublishSettings, TlsSettings
from sensorsync.config.loading import Loaded, load
from sensorsync.config.messages import KeySettings, ReadingSettings, SecuritySettings
from sensorsync.config.models import LogSettings, Settings
from sensorsync.config.storage import DatabaseSettings, DatabaseTlsSettings, DeadLetterSettings, PipelineSettings

__all__ = [
    "DatabaseSettings",
    "DatabaseTlsSettings",
    "DeadLetterSettings",
    "KeySettings",
    "Loaded",
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
