from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from sensorsync.config import KeySettings, Settings
from sensorsync.config.reference.keys import sections, setting_keys
from sensorsync.config.settings import default_state_dir
from sensorsync.messages.envelope import ALGORITHMS

PUBLIC = {"id": "p", "algorithm": "EdDSA", "public_key": "-----BEGIN PUBLIC KEY-----"}
CONTENT = {"id": "e", "algorithm": "A256GCM", "secret": "x"}
PEM = {"id": "a", "algorithm": "RS256", "public_key": "-----BEGIN RSA PRIVATE KEY-----marker"}


def settings(**values: Any) -> Settings:
    return Settings.model_validate(values)


def refusal(**values: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        settings(**values)
    return "; ".join(str(detail["msg"]) for detail in caught.value.errors())


def test_the_defaults_are_valid_and_fit_into_each_other() -> None:
    defaults = settings()
    assert (defaults.mqtt.host, defaults.mqtt.port, defaults.mqtt.use_tls) == ("localhost", 1883, False)
    assert defaults.database.lock_wait_timeout < defaults.database.read_timeout < defaults.pipeline.stop_timeout


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        settings().mqtt.host = "other"  # type: ignore[misc]  # this is what must not work


def test_every_key_has_a_description_and_an_example_that_is_valid() -> None:
    for key in setting_keys().values():
        assert key.description.endswith("."), key.name
        assert key.example is not None, key.name


def test_every_section_has_a_description() -> None:
    for path, model in sections().items():
        assert model.__doc__, path


@pytest.mark.parametrize(("tls", "port"), [({}, 8083), ({"enabled": True}, 8084)])
def test_websockets_have_default_ports_of_their_own(tls: dict[str, object], port: int) -> None:
    mqtt = settings(mqtt={"client": "paho", "transport": "websockets", "tls": tls}).mqtt
    assert (mqtt.port, mqtt.websocket_path) == (port, "/mqtt")


def test_a_protocol_version_may_be_written_as_a_number() -> None:
    assert settings(mqtt={"protocol": 5}).mqtt.protocol == "5"


@pytest.mark.parametrize("tls", [{"ca_file": "/ca.pem"}, {"enabled": True}])
def test_tls_moves_the_default_port_to_8883(tls: dict[str, object]) -> None:
    mqtt = settings(mqtt={"tls": tls}).mqtt
    assert (mqtt.port, mqtt.use_tls) == (8883, True)


@pytest.mark.parametrize(
    ("mqtt", "expected"),
    [
        ({"port": 8883}, True),
        ({"port": 8883, "tls": {"enabled": False}}, False),
        ({"port": 1883, "tls": {"ca_file": "/ca.pem"}}, True),
        ({"port": 1883}, False),
        ({"port": 8084}, False),
        ({"port": 8084, "client": "paho", "transport": "websockets"}, True),
        ({"port": 443, "client": "paho", "transport": "websockets"}, True),
        ({"port": 8083, "client": "paho", "transport": "websockets"}, False),
    ],
)
def test_port_8883_or_an_authority_imply_tls_unless_it_is_disabled(mqtt: dict[str, object], expected: bool) -> None:
    assert settings(mqtt=mqtt).mqtt.use_tls is expected


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"database": {"lock_wait_timeout": "15s"}}, "lock_wait_timeout must be below database.read_timeout"),
        ({"database": {"read_timeout": "20s"}}, "read_timeout must be below pipeline.stop_timeout"),
        ({"database": {"lock_wait_timeout": "1500ms"}}, "whole seconds"),
        ({"database": {"connect_timeout": "16s"}}, "connect_timeout must not be above"),
        ({"database": {"driver": "sqlite"}}, "database.path must name the file"),
        ({"mqtt": {"backoff_min": "31s"}}, "mqtt.backoff_min must not be above"),
        ({"mqtt": {"protocol": "3.1.1"}}, "mqtt.protocol 3.1.1 needs mqtt.client: paho"),
        ({"mqtt": {"protocol": "3.1.1", "client": "paho", "password": "x"}}, "mqtt.username is not"),
        ({"mqtt": {"transport": "websockets"}}, "mqtt.transport websockets needs mqtt.client: paho"),
        ({"pipeline": {"backoff_min": "11s"}}, "pipeline.backoff_min must not be above"),
        ({"mqtt": {"connections": 65}}, "mqtt.connections must not be above"),
        ({"mqtt": {"tls": {"cert_file": "/c"}}}, "need each other"),
        ({"mqtt": {"tls": {"key_password": "x"}}}, "mqtt.tls.key_file is not"),
        ({"mqtt": {"topics": []}}, "at least 1"),
        ({"mqtt": {"topics": ["a/#/b"]}}, "# must be the last level"),
        ({"mqtt": {"group": "a/b"}}, "no /, + or #"),
        ({"mqtt": {"receive_maximum": 0}}, "greater than or equal to 1"),
        ({"mqtt": {"receive_maximum": 65536}}, "less than or equal to 65535"),
        ({"publish": {"topic": "a/#"}}, "no + and no #"),
        ({"security": {"signatures": "required"}}, "security.keys has no key"),
        ({"security": {"signing_key": "x"}}, "names no key"),
        ({"security": {"keys": [{"id": "a", "secret": "x"}, {"id": "a", "secret": "y"}]}}, "same id"),
        ({"security": {"keys": [{"id": "a"}]}}, "either secret or secret_file"),
        ({"security": {"keys": [{"id": "a", "secret": "x", "secret_file": "/y"}]}}, "either secret or secret_file"),
        ({"security": {"keys": [{**PUBLIC, "secret": "x"}]}}, "exactly one of them"),
        ({"security": {"keys": [{**PUBLIC, "algorithm": "HS256"}]}}, "HS256 has no public half"),
        ({"security": {"keys": [{**PUBLIC, "algorithm": "A256GCM"}]}}, "A256GCM has no public half"),
        ({"security": {"keys": [{"id": "a", "algorithm": "none", "secret": "x"}]}}, "Input should be 'HS256'"),
        ({"security": {"keys": [PEM]}}, "public_key holds a private key"),
        ({"security": {"encryption": "required"}}, "no key for encryption"),
        ({"security": {"encryption": "required", "keys": [PUBLIC]}}, "no key for encryption"),
        ({"security": {"signatures": "required", "keys": [CONTENT]}}, "no key for signatures"),
        ({"security": {"signing_key": "p", "keys": [PUBLIC]}}, "no key of security.keys that can sign"),
        ({"security": {"signing_key": "e", "keys": [CONTENT]}}, "no key of security.keys that can sign"),
        ({"security": {"encryption_key": "p", "keys": [PUBLIC]}}, "no key of security.keys for encryption"),
        ({"mqtt": {"hots": "x"}}, "Extra inputs"),
    ],
)
def test_a_contradiction_is_refused_with_a_sentence(values: dict[str, Any], sentence: str) -> None:
    assert sentence in refusal(**values)


def test_the_first_key_signs_unless_another_is_named() -> None:
    keys = [{"id": "a", "secret": "x"}, {"id": "b", "secret": "y"}]
    first, named = (
        settings(security={"keys": keys}).security,
        settings(security={"keys": keys, "signing_key": "b"}).security,
    )
    assert first.signing_key_settings is not None
    assert named.signing_key_settings is not None
    assert (first.signing_key_settings.id, named.signing_key_settings.id, settings().security.signing_key_settings) == (
        "a",
        "b",
        None,
    )


def test_the_use_of_a_key_decides_if_we_make_messages_with_it() -> None:
    secret = {"id": "s", "algorithm": "EdDSA", "secret_file": "/s.pem"}
    security = settings(security={"keys": [PUBLIC, CONTENT, secret, {**CONTENT, "id": "e2"}]}).security
    assert security.signing_key_settings is not None
    assert security.encryption_key_settings is not None
    assert (security.signing_key_settings.id, security.encryption_key_settings.id) == ("s", "e")
    named = settings(security={"keys": [CONTENT, {**CONTENT, "id": "e2"}], "encryption_key": "e2"}).security
    assert named.encryption_key_settings is not None
    assert named.encryption_key_settings.id == "e2"
    assert settings(security={"keys": [CONTENT], "encryption": "off"}).security.encryption_key_settings is None
    assert settings(security={"keys": [PUBLIC]}).security.signing_key_settings is None


def test_the_algorithms_of_the_settings_are_those_of_the_envelope() -> None:
    assert get_args(KeySettings.model_fields["algorithm"].annotation) == ALGORITHMS


def test_a_database_authority_turns_verification_on() -> None:
    assert settings().database.tls.mode == "preferred"
    assert settings(database={"tls": {"ca_file": "/ca.pem"}}).database.tls.mode == "verify-ca"


def test_the_dead_letter_box_is_in_the_state_folder_unless_set() -> None:
    assert settings(state_dir="/s").dead_letter_path == Path("/s/dead-letters.sqlite")
    assert settings(dead_letters={"path": "/d.sqlite"}).dead_letter_path == Path("/d.sqlite")


def test_the_state_folder_follows_xdg_then_root_then_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert default_state_dir({"XDG_STATE_HOME": "/x", "HOME": "/h"}) == Path("/x/sensorsync")
    assert default_state_dir({"HOME": "/h"}) == Path("/h/.local/state/sensorsync")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert default_state_dir({"HOME": "/h"}) == Path("/var/lib/sensorsync")


def test_a_validation_error_does_not_repeat_the_values() -> None:
    with pytest.raises(ValidationError) as caught:
        settings(mqtt={"password": ["marker-secret"]})
    assert "marker-secret" not in str(caught.value)
