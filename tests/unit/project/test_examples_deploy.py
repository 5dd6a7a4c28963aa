"""The examples for Docker, systemd and GitHub Actions are valid, and fit each other and the settings."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from dotenv import dotenv_values

from sensorsync.config import Settings, load
from sensorsync.config.loading.environment import CONFIG_VARIABLE, KEY_VARIABLES
from sensorsync.config.reference.keys import setting_keys
from sensorsync.config.sections.units import parse_duration
from sensorsync.service.supervisor.supervision import KILL_DELAY
from tests.unit.project.test_docs_commands import complaint

ROOT = Path(__file__).parents[3]
DOCKER = ROOT / "examples/docker"
COMPOSE = {path.name: yaml.safe_load(path.read_text()) for path in sorted(DOCKER.glob("compose*.yaml"))}
WORKFLOW = ROOT / "examples/github-actions/smoke-test.yml"
UNITS = sorted(path for path in (ROOT / "examples/systemd").iterdir() if path.suffix in {".service", ".timer"})
SERVICES = [unit for unit in UNITS if unit.suffix == ".service"]
EXAMPLE = (ROOT / ".env.example").read_text()
SCRIPTS = [
    path
    for folder in ("examples", "tests", ".ci")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.is_file() and path.suffix in {".sh", ""} and path.read_bytes()[:2] == b"#!"
]
STOP_SECONDS = Settings().pipeline.stop_timeout + KILL_DELAY


VARIABLES = {variable for key in setting_keys().values() for variable in (*key.aliases, key.variable)} | set(
    KEY_VARIABLES
)


def tool(name: str) -> str:
    """A program of the development environment; the test is skipped where it could not be installed."""
    program = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        pytest.skip(f"{name} is not installed")
    return program


def accepted(*words: str | Path) -> None:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


def everything_set() -> dict[str, str]:
    """What `.env.example` sets, and what it shows in comments."""
    text = re.sub(r"(?m)^# (?=[A-Z_]+=)", "", EXAMPLE)
    values = dotenv_values(stream=StringIO(text), interpolate=False)
    return {name: value or "" for name, value in values.items()}


def names_in(text: str) -> set[str]:
    """The variables that a part of `.env.example` sets or shows."""
    return set(re.findall(r"(?m)^(?:# )?([A-Z_]+)=", text))


def whole(name: str) -> dict[str, Any]:
    """A compose file with what it includes."""
    document: dict[str, Any] = {}
    for part in [*(COMPOSE[other] for other in COMPOSE[name].get("include", [])), COMPOSE[name]]:
        for section in ("services", "volumes", "secrets", "configs"):
            document[section] = {**document.get(section, {}), **part.get(section, {})}
    return document


def ours(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: service for name, service in document["services"].items() if "build" in service}


each_compose_file = pytest.mark.parametrize("name", COMPOSE)


# -- by the tools of their kind ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("vendor.compose-spec", [DOCKER / name for name in COMPOSE]),
        ("vendor.github-workflows", [WORKFLOW]),
        ("custom.github-workflows-require-timeout", [WORKFLOW]),
    ],
)
def test_the_examples_fit_the_schemas_of_their_kind(schema: str, files: list[Path]) -> None:
    accepted(tool("check-jsonschema"), "--builtin-schema", schema, *files)


def test_shellcheck_has_nothing_to_say_about_any_script() -> None:
    assert DOCKER / "entrypoint.sh" in SCRIPTS
    scripts = [path for path in SCRIPTS if b"bash" in path.read_bytes().splitlines()[0]]
    accepted(tool("shellcheck"), "--severity", "warning", *scripts)


def test_hadolint_has_nothing_to_say_about_the_dockerfile() -> None:
    accepted(tool("hadolint"), DOCKER / "Dockerfile")


def test_systemd_accepts_the_units_and_finds_little_that_they_may_do(tmp_path: Path) -> None:
    systemd_analyze = tool("systemd-analyze")
    for unit in UNITS:
        # The program is not installed where tests run.
        (tmp_path / unit.name).write_text(unit.read_text().replace("/usr/local/bin/sensorsync", sys.executable))
    accepted(systemd_analyze, "verify", "--man=no", *(tmp_path / unit.name for unit in UNITS))
    for unit in SERVICES:
        accepted(systemd_analyze, "security", "--no-pager", "--offline=true", "--threshold=20", unit)  # of 100


# -- .env.example ------------------------------------------------------------------------------------------------------------


def test_the_example_of_env_has_every_well_known_name_and_no_unknown_one() -> None:
    known = {*VARIABLES, CONFIG_VARIABLE}
    ours, _, for_docker = EXAMPLE.partition("-- for Docker alone")
    assert {alias for key in setting_keys().values() for alias in key.aliases} <= names_in(ours) <= known
    assert names_in(for_docker) & known == set()


def test_the_example_of_env_is_a_valid_configuration(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(EXAMPLE)
    settings = load(None, {}, {"HOME": str(tmp_path)}, tmp_path).settings
    assert settings.database.host == "127.0.0.1"


def test_the_example_of_env_is_valid_with_its_comments_removed(tmp_path: Path) -> None:
    everything = everything_set() | {
        "MQTT_BROKER_PORT": "8883",
        "SENSORSYNC_SIGNING_KEY": "x" * 32,
        "SENSORSYNC_ENCRYPTION_KEY": "",
        CONFIG_VARIABLE: "",
    }
    loaded = load(None, {}, {"HOME": str(tmp_path), **everything}, tmp_path)
    unset = {name for name, value in everything.items() if not value}
    set_by = {origin.removeprefix("env ") for origin in loaded.origins.values() if origin.startswith("env ")}
    assert (set(everything) & VARIABLES) - set_by - unset == {"MQTT_BROKER"}, "MQTT_BROKER gives way to the other two"


# -- compose -----------------------------------------------------------------------------------------------------------------


def test_what_the_compose_files_take_from_env_is_in_its_example_and_the_other_way_round() -> None:
    asked = {name for path in DOCKER.glob("compose*.yaml") for name in re.findall(r"\$\{(\w+)", path.read_text())}
    asked |= {secret["environment"] for document in COMPOSE.values() for secret in document.get("secrets", {}).values()}
    assert asked <= set(everything_set())
    assert names_in(EXAMPLE.partition("-- for Docker alone")[2]) - asked == {"SERVICE_MODE", "MULTI_INSTANCE"}


@each_compose_file
def test_images_are_pinned_and_what_is_used_is_declared(name: str) -> None:
    document = whole(name)
    used: dict[str, set[str]] = {"volumes": set(), "secrets": set(), "configs": set()}
    for service in document["services"].values():
        assert "build" in service or re.fullmatch(r"[\w/.-]+:v?\d+\.\d+\.\d+", service["image"])
        assert set(service.get("depends_on", {})) <= set(document["services"])
        for kind in ("secrets", "configs"):
            used[kind] |= {entry if isinstance(entry, str) else entry["source"] for entry in service.get(kind, [])}
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            if source.startswith("."):
                assert (DOCKER / source).exists(), source
            else:
                used["volumes"].add(source)
    assert used == {kind: set(document[kind]) for kind in used}


@each_compose_file
def test_every_port_is_published_on_this_machine_alone(name: str) -> None:
    ports = [port for service in whole(name)["services"].values() for port in service.get("ports", [])]
    assert [port for port in ports if not re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port)] == []


@each_compose_file
def test_a_service_that_others_wait_for_has_a_health_check(name: str) -> None:
    services = whole(name)["services"]
    for service in services.values():
        depends = service.get("depends_on", {})
        for other, how in depends.items() if isinstance(depends, dict) else ():
            assert how["condition"] != "service_healthy" or "healthcheck" in services[other]


@pytest.mark.parametrize("name", ["compose.yaml", "compose.cloud.yaml"])
def test_the_environment_of_every_container_is_a_valid_configuration(name: str, tmp_path: Path) -> None:
    example = everything_set()
    (tmp_path / "secret").write_text("change-me\n")
    for label, service in ours(whole(name)).items():
        environ = {
            variable: re.sub(r"\$\{(\w+)[^}]*\}", lambda found: example[found[1]], str(value))
            for variable, value in service["environment"].items()
        }
        assert environ.pop("SERVICE_MODE") in (DOCKER / "entrypoint.sh").read_text()
        assert set(environ) - VARIABLES <= {"MULTI_INSTANCE"}, label
        for variable, value in environ.items():
            if value.startswith("/run/secrets/"):
                assert value.rpartition("/")[2] in {secret["source"] for secret in service["secrets"]}
                environ[variable] = str(tmp_path / "secret")
        environ["SENSORSYNC_SIGNING_KEY"] = "x" * 32
        settings = load(None, {}, {"HOME": str(tmp_path), **environ}, tmp_path).settings
        assert settings.mqtt.password is not None
        assert settings.mqtt.use_tls == (name == "compose.cloud.yaml")


@pytest.mark.parametrize("name", ["compose.yaml", "compose.cloud.yaml"])
def test_subscribers_keep_their_state_and_have_time_to_stop(name: str) -> None:
    service = whole(name)["services"]["subscriber"]
    assert service["environment"]["MULTI_INSTANCE"] == "true"
    assert "state:/var/lib/sensorsync" in service["volumes"]
    assert parse_duration(service["stop_grace_period"]) > STOP_SECONDS
    assert "--mode=0750 /var/lib/sensorsync" in (DOCKER / "Dockerfile").read_text()


def test_prometheus_finds_the_subscribers_and_their_alerts() -> None:
    config = yaml.safe_load((DOCKER / "prometheus.yml").read_text())
    (job,) = config["scrape_configs"]
    assert job["job_name"] == "sensorsync", "what the alerts ask for"
    (found,) = job["dns_sd_configs"]
    assert found["names"] == ["subscriber"]
    assert f"SENSORSYNC_METRICS__LISTEN=:{found['port']}" in (DOCKER / "Dockerfile").read_text()
    mounted = [volume.split(":")[1] for volume in COMPOSE["compose.yaml"]["services"]["prometheus"]["volumes"]]
    assert [f"/etc/prometheus/{rules}" in mounted for rules in config["rule_files"]] == [True]


def test_grafana_is_provisioned_with_the_dashboard_and_its_data_source() -> None:
    (source,) = yaml.safe_load((DOCKER / "grafana/datasources/prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((DOCKER / "grafana/dashboards/sensorsync.yml").read_text())["providers"]
    services = COMPOSE["compose.yaml"]["services"]
    assert source["url"] == "http://prometheus:9090"
    assert f"../grafana:{provider['options']['path']}:ro" in services["grafana"]["volumes"]
    dashboard = json.loads((ROOT / "examples/grafana/dashboard.json").read_text())
    assert dashboard["templating"]["list"][0]["query"] == source["type"]


# -- Dockerfile --------------------------------------------------------------------------------------------------------------


def test_the_build_copies_what_is_there_and_what_it_may_see() -> None:
    allowed = [
        line[1:] for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")
    ]
    copied = [
        source
        for words in re.findall(r"(?m)^COPY (?!--from)(.*)$", (DOCKER / "Dockerfile").read_text())
        for source in [word for word in words.split() if not word.startswith("--")][:-1]
    ]
    assert sorted(copied) == sorted(allowed)
    assert [source for source in copied if not (ROOT / source).exists()] == []


def test_the_build_takes_wheels_alone_because_the_image_has_no_compiler() -> None:
    """tests/acceptance/test_wheels.py finds out whether there are wheels."""
    installs = re.findall(r"pip install .*", (DOCKER / "Dockerfile").read_text())
    assert installs
    assert [words for words in installs if "--only-binary=:all:" not in words.split()] == []


def test_the_container_is_not_root_and_its_health_is_asked_for_by_the_entry_point() -> None:
    dockerfile = (DOCKER / "Dockerfile").read_text()
    assert re.search(r"(?m)^USER 10001:10001$", dockerfile)
    assert '"/usr/local/bin/entrypoint.sh", "is-alive"' in dockerfile
    uids = {secret["uid"] for service in ours(whole("compose.yaml")).values() for secret in service["secrets"]}
    assert uids == {"10001"}


# -- systemd -----------------------------------------------------------------------------------------------------------------


def settings_of(unit: Path) -> Iterator[tuple[str, str]]:
    for line in unit.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            yield name, value


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_a_unit_sets_only_what_there_is(unit: Path) -> None:
    assert complaint(dict(settings_of(unit))["ExecStart"]) is None
    known = {key.variable for key in setting_keys().values()}
    named = [value.partition("=")[0] for name, value in settings_of(unit) if name == "Environment"]
    named += re.findall(r"(?m)^#Environment=(\w+)", unit.read_text())
    assert named
    assert set(named) <= known


def test_the_service_stops_as_the_pipeline_does() -> None:
    service = dict(settings_of(ROOT / "examples/systemd/sensorsync@.service"))
    assert service["Type"] == "notify"
    assert service["KillMode"] == "mixed", "a second SIGTERM ends a process at once"
    assert parse_duration(service["TimeoutStopSec"]) > STOP_SECONDS
    assert service["RestartPreventExitStatus"] == "2 6"


def test_the_replay_works_on_the_box_of_its_subscriber() -> None:
    units = [dict(settings_of(unit)) for unit in SERVICES if "@" in unit.name]
    for name in ("User", "StateDirectory", "LoadCredential", "EnvironmentFile"):
        assert len({unit[name] for unit in units}) == 1, name
