"""Private services of one run on this machine: a broker, a database, our own commands as children; all die with us."""

from __future__ import annotations

from sensorsync.private.child import Child
from sensorsync.private.embedded import EmbeddedBroker
from sensorsync.private.mosquitto import MosquittoBroker
from sensorsync.private.mysqld import MysqlServer
from sensorsync.private.sandbox import CommandFailed, Record, Sandbox, envelope_failed, problems_of
from sensorsync.private.service import Service
from sensorsync.private.subscriber import SubscriberLog
from sensorsync.private.subscribers import Subscribers

__all__ = [
    "Child",
    "CommandFailed",
    "EmbeddedBroker",
    "MosquittoBroker",
    "MysqlServer",
    "Record",
    "Sandbox",
    "Service",
    "SubscriberLog",
    "Subscribers",
    "envelope_failed",
    "problems_of",
]
