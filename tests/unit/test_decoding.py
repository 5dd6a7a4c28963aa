"""From the settings to what opens, decodes and signs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sensorsync.config import Settings
from sensorsync.decoding import message_decoder, signer, signing_key
from sensorsync.errors import ConfigurationError
from sensorsync.pipeline.contract import Delivery, Reading, Rejected

SECRET = "a secret of 32 bytes, or of more."
PLAIN = json.dumps(
    {"event_id": "e1", "device_id": "d", "metric": "m", "ts": "2026-01-02T03:04:05Z", "value": 1.5}
).encode()


def settings(**sections: Any) -> Settings:
    return Settings.model_validate(sections)


def decoded(chosen: Settings, payload: bytes, topic: str = "a/b", received_at: float = 1.8e9) -> Reading | Rejected:
    return message_decoder(chosen)(Delivery(topic, payload, 1, received_at, None))


def test_plain_and_signed_messages_become_the_same_reading() -> None:
    chosen = settings(security={"keys": [{"id": "a", "secret": SECRET}]})
    sign = signer(chosen.security)
    assert sign is not None
    signed = decoded(chosen, sign.sign(PLAIN))
    assert isinstance(signed, Reading)
    assert signed == decoded(chosen, PLAIN)
    assert signed.payload == PLAIN.decode()


def test_required_signatures_reject_what_is_plain() -> None:
    chosen = settings(security={"signatures": "required", "keys": [{"id": "a", "secret": SECRET}]})
    found = decoded(chosen, PLAIN)
    assert isinstance(found, Rejected)
    assert found.reason == "signature"


def test_the_rules_of_readings_reach_the_decoder() -> None:
    chosen = settings(
        reading={"missing_ts": "epoch", "missing_id": "payload", "device_id_level": 0, "metric_level": 1},
        security={"max_age": "1h"},
    )
    found = decoded(chosen, b'{"value": 1}', "boiler/pressure", received_at=10.0)
    assert isinstance(found, Reading)
    assert (found.device_id, found.metric, found.ts) == ("boiler", "pressure", "1970-01-01 00:00:00.000000")
    late = decoded(chosen, PLAIN)
    assert isinstance(late, Rejected)
    assert late.reason == "age"


def test_we_sign_with_the_first_key_or_with_the_one_that_is_named() -> None:
    keys = [{"id": "a", "secret": SECRET}, {"id": "b", "secret": SECRET}]
    first, named = (
        signing_key(settings(security={"keys": keys}).security),
        settings(security={"keys": keys, "signing_key": "b"}),
    )
    assert first is not None
    assert first.id == "a"
    chosen = signing_key(named.security)
    assert chosen is not None
    assert chosen.id == "b"
    assert signer(settings().security) is None


def test_a_key_may_stand_in_a_file_and_blanks_at_its_end_do_not_count(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(SECRET + "\n")
    key = signing_key(settings(security={"keys": [{"id": "a", "secret_file": str(file)}]}).security)
    assert key is not None
    assert key.secret == SECRET.encode()


@pytest.mark.parametrize("content", [None, "", " \n"])
def test_a_key_file_that_is_missing_or_empty_is_an_error_of_the_configuration(
    tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_text(content)
    chosen = settings(security={"keys": [{"id": "a", "secret_file": str(file)}]})
    for use in (lambda: signer(chosen.security), lambda: message_decoder(chosen)):
        with pytest.raises(ConfigurationError):
            use()
