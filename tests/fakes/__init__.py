"""Scriptable stand-ins for what is at the other end of a socket: a broker, and a network that misbehaves."""

from __future__ import annotations

from tests.fakes.answering import Answering
from tests.fakes.broker import FakeBroker
from tests.fakes.proxy import Fault, MySqlProxy, TcpProxy
from tests.fakes.session import Message, Seen, Session
from tests.fakes.thread import InThread

__all__ = ["Answering", "FakeBroker", "Fault", "InThread", "Message", "MySqlProxy", "Seen", "Session", "TcpProxy"]
