"""The decoders, encoders and keys that are built from the settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sensorsync.config import Settings
from sensorsync.errors import ConfigurationError
from sensorsync.messages.envelope import Key, generate_key
from sensorsync.messages.reading import Row, TableRow
from sensorsync.pipeline.contract import Delivery, FanOut, Reading, Rejected
from sensorsync.wiring import envelope_without_signature_check, mappings, message_decoder, message_encoder, signing_key

BOILER = {
    "name": "boiler",
    "topic": "boilers/{boiler}/state",
    "device_id": {"topic": "{boiler}"},
    "event_id": "id",
    "ts": {"path": "at", "format": "unix"},
    "readings": [
        {"metric": "flow", "value": {"path": "flow", "from_unit": "degF", "to_unit": "degC"}, "unit": "C"},
        {"metric": "pressure", "value": "bar", "optional": True},
    ],
}
STATE = json.dumps({"id": "e1", "at": 1767323045, "flow": 212, "bar": 1.5}).encode()
METER = {
    "name": "meter",
    "topic": "meters/{meter}",
    "format": "value",
    "device_id": {"topic": "{meter}"},
    "event_id": {"property": "id"},
    "missing_ts": "epoch",
    "metric": "power",
    "value": "@",
}
MACHINE = {
    "name": "machine",
    "topic": "machines/{machine}",
    "table": {
        "name": "machine_state",
        "key": ["machine", "at"],
        "columns": {
            "machine": {"topic": "{machine}"},
            "at": {"path": "t", "type": "time"},
            "raw": {"field": "payload"},
        },
    },
}
MAPPED: dict[str, Any] = {"mappings": [BOILER, METER, MACHINE]}

SECRET = "a secret of 32 bytes, or of more."
PLAIN = json.dumps(
    {"event_id": "e1", "device_id": "d", "metric": "m", "ts": "2026-01-02T03:04:05Z", "value": 1.5}
).encode()


def settings(**sections: Any) -> Settings:
    return Settings.model_validate(sections)


def text(key: Key) -> str:
    return key.material.decode()


def decoded(
    chosen: Settings,
    payload: bytes,
    topic: str = "a/b",
    received_at: float = 1.8e9,
    properties: dict[str, object] | None = None,
) -> Row | FanOut | Rejected:
    return message_decoder(chosen)(Delivery(topic, payload, 1, received_at, None, properties))


def test_plain_and_signed_messages_become_the_same_reading() -> None:
    chosen = settings(security={"keys": [{"id": "a", "secret": SECRET}]})
    seal = message_encoder(chosen.security)
    assert seal is not None
    signed = decoded(chosen, seal(PLAIN))
    assert isinstance(signed, Reading)
    assert signed == decoded(chosen, PLAIN)
    assert signed.payload == PLAIN.decode()


class TestAMessageWithAMatchingMapping:
    def test_becomes_the_reading_of_the_mapping(self) -> None:
        found = decoded(settings(**MAPPED), STATE, "boilers/b1/state")
        assert isinstance(found, FanOut)
        flow, pressure = found.parts
        assert isinstance(flow, Reading)
        assert isinstance(pressure, Reading)
        assert (flow.device_id, flow.metric, flow.unit, flow.ts) == ("b1", "flow", "C", "2026-01-02 03:04:05.000000")
        assert flow.value == pytest.approx(100)
        assert (pressure.metric, pressure.value) == ("pressure", 1.5)
        assert flow.event_id != pressure.event_id

    def test_sees_the_properties_of_the_message(self) -> None:
        found = decoded(settings(**MAPPED), b"231.7", "meters/m1", properties={"user_properties": [("id", "e1")]})
        assert isinstance(found, Reading)
        assert (found.device_id, found.value, found.ts) == ("m1", 231.7, "1970-01-01 00:00:00.000000")
        without = decoded(settings(**MAPPED), b"231.7", "meters/m1")
        assert isinstance(without, Rejected)
        assert without.reason == "event_id"

    def test_becomes_a_row_of_the_target_table_of_the_store(self) -> None:
        chosen = settings(**MAPPED)
        found = decoded(chosen, b'{"t": "2026-01-02T03:04:05Z"}', "machines/m1")
        assert isinstance(found, TableRow)
        assert (found.table,) == chosen.target_tables
        assert found.values[:2] == ("m1", "2026-01-02 03:04:05.000000")

    def test_is_rejected_by_the_mapping_and_not_decoded_as_a_plain_reading(self) -> None:
        found = decoded(settings(**MAPPED), b"{", "boilers/b1/state")
        assert isinstance(found, Rejected)
        assert (found.reason, found.message.partition(":")[0]) == ("json", "boiler")

    def test_is_verified_and_decrypted_first(self) -> None:
        secret = generate_key("e", "A256GCM")
        keys = [{"id": "a", "secret": SECRET}, {"id": "e", "algorithm": "A256GCM", "secret": text(secret)}]
        chosen = settings(security={"signatures": "required", "keys": keys}, **MAPPED)
        seal = message_encoder(chosen.security)
        assert seal is not None
        assert decoded(chosen, seal(STATE), "boilers/b1/state") == decoded(
            settings(**MAPPED), STATE, "boilers/b1/state"
        )
        plain = decoded(chosen, STATE, "boilers/b1/state")
        assert isinstance(plain, Rejected)
        assert plain.reason == "signature"

    def test_is_parked_when_it_is_older_than_the_settings_allow(self) -> None:
        chosen = settings(security={"max_age": "1h"}, mappings=[BOILER, METER])
        found = decoded(chosen, STATE, "boilers/b1/state", received_at=1767323045 + 3601)
        assert isinstance(found, FanOut)
        assert {part.reason for part in found.parts if isinstance(part, Rejected)} == {"age"}
        assert len([part for part in found.parts if isinstance(part, Rejected)]) == 2
        in_time = decoded(chosen, STATE, "boilers/b1/state", received_at=1767323045 + 3599)
        assert isinstance(in_time, FanOut)
        assert all(isinstance(part, Reading) for part in in_time.parts)


@pytest.mark.parametrize("topic", ["a/b", "boilers/b1", "boilers/b1/state/x", "machines"])
def test_a_message_without_a_matching_mapping_is_decoded_as_a_plain_reading(topic: str) -> None:
    assert decoded(settings(**MAPPED), PLAIN, topic) == decoded(settings(), PLAIN, topic)
    assert isinstance(decoded(settings(**MAPPED), PLAIN, topic), Reading)


def test_a_message_that_is_not_a_reading_is_rejected_with_no_mapping_matched() -> None:
    assert decoded(settings(**MAPPED), b"{}", "boilers/b1") == Rejected(
        "device_id", "no mapping is for this message; as a plain reading: device_id is missing"
    )


def test_a_message_that_fails_the_condition_goes_to_the_next_mapping_and_then_to_plain_readings() -> None:
    first = {**BOILER, "name": "first", "topic": "#", "when": "kind == 'a'", "device_id": "kind"}
    second = {**first, "name": "second", "when": "kind == 'b'", "device_id": {"constant": "second"}}
    chosen = settings(mappings=[first, second])
    found = decoded(chosen, STATE.replace(b"{", b'{"kind": "b", '))
    assert isinstance(found, FanOut)
    assert {part.device_id for part in found.parts if isinstance(part, Reading)} == {"second"}
    assert decoded(chosen, PLAIN) == decoded(settings(), PLAIN)


def test_without_mappings_the_decoder_is_the_one_for_plain_readings() -> None:
    plain, mapped = message_decoder(settings()), message_decoder(settings(**MAPPED))
    names = {getattr(decode, "__name__", "") for decode in (plain, mapped)}
    assert names == {"decoder", "mapping_decoder"}
    assert mappings(settings()).mappings == []
    assert [mapping.name for mapping in mappings(settings(**MAPPED)).mappings] == ["boiler", "meter", "machine"]


def test_required_signatures_reject_an_unsigned_message() -> None:
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


def test_the_signing_key_is_the_first_key_or_the_configured_one() -> None:
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
    assert message_encoder(settings().security) is None


def test_the_policy_of_encryption_reaches_the_decoder() -> None:
    secret = generate_key("e", "A256GCM")
    chosen = settings(
        security={"encryption": "required", "keys": [{"id": "e", "algorithm": "A256GCM", "secret": text(secret)}]}
    )
    found = decoded(chosen, PLAIN)
    assert isinstance(found, Rejected)
    assert found.reason == "encryption"
    seal = message_encoder(chosen.security)
    assert seal is not None
    assert isinstance(decoded(chosen, seal(PLAIN)), Reading)


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "EdDSA"])
def test_a_signer_has_the_private_key_in_a_file_and_a_verifier_the_public_one(tmp_path: Path, algorithm: str) -> None:
    pair = generate_key("d", algorithm)
    private, public = tmp_path / "d.pem", tmp_path / "d.pub.pem"
    private.write_bytes(pair.material)
    public.write_text(pair.public_pem or "")
    device = settings(security={"keys": [{"id": "d", "algorithm": algorithm, "secret_file": str(private)}]})
    for half in ({"public_key_file": str(public)}, {"public_key": pair.public_pem}):
        central = settings(security={"signatures": "required", "keys": [{"id": "d", "algorithm": algorithm, **half}]})
        seal = message_encoder(device.security)
        assert seal is not None
        assert isinstance(decoded(central, seal(PLAIN)), Reading)
        assert message_encoder(central.security) is None


def test_a_private_key_in_place_of_the_public_one_is_an_error_and_vice_versa(tmp_path: Path) -> None:
    pair = generate_key("d", "EdDSA")
    assert pair.public_pem is not None
    private = tmp_path / "d.pem"
    private.write_bytes(pair.material)
    for half, word in (({"secret": pair.public_pem}, "public"), ({"public_key_file": str(private)}, "private")):
        chosen = settings(security={"keys": [{"id": "d", "algorithm": "EdDSA", **half}]})
        with pytest.raises(ConfigurationError, match=f"a {word} key was found") as caught:
            message_decoder(chosen)
        assert text(pair).splitlines()[1] not in f"{caught.value} {caught.value.hint}"


def test_one_key_for_two_algorithms_and_a_file_without_a_key_are_errors(tmp_path: Path) -> None:
    secret = text(generate_key("e", "A256GCM"))
    twice = [{"id": "a", "secret": secret}, {"id": "b", "algorithm": "A256GCM", "secret": secret}]
    with pytest.raises(ConfigurationError, match="one algorithm"):
        message_decoder(settings(security={"keys": twice}))
    huge = tmp_path / "huge"
    huge.write_bytes(b"x" * 100_000)
    with pytest.raises(ConfigurationError, match="more than 65536 bytes"):
        message_decoder(settings(security={"keys": [{"id": "a", "secret_file": str(huge)}]}))


def test_dead_letters_are_opened_unchecked_and_decrypted() -> None:
    keys = [
        {"id": "a", "secret": SECRET},
        {"id": "e", "algorithm": "A256GCM", "secret": text(generate_key("e", "A256GCM"))},
        {"id": "gone", "algorithm": "EdDSA", "public_key_file": "/nowhere"},
    ]
    security = settings(security={"signatures": "required", "keys": keys}).security
    seal = message_encoder(settings(security={"keys": keys[:2]}).security)
    assert seal is not None
    assert (
        envelope_without_signature_check(security).verify_and_decrypt(seal(PLAIN))
        == envelope_without_signature_check(security).verify_and_decrypt(PLAIN)
        == PLAIN
    )


def test_a_key_may_be_in_a_file_and_trailing_whitespace_is_ignored(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(SECRET + "\n")
    key = signing_key(settings(security={"keys": [{"id": "a", "secret_file": str(file)}]}).security)
    assert key is not None
    assert key.material == SECRET.encode()


@pytest.mark.parametrize("content", [None, "", " \n"])
def test_a_key_file_that_is_missing_or_empty_is_an_error_of_the_configuration(
    tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_text(content)
    chosen = settings(security={"keys": [{"id": "a", "secret_file": str(file)}]})
    for use in (lambda: message_encoder(chosen.security), lambda: message_decoder(chosen)):
        with pytest.raises(ConfigurationError):
            use()
