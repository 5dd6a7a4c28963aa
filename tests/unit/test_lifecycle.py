"""Back-off, soft stop and hard stop."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorsync.errors import ConfigurationError
from sensorsync.lifecycle import Backoff, SoftStop, allow_open_files


def test_the_delays_double_up_to_the_maximum_and_begin_again_after_a_success() -> None:
    backoff = Backoff(0.1, 1.0, random_unit=lambda: 1.0)

    assert [backoff.next() for _ in range(6)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
    backoff.reset()
    assert backoff.next() == pytest.approx(0.1)


@given(st.floats(0.001, 10), st.floats(10, 1000), st.integers(1, 2000))
def test_every_delay_lies_between_half_the_step_and_the_maximum(minimum: float, maximum: float, attempts: int) -> None:
    backoff = Backoff(minimum, maximum)
    delay = [backoff.next() for _ in range(min(attempts, 50))][-1]

    assert minimum / 2 <= delay <= maximum


def test_the_first_signal_asks_to_stop_and_the_first_reason_counts() -> None:
    async def scenario() -> None:
        with SoftStop() as stop:
            assert not stop.asked
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(stop.wait(), 5)
            stop.ask("idle")
            assert stop.reason == "SIGTERM"

    asyncio.run(scenario())


SECOND_SIGNAL = """
import asyncio, os, signal, threading
from sensorsync.lifecycle import SoftStop
async def main():
    with SoftStop() as stop:
        print("ready", flush=True)
        await stop.wait()
        print("asked", flush=True)
        await asyncio.to_thread(threading.Event().wait)  # a thread that hangs for good
asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_signal_kills_even_if_a_thread_hangs(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", SECOND_SIGNAL], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.readline() == "asked\n"
        process.send_signal(number)
        assert process.wait(10) == -number


@pytest.mark.parametrize(
    ("limits", "needed", "after"),
    [((256, 4096), 2064, 2064), ((256, 4096), 4096, 4096), ((3000, 4096), 2064, 3000), ((256, -1), 10**6, 10**6)],
)
def test_the_limit_of_open_files_is_raised_when_it_is_too_low(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], needed: int, after: int
) -> None:
    present = [limits]
    monkeypatch.setattr(resource, "getrlimit", lambda _: present[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, changed: present.append(changed))
    allow_open_files(needed)
    assert present[-1] == (after, limits[1])


def test_a_hard_limit_of_open_files_that_is_too_low_names_ulimit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 1024))
    with pytest.raises(ConfigurationError, match=r"2064 open files .* 1024 \(ulimit -Hn\)") as caught:
        allow_open_files(2064)
    assert "ulimit -n 2064" in str(caught.value.hint)
