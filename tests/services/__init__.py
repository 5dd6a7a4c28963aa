"""Brokers and databases as private processes that a test may start, kill, freeze and bring back.

Each one listens on 127.0.0.1 on a port of its own, keeps its data in a temporary folder, and is ready when a real connection works.
All of them die with the test process, however that ends.
"""

from __future__ import annotations

from tests.services.certificates import Certificates
from tests.services.database import DatabaseServer, is_oracle_mysql
from tests.services.mosquitto import Mosquitto
from tests.services.process import Server, eventually, free_port

__all__ = ["Certificates", "DatabaseServer", "Mosquitto", "Server", "eventually", "free_port", "is_oracle_mysql"]
