"""`map` from the command line to what is printed, without a broker; `--live` is in tests/integration/test_map.py."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sensorsync.commands.map import MAX_PAYLOAD_BYTES
from sensorsync.config.loading import yaml_file
from sensorsync.console.map import render
from sensorsync.messages.envelope import Key, envelope_encoder
from tests.in_process import Ended, run_here

CONFIG = """
mqtt:
  topics: ["zigbee/#", "lora/#", "plant/#"]
mappings:
  - name: zigbee
    topic: zigbee/{device}
    device_id: {topic: "{device}"}
    event_id: seen
    ts: seen
    readings:
      - {metric: temperature, value: {path: t, type: number}, unit: C}
      - {metric: contact, value: contact, optional: true}
  - name: uplinks
    topic: lora/{device}
    when: "type == 'up'"
    device_id: {topic: "{device}"}
    event_id: id
    ts: at
    metric: rssi
    value: rssi
  - name: machines
    topic: plant/{machine}
    table:
      name: machine_state
      key: [machine, at]
      columns:
        machine: {topic: "{machine}"}
        at: {path: at, type: time}
        id: {property: id, type: id}
        celsius: {path: t, type: number}
"""
SEEN = "2026-03-01T06:15:42.5Z"


class Cli:
    """`sensorsync map` with the configuration above."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.config = folder / "config.yaml"
        self.config.write_text(CONFIG)
        self._capsys = capsys

    def __call__(self, *words: str) -> Ended:
        return run_here(self._capsys, "--config", str(self.config), "--log-level", "ERROR", "map", *words)

    def message(self, topic: str, payload: object, *words: str) -> Ended:
        """One message."""
        text = payload if isinstance(payload, str) else json.dumps(payload)
        return self("--topic", topic, "--payload", text, *words)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(yaml_file, "SYSTEM_FILE", tmp_path / "none")
    return Cli(tmp_path, capsys)


def lines(ended: Ended) -> list[str]:
    return [line.rstrip() for line in ended.out.splitlines()]


# -- what becomes of a message ---------------------------------------------------------------------------------------------


def test_the_rows_of_a_message_are_a_table_under_the_mapping_that_took_it(cli: Cli) -> None:
    ended = cli.message("zigbee/kitchen", {"t": 21.5, "contact": "open", "seen": SEEN})
    topic, payload, fate, head, first, second, _, sums = lines(ended)
    assert (ended.code, ended.err) == (0, "")
    assert topic == "zigbee/kitchen"
    assert json.loads(payload) == {"t": 21.5, "contact": "open", "seen": SEEN}
    assert fate == "  mapping zigbee: 2 rows"
    assert head.split() == ["#", "device_id", "metric", "ts", "value", "unit", "event_id"]
    assert first.split()[:6] == ["0", "kitchen", "temperature", SEEN, "21.5", "C"]
    assert second.split()[:6] == ["1", "kitchen", "contact", SEEN, '"open"', "-"]
    assert sums == "1 message: 2 rows. Nothing was stored."


def test_what_is_rejected_has_its_index_and_the_rest_is_shown(cli: Cli) -> None:
    ended = cli.message("zigbee/kitchen", {"t": "warm", "contact": "open", "seen": SEEN})
    assert ended.code == 5
    assert "  mapping zigbee: 1 row, 1 rejected" in lines(ended)
    assert any(line.startswith("  rejected [0], value: zigbee: ") for line in lines(ended))
    assert lines(ended)[-1] == "1 message: 1 row, 1 message would be parked. Nothing was stored."
    assert "1 of 1 messages would be parked as dead letters (value 1)" in ended.err


def test_a_row_of_a_target_table_has_the_columns_of_that_table(cli: Cli) -> None:
    words = ("--property", "id=00000000-0000-0000-0000-000000000001", "--property", "id=later", "--content-type", "a/b")
    ended = cli.message("plant/press", {"t": 60, "at": SEEN}, *words)
    assert lines(ended)[3:6] == [
        "  table machine_state",
        "  machine  at                      id                                    celsius",
        f"  press    {SEEN}  00000000-0000-0000-0000-000000000001  60",
    ]
    (message,) = cli.message("plant/press", {"t": 60, "at": SEEN}, *words, "--json").data["messages"]
    columns = {"machine": "press", "at": SEEN, "id": "00000000-0000-0000-0000-000000000001", "celsius": 60}
    assert message["rows"] == [{"index": 0, "repeats": None, "table": "machine_state", "columns": columns}]


def test_a_condition_that_does_not_hold_shows_what_the_message_has_instead(cli: Cli) -> None:
    ended = cli.message("lora/7", {"type": "join", "id": "1"})
    assert ended.code == 5
    assert lines(ended)[2:6] == [
        "  no mapping is for it, so it is taken as a plain reading: 1 rejected",
        "    not for mapping uplinks: its condition is false, when: type == 'up'; the message has type, id",
        "    not for mapping zigbee: its topic is zigbee/{device}",
        "    not for mapping machines: its topic is plant/{machine}",
    ]


def test_a_plain_reading_without_any_mapping_is_called_that(cli: Cli) -> None:
    cli.config.write_text("mqtt: {topics: [other]}\n")
    reading = {"event_id": "1", "device_id": "d", "metric": "m", "ts": SEEN, "value": True}
    ended = cli.message("a/b", reading)
    assert ended.code == 0
    assert "  plain reading (no mappings are configured): 1 row" in lines(ended)
    assert lines(ended)[-1] == "Note: `subscribe` does not get these topics, they are not in mqtt.topics: a/b"
    (message,) = cli.message("a/b", reading, "--json").data["messages"]
    assert message["subscribed"] is False
    assert message["rows"][0]["columns"]["event_id"] == "c323113a-d4e6-5a17-b132-efc314940146"
    assert (message["rows"][0]["columns"]["ts"], message["rows"][0]["columns"]["value"]) == (SEEN, 1.0)


def test_signed_messages_are_opened_like_in_subscribe(cli: Cli) -> None:
    secret = "s" * 32
    cli.config.write_text(f"{CONFIG}\nsecurity: {{signatures: required, keys: [{{id: k, secret: {secret}}}]}}\n")
    payload = json.dumps({"t": 21.5, "seen": SEEN}).encode()
    seal = envelope_encoder(Key("k", secret.encode(), "HS256"), None)
    assert seal is not None
    assert "  mapping zigbee: 1 row" in lines(cli.message("zigbee/kitchen", seal(payload).decode()))
    assert "  no mapping was asked: 1 rejected" in lines(cli.message("zigbee/kitchen", payload.decode()))
    unsigned = cli.message("zigbee/kitchen", payload.decode(), "--json")
    (message,) = unsigned.data["messages"]
    assert unsigned.code == 5
    assert (message["mapping"], message["passed_over"]) == (None, [])
    assert [part["reason"] for part in message["rejected"]] == ["signature"]


# -- where messages are from -----------------------------------------------------------------------------------------------


def test_a_payload_can_be_a_file_or_standard_input(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    payload = json.dumps({"t": 21.5, "seen": SEEN}).encode()
    Path("p.json").write_bytes(payload)
    assert cli("--topic", "zigbee/a", "--payload-file", "p.json", "--json").data["rows"] == 1
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(payload)))
    assert cli("--topic", "zigbee/a", "--payload-file", "-", "--json").data["rows"] == 1


def test_a_payload_that_no_broker_would_bring_is_refused(cli: Cli) -> None:
    Path("p").write_bytes(b" " * (MAX_PAYLOAD_BYTES + 1))
    ended = cli("--topic", "a", "--payload-file", "p")
    assert ended.code == 2
    assert f"--payload-file: it has more than {MAX_PAYLOAD_BYTES} bytes" in ended.err


def test_a_file_of_samples_names_its_lines_the_bad_ones_too(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    good = json.dumps({"topic": "zigbee/kitchen", "payload": {"t": 21.5, "seen": SEEN}})
    content = f"{good}\n\n{{\n{good.replace('kitchen', 'hall')}\n"
    Path("samples.jsonl").write_text(content)
    ended = cli("--file", "samples.jsonl")
    assert ended.code == 5
    assert [line for line in lines(ended) if line.startswith("line ")] == [
        "line 1: zigbee/kitchen",
        "line 4: zigbee/hall",
        "line 3 is no sample: it is not JSON: Expecting property name enclosed in double quotes (character 2)",
    ]
    assert lines(ended)[-1] == "2 messages: 2 rows, 1 bad line. Nothing was stored."
    assert "1 line of the file is no sample and was left out: line 3" in ended.err
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
    assert cli("--file", "-", "--json").data["bad_lines"] == [
        {"line": 3, "message": ended.out.split("sample: ")[1].splitlines()[0]}
    ]


def test_rows_with_one_key_are_pointed_out_for_only_one_of_them_stays(cli: Cli) -> None:
    def line(topic: str, **payload: object) -> str:
        return json.dumps({"topic": topic, "payload": payload}) + "\n"

    kitchen, press = line("zigbee/kitchen", t=1, contact="on", seen=SEEN), line("plant/press", t=60, at=SEEN)
    Path("samples.jsonl").write_text(
        kitchen + press + line("zigbee/hall", t=1, seen=SEEN) + kitchen + line("plant/press", at=SEEN)
    )
    ended = cli("--file", "samples.jsonl")
    assert [line.strip() for line in lines(ended) if "the same key" in line] == [
        "row [0] has the same key as row [0] of line 1: only one of them stays",
        "row [1] has the same key as row [1] of line 1: only one of them stays",
        "row has the same key as row [0] of line 2: only one of them stays",
    ]
    assert lines(ended)[-1] == "5 messages: 7 rows (3 with the key of an earlier one). Nothing was stored."
    messages = cli("--file", "samples.jsonl", "--json").data["messages"]
    assert [row["repeats"] for row in messages[3]["rows"]] == [{"message": 0, "index": 0}, {"message": 0, "index": 1}]


def test_an_empty_file_of_samples_is_incomplete(cli: Cli) -> None:
    Path("samples.jsonl").write_text("\n")
    ended = cli("--file", "samples.jsonl")
    assert ended.code == 5
    assert "no message" in ended.err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "There is no message to look at"),
        (["--topic", "a"], "There is no message to look at"),
        (["--payload", "1"], "A message has one topic"),
        (["--topic", "a", "--topic", "b", "--payload", "1"], "A message has one topic"),
        (["--topic", "a/#", "--payload", "1"], "--topic: a topic to publish to has no + and no #"),
        (["--topic", "a", "--payload", "1", "--live", "3"], "--payload and --live exclude each other"),
        (["--topic", "a", "--file", "x.jsonl"], "--topic does not go with --file"),
        (["--file", "nowhere.jsonl"], "cannot read nowhere.jsonl: No such file or directory"),
        (["--topic", "a", "--payload-file", "nowhere"], "cannot read nowhere: No such file or directory"),
        (["--live", "3", "--property", "a=b"], "--property and --content-type go with --payload"),
        (["--topic", "a", "--payload", "1", "--property", "a"], "--property: 'a' is not NAME=VALUE"),
        (["--live", "0"], "--live"),
        (["--live", "1", "--timeout", "soon"], "--timeout: not a duration"),
    ],
)
def test_a_command_line_with_too_little_or_too_much_is_refused(cli: Cli, words: list[str], complaint: str) -> None:
    ended = cli(*words)
    assert (ended.code, ended.out) == (2, "")
    assert complaint in ended.err


# -- on a screen -----------------------------------------------------------------------------------------------------------


def drawn(data: dict[str, Any], width: int) -> list[str]:
    out = io.StringIO()
    render(data, Console(file=out, width=width, highlight=False))
    return out.getvalue().splitlines()


def test_on_a_narrow_screen_ids_are_shortened_and_times_and_numbers_are_not(cli: Cli) -> None:
    data = cli.message("zigbee/kitchen-window", {"t": 21.5, "seen": SEEN}, "--json").data
    shown = drawn(data, 80)
    assert all(len(line) <= 80 for line in shown)
    row = next(line.split() for line in shown if "temperature" in line)
    assert row[:5] == ["kitchen-window", "temperature", SEEN, "21.5", "C"]
    assert row[5] == f"{data['messages'][0]['rows'][0]['columns']['event_id'][:8]}…"


def test_where_not_even_that_fits_the_id_is_left_out_and_nothing_else(cli: Cli) -> None:
    data = cli.message("zigbee/the-window-above-the-door-of-the-kitchen", {"t": 21.5, "seen": SEEN}, "--json").data
    shown = drawn(data, 60)
    rows = shown[next(place for place, line in enumerate(shown) if "device_id" in line) + 1 : -1]
    assert "event_id" not in "".join(shown)
    assert not any("…" in line for line in rows)
    assert SEEN in "".join(rows)


def test_on_a_narrow_screen_the_columns_of_a_target_table_are_one_below_the_other(cli: Cli) -> None:
    data = cli.message(
        "plant/press", {"t": 60, "at": SEEN}, "--property", f"id={'0' * 8}-0000-0000-0000-{'0' * 12}", "--json"
    ).data
    shown = [line.split() for line in drawn(data, 60)]
    assert ["at", SEEN] in shown
    assert ["id", "00000000-0000-0000-0000-000000000000"] in shown
    assert ["celsius", "60"] in shown


def test_nothing_in_a_message_acts_on_the_terminal(cli: Cli) -> None:
    evil = "\x1b[2J\x07[red]"
    data = cli.message(
        "zigbee/a", json.dumps({"t": 1, "contact": evil, "seen": SEEN}, ensure_ascii=False), "--json"
    ).data
    data["messages"][0]["topic"] += evil
    data["messages"][0]["payload"] = evil
    data["bad_lines"] = [{"line": 1, "message": evil}]
    shown = "\n".join(drawn(data, 300))
    assert "\x1b[2J" not in shown
    assert "\x07" not in shown
    assert "[red]" in shown


def test_of_many_mappings_for_other_topics_only_some_are_named(cli: Cli) -> None:
    mappings = "".join(
        f"- {{name: m{n}, topic: x/{n}, device_id: d, event_id: e, ts: t, metric: m, value: v}}\n" for n in range(9)
    )
    cli.config.write_text(f"mappings:\n{mappings}")
    named = [line.strip() for line in lines(cli.message("y", "1")) if line.startswith("    ")]
    assert named == [
        *(f"not for mapping m{n}: its topic is x/{n}" for n in range(5)),
        "nor for 4 more, which have other topics",
    ]
