"""Texts from outside, devices, brokers and databases, as people see them: nothing in them acts on a terminal or forges a line."""

from __future__ import annotations

import json
import logging
import sys
import unicodedata
from pathlib import Path

import mqtt5
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sensorsync.cli import main
from sensorsync.console import logs
from sensorsync.console.escape import printable
from sensorsync.pipeline.contract import DeadLetter
from tests.fakes import Answering, InThread
from tests.letters import ARRIVAL, in_box, park

EVIL = "\x1b]0;owned\x07\x1b[2J\r\nERROR forged\u202e\u2028\u061c\U000e0041\x9b31m\x7f [red]%s {} %(x)s {0.__class__}"
JOINERS = frozenset("\u200c\u200d")
"""Some scripts and many emoji need them; they hide nothing."""
log = logging.getLogger("sensorsync.somewhere")


def harmless(text: str) -> bool:
    """Whether a terminal shows it as it stands, in the order in which it stands."""
    return not any(acts(character) for character in text.replace("\n", ""))


def acts(character: str) -> bool:
    category, direction = unicodedata.category(character), unicodedata.bidirectional(character)
    turns = direction in {"LRE", "RLE", "PDF", "LRO", "RLO", "LRI", "RLI", "FSI", "PDI"}
    return (
        turns or category in {"Cc", "Cs", "Zl", "Zp"} or character in "\u061c\u200b\u200e\u200f\u2060\ufeff\U000e0041"
    )


# -- escaping ------------------------------------------------------------------------------------------------------------


def test_no_character_of_unicode_acts_once_it_is_printable_and_the_others_stay() -> None:
    for number in (*range(0x11000), *range(0x1F300, 0x1F700), *range(0xE0000, 0xE0200), sys.maxunicode):
        character = chr(number)
        shown = printable(character)
        assert shown == character or shown.isascii(), hex(number)
        assert harmless(shown), hex(number)
        if character.isprintable() or character in JOINERS:
            assert shown == character, hex(number)


@given(st.text())
def test_what_is_printable_is_one_line_and_stays_as_it_is(text: str) -> None:
    shown = printable(text)
    assert len(shown.splitlines()) <= 1
    assert printable(shown) == shown


# -- logs ----------------------------------------------------------------------------------------------------------------


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(), st.sampled_from(["text", "json"]))
def test_any_text_in_a_message_an_argument_a_field_or_an_error_is_one_record(
    capsys: pytest.CaptureFixture[str], text: str, form: str
) -> None:
    logs.configure("INFO", form)
    try:
        raise ValueError(text)  # noqa: TRY301 - an error to log
    except ValueError:
        log.exception("%s", text, extra={"event": text, "topic": text, "nested": {text: [text]}})
    first, *others = capsys.readouterr().err.split("\n")
    assert harmless(first)
    assert all(harmless(line) for line in others)
    if form == "json":
        assert others == [""]
        assert json.loads(first)["topic"] == text
    else:
        assert all(line.startswith("    ") for line in others if line)


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_format_in_a_text_from_outside_formats_nothing(capsys: pytest.CaptureFixture[str], form: str) -> None:
    logs.configure("INFO", form)
    text = "%s %d %(password)s %n {} {0} {0.__class__.__init__.__globals__} ${x}"
    log.info("the topic %s", text)
    log.info(f"the topic {text}")  # noqa: G004 - as a message whose arguments are missing
    captured = capsys.readouterr().err
    assert captured.count(text) == 2
    assert "Logging error" not in captured


# -- dead letters --------------------------------------------------------------------------------------------------------


@pytest.fixture
def box(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A box with a letter that is evil all over."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SENSORSYNC_DEAD_LETTERS__PATH", str(tmp_path / "box.sqlite"))
    reading = json.dumps({"device_id": EVIL, "value": EVIL}, ensure_ascii=False).encode()
    properties = {"user_properties": [[EVIL, EVIL]], "content_type": EVIL, EVIL: EVIL}
    park(
        tmp_path / "box.sqlite",
        [
            DeadLetter(EVIL, reading + bytes(range(256)), 1, properties, "json", None, EVIL, ARRIVAL),
            DeadLetter(EVIL, reading, 1, properties, EVIL, 7, EVIL, ARRIVAL),
            DeadLetter(EVIL, reading, 1, properties, "other", 7, EVIL[::-1], ARRIVAL),
        ],
    )
    return tmp_path / "box.sqlite"


@pytest.mark.parametrize(
    "words",
    [["inspect"], ["inspect", "--json"], ["show", "1"], ["show", "2"], ["show", "2", "--json"], ["export", "-"]],
)
def test_no_byte_of_a_letter_acts_on_the_terminal(
    box: Path, capfd: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert len(in_box(box)) == 2

    assert main(["dlq", *words]) == 0

    shown = capfd.readouterr()
    assert harmless(shown.out + shown.err)
    assert "[red]%s {} %(x)s" in shown.out or words[0] == "export"


@pytest.mark.parametrize(
    "words", [["inspect", "--reason", EVIL], ["inspect", "--topic", EVIL], ["inspect", "--since", EVIL], ["show", EVIL]]
)
def test_no_argument_acts_on_the_terminal_either(
    box: Path, capfd: pytest.CaptureFixture[str], words: list[str]
) -> None:
    main(["dlq", *words])

    shown = capfd.readouterr()
    assert harmless(shown.out + shown.err)


# -- brokers and databases -----------------------------------------------------------------------------------------------


REFUSALS = {
    "CONNACK": mqtt5.ConnAckPacket(
        reason_code=mqtt5.ConnAckReasonCode.SERVER_BUSY,
        reason_str=EVIL,
        server_reference=EVIL,
        user_properties=[(EVIL, EVIL)],
    ).write(),
    "DISCONNECT": mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.SERVER_BUSY, reason_str=EVIL).write(),
    "after CONNACK": mqtt5.ConnAckPacket(assigned_client_id=EVIL).write()
    + mqtt5.DisconnectPacket(reason_code=mqtt5.DisconnectReasonCode.SERVER_BUSY, reason_str=EVIL).write(),
    "no MQTT": EVIL.encode(),
}


@pytest.mark.parametrize("answer", REFUSALS.values(), ids=REFUSALS)
@pytest.mark.parametrize(
    "command", [["check-cloud"], ["check-cloud", "--json"], ["stress-publish", "--messages", "1", "--clients", "1"]]
)
def test_a_text_from_a_broker_does_not_act_on_the_terminal(
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    answer: bytes,
    command: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with InThread(Answering(answer)) as broker:
        monkeypatch.setenv("MQTT_BROKER", f"127.0.0.1:{broker.port}")
        assert main(command) != 0

    shown = capfd.readouterr()
    assert harmless(shown.out + shown.err)
    assert "127.0.0.1" in shown.out + shown.err
