from __future__ import annotations

from pathlib import Path

import pytest

from sensorsync.config import load
from sensorsync.config.loading import yaml_file
from sensorsync.errors import ConfigurationError
from tests.unit.config.conftest import Load


def test_without_anything_all_values_are_defaults(load_with: Load) -> None:
    loaded = load_with()
    assert loaded.file is None
    assert set(loaded.origins.values()) == {"default"}
    assert loaded.origins.keys() >= {"mqtt.host", "mqtt.tls.ca_file", "state_dir"}


def test_each_layer_wins_over_the_one_below_and_is_the_origin(load_with: Load, tmp_path: Path) -> None:
    yaml = "pipeline:\n  batch_size: 1\n  workers: 1\n  queue_limit: 1\n  status_every: 1\n"
    loaded = load_with(
        yaml,
        dotenv="# a remark\n\nWORKER_BATCH_SIZE=2\nSENSORSYNC_PIPELINE__WORKERS=2\nSENSORSYNC_PIPELINE__QUEUE_LIMIT=2\n",
        env={"WORKER_BATCH_SIZE": "3", "SENSORSYNC_PIPELINE__WORKERS": "3"},
        flags={"pipeline.batch_size": "4"},
    )
    pipeline = loaded.settings.pipeline
    assert (pipeline.batch_size, pipeline.workers, pipeline.queue_limit, pipeline.status_every) == (4, 3, 2, 1)
    origins = [
        loaded.origins[f"pipeline.{name}"]
        for name in ("batch_size", "workers", "queue_limit", "status_every", "batch_timeout")
    ]
    assert origins == [
        "flag --batch-size",
        "env SENSORSYNC_PIPELINE__WORKERS",
        ".env SENSORSYNC_PIPELINE__QUEUE_LIMIT, line 5",
        f"file {tmp_path}/sensorsync.yaml:5",
        "default",
    ]


def test_a_flag_that_was_not_given_sets_nothing_and_one_may_have_another_name_than_its_key(
    load_with: Load, tmp_path: Path
) -> None:
    assert load_with(flags={"pipeline.workers": None}).settings.pipeline.workers == 2
    loaded = load(None, {"mqtt.on_stop": "leave"}, {}, tmp_path, flags={"mqtt.on_stop": "--leave"})
    assert (loaded.settings.mqtt.on_stop, loaded.origins["mqtt.on_stop"]) == ("leave", "flag --leave")


def test_a_flag_for_an_unknown_setting_is_reported_with_its_name(load_with: Load) -> None:
    with pytest.raises(ConfigurationError, match=r"no setting mqtt.hots.*mqtt.host"):
        load_with(flags={"mqtt.hots": "x"})


def test_the_error_names_key_value_origin_and_fix(load_with: Load) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_with(env={"MQTT_BROKER_PORT": "abc"})
    assert str(caught.value) == "mqtt.port: must be a whole number (got 'abc' from env MQTT_BROKER_PORT)."
    assert caught.value.hint == "TCP port of the broker. 8883 implies TLS. For example: 1883"


@pytest.mark.parametrize(
    ("yaml", "sentence"),
    [
        ("mqtt:\n  port: 70000\n", "mqtt.port: must be at most 65535 (got '70000' from file {file}:2)."),
        (
            "mqtt:\n  connections: many\n",
            "mqtt.connections: must be a whole number or auto (got 'many' from file {file}:2).",
        ),
        ("mqtt:\n  keep_alive: 0s\n", "mqtt.keep_alive: must be at least 1s (got '0s' from file {file}:2)."),
        (
            "pipeline:\n  queue_bytes: 1KiB\n",
            "pipeline.queue_bytes: must be at least 64KiB (got '1KiB' from file {file}:2).",
        ),
        ("mqtt:\n  ephemeral: perhaps\n", "mqtt.ephemeral: must be true or false (got 'perhaps' from file {file}:2)."),
        (
            "database:\n  conflict: none\n",
            "database.conflict: must be first, last or newest (got 'none' from file {file}:2).",
        ),
        (
            "log:\n  level: loud\n",
            "log.level: must be DEBUG, INFO, WARNING, ERROR or CRITICAL (got 'loud' from file {file}:2).",
        ),
        ('database:\n  host: ""\n', "database.host: must not be empty (got '' from file {file}:2)."),
        ("mqtt:\n  host: [a]\n", "mqtt.host: must be a text (got ['a'] from file {file}:2)."),
        (
            "mqtt:\n  topics:\n  - ok/#\n  - bad#\n",
            "mqtt.topics[1]: # must be the last level and stand alone in it, as in sensors/live/# (got 'bad#' from file {file}:4).",
        ),
        ("mqtt:\n  topics: {{a: 1}}\n", "mqtt.topics: must be a list (got {{'a': '1'}} from file {file}:2)."),
        ("mqtt: yes\n", "mqtt: must be a section with keys below it (file {file}:1)."),
        (
            "database:\n  read_timeout: 30s\n",
            (
                "database.read_timeout must be below pipeline.stop_timeout: a stop has to wait for the last answer of the "
                "database (database.read_timeout: file {file}:2, pipeline.stop_timeout: default)."
            ),
        ),
        ("security:\n  keys:\n  - secret: marker\n", "security.keys[0].id: is missing (from file {file}:3)."),
        (
            "security:\n  keys:\n  - id: a\n  - id: b\n    secret: x\n",
            (
                "security.keys[0]: a key needs either secret or secret_file, or public_key or public_key_file: "
                "exactly one of them (from file {file}:3)."
            ),
        ),
    ],
)
def test_a_wrong_value_in_the_file_gives_one_sentence_with_its_line(
    load_with: Load, tmp_path: Path, yaml: str, sentence: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_with(yaml.replace("{{", "{").replace("}}", "}"))
    assert str(caught.value) == sentence.format(file=tmp_path / "sensorsync.yaml")


def test_several_mistakes_are_reported_together(load_with: Load) -> None:
    with pytest.raises(ConfigurationError, match="and 3 more") as caught:
        load_with("mqtt:\n  hots: x\n  port: abc\n", env={"DB_PORT": "0", "SENSORSYNC_MQTT__HOTS": "x"})
    assert len(caught.value.errors) == 4


@pytest.mark.parametrize(
    ("yaml", "sentence"),
    [
        ("mqtt:\n  hots: x\n", "mqtt.hots is no key of the configuration (file {file}:2): did you mean host?"),
        (
            "mqtt:\n\n  batch-size: 5\n",
            "mqtt.batch-size is no key of the configuration (file {file}:3): did you mean pipeline.batch_size?",
        ),
        ("mqqt:\n  host: x\n", "mqqt is no key of the configuration (file {file}:1): did you mean mqtt?"),
        (
            "mqtt.host: x\n",
            "mqtt.host is no key of the configuration (file {file}:1): write host on a line of its own, indented below mqtt:",
        ),
        ("zzzzzz: x\n", "zzzzzz is no key of the configuration (file {file}:1)."),
        (
            "security:\n  keys:\n  - id: a\n    secrt: x\n    secret: y\n",
            "security.keys[0].secrt is no key of the configuration (file {file}:4): did you mean secret?",
        ),
    ],
)
def test_an_unknown_key_is_refused_with_a_suggestion_and_its_line(
    load_with: Load, tmp_path: Path, yaml: str, sentence: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_with(yaml)
    assert str(caught.value) == sentence.format(file=tmp_path / "sensorsync.yaml")


def test_a_key_that_stands_twice_is_refused_with_both_lines(load_with: Load) -> None:
    with pytest.raises(ConfigurationError, match=r"^mqtt\.host stands twice in .*: in line 2 and in line 4\.$"):
        load_with("mqtt:\n  host: a\n  port: 1883\n  host: b\n")


@pytest.mark.parametrize(
    "empty", ["", "# only a remark\n", "---\n", "null\n", "mqtt:\ndatabase:\n", "mqtt:\n  host:\n  port: ~\n"]
)
def test_an_empty_file_section_or_value_sets_nothing(load_with: Load, empty: str) -> None:
    loaded = load_with(empty)
    assert loaded.settings.mqtt.host == "localhost"
    assert loaded.file is not None


def test_scalars_mean_what_the_key_needs_and_not_what_yaml_guesses(load_with: Load) -> None:
    settings = load_with(
        "security:\n  signatures: off\ndatabase:\n  password: 0123\n  name: 2026-01-02\nmqtt:\n  username: no\n  password: 'null'\n"
    ).settings
    assert settings.security.signatures == "off"
    assert settings.database.password.get_secret_value() == "0123"
    assert settings.database.name == "2026-01-02"
    assert settings.mqtt.username == "no"
    assert settings.mqtt.password is not None
    assert settings.mqtt.password.get_secret_value() == "null"


def test_a_relative_path_in_the_file_is_beside_the_file(load_with: Load, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    file = folder / "c.yaml"
    file.write_text(
        "mqtt:\n  tls:\n    ca_file: ca.pem\nsecurity:\n  keys:\n  - {id: a, secret_file: ./key}\n", encoding="utf-8"
    )
    settings = load(file, {}, {}, tmp_path).settings
    assert settings.mqtt.tls.ca_file == folder / "ca.pem"
    assert settings.security.keys[0].secret_file == folder / "key"
    assert load(None, {}, {"CA_CERT_PATH": "ca.pem"}, tmp_path).settings.mqtt.tls.ca_file == Path("ca.pem")


class TestTheFileIsTheFirstThatExists:
    def test_in_the_order_flag_variable_folder_user_system(self, tmp_path: Path) -> None:
        environ = {"HOME": str(tmp_path / "home")}
        user = tmp_path / "home" / ".config" / "sensorsync" / "config.yaml"
        places = [yaml_file.SYSTEM_FILE, user, tmp_path / "sensorsync.yaml"]
        for place in places:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text("", encoding="utf-8")
            assert load(None, {}, environ, tmp_path).file == place
        named, given = tmp_path / "named.yaml", tmp_path / "given.yaml"
        named.touch()
        given.touch()
        environ["SENSORSYNC_CONFIG"] = "named.yaml"
        assert load(None, {}, environ, tmp_path).file == named
        assert load(Path("given.yaml"), {}, environ, tmp_path).file == given

    def test_xdg_config_home_moves_the_users_file(self, tmp_path: Path) -> None:
        file = tmp_path / "xdg" / "sensorsync" / "config.yaml"
        file.parent.mkdir(parents=True)
        file.touch()
        assert load(None, {}, {"XDG_CONFIG_HOME": str(tmp_path / "xdg")}, tmp_path).file == file

    def test_one_that_is_named_must_exist(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match=r"named by --config\) does not exist"):
            load(Path("nowhere.yaml"), {}, {}, tmp_path)
        with pytest.raises(ConfigurationError, match=r"named by SENSORSYNC_CONFIG\) does not exist"):
            load(None, {}, {"SENSORSYNC_CONFIG": str(tmp_path)}, tmp_path)

    def test_dotenv_may_name_it(self, load_with: Load, tmp_path: Path) -> None:
        (tmp_path / "other.yaml").touch()
        assert load_with(dotenv="SENSORSYNC_CONFIG=other.yaml\n").file == tmp_path / "other.yaml"
