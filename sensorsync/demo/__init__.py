"""Private services of one run on this machine: a broker, a database, and our own commands as children.

All of them are killed when this process dies.
"""

from __future__ import annotations

from sensorsync.demo.child import Child
from sensorsync.demo.embedded import EmbeddedBroker
from sensorsync.demo.mosquitto import MosquittoBroker
from sensorsync.demo.mysqld import MysqlServer
from sensorsync.demo.sandbox import CommandFailed, JsonObject, Sandbox, failure_from_envelope, problems_from_envelope
from sensorsync.demo.service import Service
from sensorsync.demo.subscriber import SubscriberLog
from sensorsync.demo.subscribers import Subscribers

__all__ = [
    "Child",
    "CommandFailed",
    "EmbeddedBroker",
    "JsonObject",
    "MosquittoBroker",
    "MysqlServer",
    "Sandbox",
    "Service",
    "SubscriberLog",
    "Subscribers",
    "failure_from_envelope",
    "problems_from_envelope",
]
