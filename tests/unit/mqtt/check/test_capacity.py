"""What a delivery window allows with the settings as they are."""

from __future__ import annotations

from typing import Any

import pytest

from sensorsync.config import Settings
from sensorsync.mqtt.check.capacity import ASSUMED_COMMIT_SECONDS, MeasuredWindow, estimate_throughput
from sensorsync.mqtt.check.report import StepFailed, StepOutput


def reckoned(
    size: int, *, at_least: bool = False, stated: int = 4000, granted: int = 65535, **values: Any
) -> StepOutput:
    return estimate_throughput(
        MeasuredWindow(size, at_least=at_least, receive_maximum=stated),
        Settings.model_validate(values),
        rtt=0.01,
        granted_receive_maximum=granted,
    )


def test_a_wide_window_needs_the_least_connections_of_auto() -> None:
    found = reckoned(4000)

    assert (found.facts["connections"], found.facts["in_flight"], found.warnings) == (16, 4000, ())
    assert found.facts["messages_per_second"] == round(4000 / (0.01 + ASSUMED_COMMIT_SECONDS))


def test_the_default_of_emqx_is_filled_up_by_connections_and_still_tight() -> None:
    found = reckoned(32, granted=32)

    assert (found.facts["connections"], found.facts["in_flight"]) == (64, 64 * 32)
    (concern,) = found.warnings
    assert concern.cause.key == "window_tight"
    assert "mqtt.max_connections: 125" in concern.detail


def test_the_broker_s_own_statement_decides_how_many_connections_are_opened_at_first() -> None:
    assert reckoned(1000, at_least=True, granted=20).facts["connections"] == 64


def test_processes_multiply() -> None:
    one, three = reckoned(4000), reckoned(4000, pipeline={"processes": 3})

    assert three.facts["in_flight"] == 3 * one.facts["in_flight"]
    assert three.facts["messages_per_second"] == pytest.approx(3 * one.facts["messages_per_second"], rel=1e-3)


@pytest.mark.parametrize(
    ("mqtt", "remedy"),
    [
        ({"connections": 1}, "mqtt.connections: 32"),
        ({"max_connections": 8}, "mqtt.max_connections: 32"),
        ({"connections": 2, "receive_maximum": 32}, "more than mqtt.receive_maximum: 32"),
    ],
)
def test_a_window_below_one_batch_fails_with_the_setting_to_change(mqtt: dict[str, Any], remedy: str) -> None:
    with pytest.raises(StepFailed) as failed:
        reckoned(32, granted=32, mqtt=mqtt)

    assert failed.value.problem.cause.key == "window_too_small"
    assert remedy in failed.value.problem.detail
    assert failed.value.facts["window"] == 32


def test_fewer_connections_than_the_least_of_auto_are_never_advised() -> None:
    with pytest.raises(StepFailed) as failed:
        reckoned(32, mqtt={"connections": 1}, pipeline={"batch_size": 100})

    assert "mqtt.connections: 16" in failed.value.problem.detail  # four would hold the batch


def test_a_smaller_batch_fits_into_a_smaller_window() -> None:
    assert reckoned(32, mqtt={"connections": 1}, pipeline={"batch_size": 8, "workers": 2}).warnings == ()
