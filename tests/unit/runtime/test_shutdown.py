"""The graceful and the immediate stop."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from sensorsync.runtime.shutdown import GracefulShutdown


def test_the_first_signal_requests_a_stop_and_the_first_reason_counts() -> None:
    async def scenario() -> None:
        with GracefulShutdown() as stop:
            assert not stop.requested
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(stop.wait(), 5)
            stop.request("idle")
            assert stop.reason == "SIGTERM"

    asyncio.run(scenario())


SECOND_SIGNAL = """
import asyncio, os, signal, threading
from sensorsync.runtime.shutdown import GracefulShutdown
async def main():
    with GracefulShutdown() as stop:
        print("ready", flush=True)
        await stop.wait()
        print("asked", flush=True)
        await asyncio.to_thread(threading.Event().wait)  # a thread that hangs for good
asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_ends_the_process_even_if_a_thread_hangs(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", SECOND_SIGNAL], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.readline() == "asked\n"
        process.send_signal(number)
        assert process.wait(10) == -number
