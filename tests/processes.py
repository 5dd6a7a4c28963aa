"""Looking at the processes of a supervised subscriber from outside, and at what a broker keeps for them."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mqtt5

from tests.services import eventually


def children(pid: int) -> dict[int, int]:
    """Process number -> process id of the subscriber's processes that run now."""
    found: dict[int, int] = {}
    try:
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return found
    for child in listed:
        try:
            line = Path(f"/proc/{child}/cmdline").read_bytes().decode()
        except OSError:
            continue
        if match := re.search(r"--process\0(\d+)\0", line):
            found[int(match[1])] = int(child)
    return found


def lives(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def all_gone(pids: Mapping[int, int], seconds: float = 60.0) -> None:
    """Return once none of these processes runs."""
    eventually(lambda: not any(map(lives, pids.values())), f"the end of {pids}", seconds)


def events(log: Path, name: str, **fields: object) -> list[dict[str, Any]]:
    """The log records of one event that have these fields, in order."""
    records = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{") and line.endswith("}")]
    return [record for record in records if record["event"] == name and fields.items() <= record.items()]


def registries(state: Path) -> list[str]:
    """The names of the session registries."""
    return sorted(path.name for path in (state / "sessions").glob("*.json"))


def session_is_kept(port: int, client_id: str) -> bool:
    """Whether the broker has a session of this client. It has none afterwards."""
    packet = mqtt5.ConnectPacket(client_id, clean_start=False, session_expiry_interval=0)
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(packet.write())
        data = b""
        while True:
            data += connection.recv(4096)
            try:
                answer, _ = mqtt5.read(memoryview(data))
            except IndexError:
                continue
            break
        connection.sendall(mqtt5.DisconnectPacket().write())
    assert isinstance(answer, mqtt5.ConnAckPacket)
    return bool(answer.session_present)
