from __future__ import annotations

from pathlib import Path

import pytest

from sensorsync.config.reference.keys import setting_keys
from sensorsync.errors import ConfigurationError
from tests.unit.config.conftest import Load

ALIASES = [
    ("MQTT_BROKER_HOST", "mqtt.host", "h", "h"),
    ("MQTT_BROKER_PORT", "mqtt.port", "1884", 1884),
    ("MQTT_USERNAME", "mqtt.username", "u", "u"),
    ("MQTT_PASSWORD", "mqtt.password", "p", "***"),
    ("CA_CERT_PATH", "mqtt.tls.ca_file", "/ca.pem", "/ca.pem"),
    ("DB_HOST", "database.host", "h", "h"),
    ("DB_PORT", "database.port", "3307", 3307),
    ("DB_USER", "database.user", "u", "u"),
    ("DB_PASSWORD", "database.password", "p", "***"),
    ("DB_NAME", "database.name", "n", "n"),
    ("LOG_LEVEL", "log.level", "debug", "DEBUG"),
    ("WORKER_BATCH_SIZE", "pipeline.batch_size", "500", 500),
    ("CONNECTION_POOL_SIZE", "database.pool_size", "5", 5),
    ("TOTAL_MESSAGES", "publish.messages", "7", 7),
    ("CONCURRENCY", "publish.processes", "3", 3),
]


@pytest.mark.parametrize(("name", "key", "text", "value"), ALIASES)
def test_a_well_known_name_sets_its_key(load_with: Load, name: str, key: str, text: str, value: object) -> None:
    loaded = load_with(env={name: text})
    section: object = loaded.settings.model_dump(mode="json")
    for part in key.split("."):
        assert isinstance(section, dict)
        section = section[part]
    assert section == value
    assert loaded.origins[key] == f"env {name}"


def test_every_key_has_a_systematic_name(load_with: Load) -> None:
    assert setting_keys()["mqtt.tls.ca_file"].variable == "SENSORSYNC_MQTT__TLS__CA_FILE"
    assert setting_keys()["state_dir"].variable == "SENSORSYNC_STATE_DIR"
    assert load_with(env={"SENSORSYNC_DATABASE__TLS__MODE": "required"}).settings.database.tls.mode == "required"


def test_the_systematic_name_wins_over_the_alias_and_both_over_mqtt_broker(load_with: Load) -> None:
    env = {"MQTT_BROKER": "a:1", "MQTT_BROKER_HOST": "b", "SENSORSYNC_MQTT__HOST": "c"}
    assert load_with(env=env).settings.mqtt.host == "c"
    del env["SENSORSYNC_MQTT__HOST"]
    assert load_with(env=env).settings.mqtt.host == "b"
    assert load_with(env=env).settings.mqtt.port == 1


@pytest.mark.parametrize(
    ("text", "host", "port", "tls"),
    [
        ("broker.example.com", "broker.example.com", 1883, False),
        ("broker.example.com:1884", "broker.example.com", 1884, False),
        ("broker.example.com:8883", "broker.example.com", 8883, True),
        ("[::1]:1884", "::1", 1884, False),
        ("mqtt://b", "b", 1883, False),
        ("mqtt://b:1884/", "b", 1884, False),
        ("mqtts://b", "b", 8883, True),
        ("mqtts://b:443", "b", 443, True),
        ("MQTTS://b", "b", 8883, True),
    ],
)
def test_mqtt_broker_is_a_host_with_a_port_or_a_url(
    load_with: Load, text: str, host: str, port: int, tls: bool
) -> None:
    mqtt = load_with(env={"MQTT_BROKER": text}).settings.mqtt
    assert (mqtt.host, mqtt.port, mqtt.use_tls) == (host, port, tls)


@pytest.mark.parametrize(
    ("text", "port", "tls", "path"),
    [("ws://b", 80, False, "/mqtt"), ("wss://b:8084/", 8084, True, "/"), ("wss://b/a/b", 443, True, "/a/b")],
)
def test_mqtt_broker_may_be_the_url_of_a_websocket(load_with: Load, text: str, port: int, tls: bool, path: str) -> None:
    mqtt = load_with(env={"MQTT_BROKER": text, "SENSORSYNC_MQTT__CLIENT": "paho"}).settings.mqtt
    assert (mqtt.transport, mqtt.port, mqtt.use_tls, mqtt.websocket_path) == ("websockets", port, tls, path)


def test_a_broker_url_may_carry_user_and_password(load_with: Load) -> None:
    mqtt = load_with(env={"MQTT_BROKER": "mqtt://me:p%40ss@b"}).settings.mqtt
    assert mqtt.username == "me"
    assert mqtt.password is not None
    assert mqtt.password.get_secret_value() == "p@ss"


@pytest.mark.parametrize(
    "bad", ["http://b", "ws://b:80/mqtt?x=1", "b:port", "b:99999", ":1884", "mqtts:///x", "b/path", "[::1"]
)
def test_a_broker_that_cannot_be_parsed_is_refused_without_repeating_it(load_with: Load, bad: str) -> None:
    with pytest.raises(ConfigurationError, match="must be host:port") as caught:
        load_with(env={"MQTT_BROKER": bad})
    assert bad not in str(caught.value)


def test_an_empty_variable_is_unset(load_with: Load) -> None:
    loaded = load_with(
        "mqtt:\n  host: from-file\n", env={"MQTT_BROKER_HOST": "", "DB_HOST": ""}, dotenv="DB_NAME=\nDB_USER\n"
    )
    assert (loaded.settings.mqtt.host, loaded.settings.database.host) == ("from-file", "localhost")
    assert loaded.origins["database.name"] == "default"


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("SENSORSYNC_MQTT__HOTS", "SENSORSYNC_MQTT__HOST"),
        ("SENSORSYNC_MQTT_HOST", "SENSORSYNC_MQTT__HOST"),
        ("SENSORSYNC_STATEDIR", "SENSORSYNC_STATE_DIR"),
        ("SENSORSYNC_PIPELINE__BATCHSIZE", "SENSORSYNC_PIPELINE__BATCH_SIZE"),
    ],
)
def test_an_unknown_name_with_our_prefix_is_refused_with_a_suggestion(
    load_with: Load, name: str, suggestion: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} .* sets nothing. Did you mean {suggestion}"):
        load_with(env={name: "x"})
    with pytest.raises(ConfigurationError, match=r"\.env .*, line 1\) sets nothing"):
        load_with(dotenv=f"{name}=x\n")


def test_variables_of_other_programs_are_ignored(load_with: Load) -> None:
    load_with(
        env={
            "SENSORSYNC_TEST_MYSQLD": "/x",
            "SENSORSYNC_SERVICE_HOST": "10.0.0.1",
            "SENSORSYNC_SERVICE_PORT_METRICS": "9100",
            "SENSORSYNC_PORT": "tcp://10.0.0.1:9100",
            "SENSORSYNC_PORT_9100_TCP_ADDR": "10.0.0.1",
            "MQTT_SOMETHING": "x",
        }
    )


@pytest.mark.parametrize("text", ["a/#,b/+", "a/#, b/+", '["a/#", "b/+"]'])
def test_a_list_is_written_with_commas_or_as_json(load_with: Load, text: str) -> None:
    assert load_with(env={"SENSORSYNC_MQTT__TOPICS": text}).settings.mqtt.topics == ("a/#", "b/+")


def test_a_list_of_keys_is_json_and_a_broken_one_is_not_repeated(load_with: Load) -> None:
    keys = load_with(env={"SENSORSYNC_SECURITY__KEYS": '[{"id": "a", "secret": "s"}]'}).settings.security.keys
    assert keys[0].id == "a"
    with pytest.raises(ConfigurationError, match="must be a JSON list") as caught:
        load_with(env={"SENSORSYNC_SECURITY__KEYS": '[{"secret": "marker-secret"'})
    assert "marker-secret" not in f"{caught.value} {caught.value.__cause__}"
    with pytest.raises(ConfigurationError, match=r"security.keys\[0\].secrt: is no key .*from env SENS") as caught:
        load_with(env={"SENSORSYNC_SECURITY__KEYS": '[{"id": "a", "secret": "x", "secrt": "marker-secret"}]'})
    assert "marker-secret" not in f"{caught.value} {caught.value.__cause__}"


def test_the_signing_key_goes_before_the_keys_of_the_file(load_with: Load) -> None:
    yaml = "security:\n  keys:\n  - {id: default, secret: old}\n  - {id: b, secret: y}\n"
    loaded = load_with(yaml, env={"SENSORSYNC_SIGNING_KEY": "new"})
    security = loaded.settings.security
    assert [key.id for key in security.keys] == ["default", "b"]
    assert security.signing_key_settings is not None
    assert security.signing_key_settings.secret is not None
    assert security.signing_key_settings.secret.get_secret_value() == "new"
    assert loaded.origins["security.keys"].startswith("env SENSORSYNC_SIGNING_KEY and file ")


def test_an_encryption_key_may_be_in_the_environment_beside_the_signing_key(load_with: Load) -> None:
    yaml = "security:\n  keys:\n  - {id: b, secret: y}\n"
    variables = {"SENSORSYNC_SIGNING_KEY": "sign", "SENSORSYNC_ENCRYPTION_KEY": "encrypt"}
    security = load_with(yaml, env=variables).settings.security
    assert [(key.id, key.algorithm) for key in security.keys] == [
        ("default", "HS256"),
        ("default-encryption", "A256GCM"),
        ("b", "HS256"),
    ]
    assert security.encryption_key_settings is not None
    assert security.encryption_key_settings.secret is not None
    assert security.encryption_key_settings.secret.get_secret_value() == "encrypt"


def test_dotenv_takes_values_literally(load_with: Load) -> None:
    dotenv = "export DB_PASSWORD='pa${HOME}ss'\nMQTT_PASSWORD=a$b # remark\nOTHER_PROGRAMS=1\n"
    settings = load_with(dotenv=dotenv).settings
    assert settings.database.password.get_secret_value() == "pa${HOME}ss"
    assert settings.mqtt.password is not None
    assert settings.mqtt.password.get_secret_value() == "a$b"


def test_a_broken_line_in_dotenv_is_refused_with_its_number_and_not_repeated(load_with: Load) -> None:
    with pytest.raises(ConfigurationError, match=r"\.env, line 3: not a line of the form NAME=value") as caught:
        load_with(dotenv="DB_HOST=x\n\nDB_PASSWORD='marker-secret\n")
    assert "marker-secret" not in str(caught.value)


def test_a_dotenv_that_cannot_be_read_is_a_configuration_error(
    load_with: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_bytes(b"DB_HOST=\xff\n")
    with pytest.raises(ConfigurationError, match="is not UTF-8"):
        load_with()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ConfigurationError, match="could not be read: Permission denied"):
        load_with()
