"""What people see of mappings: `config check` with a caret, `config show` as YAML."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sensorsync.cli import main

Cli = Callable[..., tuple[int, str, str]]

GOOD = """\
mqtt:
  topics: [home/#]
mappings:
- name: lamp
  topic: home/{room}/lamp
  device_id: {topic: "{room}"}
  event_id: id
  ts: t
  readings:
  - metric: brightness
    value: {path: level, scale: 0.1}
    optional: true
  - {metric: power, value: watt, unit: W}
"""


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Cli]:
    """Run the command line in a folder with this sensorsync.yaml."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    handlers = list(logging.getLogger().handlers)

    def cli(yaml: str, *arguments: str) -> tuple[int, str, str]:
        (tmp_path / "sensorsync.yaml").write_text(yaml, encoding="utf-8")
        return (main(arguments), *capsys.readouterr())

    yield cli
    logging.getLogger().handlers[:] = handlers
    logging.captureWarnings(capture=False)


def test_a_bad_expression_is_shown_with_a_caret_below_it(cli: Cli) -> None:
    code, _, err = cli(GOOD.replace("path: level", "path: 'a.level..x'"), "config", "check")
    assert code == 2
    first, expression, caret, *_ = err.splitlines()
    assert first.startswith("Error: mappings[0].readings[0].value.path: ")
    assert first.endswith("sensorsync.yaml:11).")
    assert (expression, caret) == ("    a.level..x", "            ^")


def test_each_of_several_bad_expressions_has_its_caret(cli: Cli) -> None:
    _, _, err = cli(GOOD.replace("watt", "'w['").replace("event_id: id", "event_id: 'i.'"), "config", "check")
    assert [line for line in err.splitlines() if line.strip() == "^"] == ["      ^", "      ^"]


def test_json_has_the_place_of_the_mistake_in_the_message(cli: Cli) -> None:
    _, out, _ = cli(GOOD.replace("watt", "'w['"), "config", "check", "--json")
    (error,) = json.loads(out)["errors"]
    assert set(error) == {"code", "message", "hint"}
    assert error["message"].startswith(
        "mappings[0].readings[1].value: the expression ends too early at character 3 (from file "
    )


def test_an_expression_cannot_drive_the_terminal(cli: Cli) -> None:
    _, _, err = cli(GOOD.replace("watt", r'"w\e[2J["'), "config", "check")
    assert "\x1b" not in err
    assert r"    w\x1b[2J[" in err


def test_a_topic_level_in_place_of_an_expression_gets_the_right_spelling(cli: Cli) -> None:
    _, _, err = cli(GOOD.replace('{topic: "{room}"}', '"{room}"'), "config", "check")
    assert """Hint: A level of the topic is taken with `topic`, such as {topic: "{device}"}.""" in err


def test_a_question_ends_without_a_full_stop(cli: Cli) -> None:
    _, _, err = cli(GOOD.replace("optional", "optionl"), "config", "check")
    assert err.splitlines()[0].endswith(": did you mean optional?")


def test_config_show_has_mappings_as_one_would_write_them(cli: Cli) -> None:
    code, out, _ = cli(GOOD, "config", "show")
    assert code == 0
    assert out.partition("\nmappings:\n")[2].splitlines()[:9] == [
        "- name: lamp",
        "  topic: home/{room}/lamp",
        "  device_id: {topic: '{room}'}",
        "  event_id:",
        "  - {path: id}",
        "  ts: {path: t}",
        "  readings:",
        "  - metric: {constant: brightness}",
        "    value: {path: level, scale: 0.1}",
    ]
    shown = json.loads(cli(GOOD, "config", "show", "--json")[1])["data"]["settings"]["mappings"]
    assert shown["value"][0]["readings"][1] == {
        "metric": {"constant": "power"},
        "value": {"path": "watt"},
        "unit": {"constant": "W"},
    }


def test_a_mapping_without_a_subscription_is_warned_of(cli: Cli) -> None:
    assert json.loads(cli(GOOD, "config", "check", "--json")[1])["data"]["warnings"] == []
    data = json.loads(cli(GOOD.replace("home/#", "other/#"), "config", "check", "--json")[1])["data"]
    assert data["valid"]
    assert data["warnings"] == ["The mapping lamp gets no message: mqtt.topics has nothing of home/+/lamp."]


def test_a_mapping_behind_one_that_takes_all_of_its_messages_is_warned_of(cli: Cli) -> None:
    second = (
        GOOD.partition("mappings:\n")[2].replace("name: lamp", "name: kitchen").replace("{room}/lamp", "kitchen/lamp")
    )
    both = (GOOD + second).replace('topic: "{room}"', "constant: x")
    data = json.loads(cli(both, "config", "check", "--json")[1])["data"]
    (warning,) = data["warnings"]
    assert warning.startswith(
        "The mapping kitchen gets no message: lamp, which stands before it, takes all of home/kitchen"
    )
    conditional = both.replace("  ts: t\n", "  ts: t\n  when: level\n", 1)
    assert json.loads(cli(conditional, "config", "check", "--json")[1])["data"]["warnings"] == []
