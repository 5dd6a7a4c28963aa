"""Contents of files in the place of their paths: refused, and never repeated."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from sensorsync.cli import main
from sensorsync.config.loading.loader import load
from sensorsync.errors import ConfigurationError

MARKER = "MIIEvQIBADANBgkqhkiG9w0BAQ"
PEM = f"-----BEGIN PRIVATE KEY-----\n{MARKER}\n{MARKER}==\n-----END PRIVATE KEY-----\n"
DER = bytes.fromhex("302e020100300506032b657004220420") + bytes(range(0xC0, 0xE0))
KEY = base64.b64encode(DER).decode()
FORMS = {
    "PEM": PEM,
    "a certificate": PEM.replace("PRIVATE KEY", "CERTIFICATE"),
    "PEM in one line": PEM.replace("\n", " "),
    "PEM with escaped line breaks": PEM.replace("\n", "\\n"),
    "text without its first line": PEM.partition("\n")[2],
    "base64 in one line": MARKER * 20,
    "longer than a path": f"{MARKER}/" * 200,
}
PATHS = [
    "mqtt.tls.ca_file",
    "mqtt.tls.cert_file",
    "mqtt.tls.key_file",
    "mqtt.password_file",
    "database.tls.ca_file",
    "database.password_file",
    "database.unix_socket",
    "dead_letters.path",
    "state_dir",
]
COMMANDS = [["config", "check"], ["config", "show"], ["check-cloud"], ["subscribe"], ["config", "show", "--json"]]


def nested(name: str, value: object) -> object:
    for part in reversed(name.split(".")):
        value = {part: value}
    return value


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", PATHS)
def test_the_content_of_a_file_in_the_place_of_its_path_is_refused_and_not_repeated(
    name: str, form: str, tmp_path: Path
) -> None:
    variable = "SENSORSYNC_" + name.replace(".", "__").upper()
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps(nested(name, FORMS[form])))
    for config_file, environ in ((file, {}), (None, {variable: FORMS[form]})):
        with pytest.raises(ConfigurationError, match="must be the path of a file") as caught:
            load(config_file, environ=environ, cwd=tmp_path / "elsewhere")
        assert str(caught.value).startswith(f"{name}: ")
        assert MARKER[:4] not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("value", [[PEM], {"a": PEM}, {PEM: 1}, [{"a": {PEM: [1]}}]])
def test_content_is_not_repeated_however_it_is_wrapped(value: object, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps(nested("mqtt.tls.key_file", value)))
    with pytest.raises(ConfigurationError) as caught:
        load(file, environ={}, cwd=tmp_path)
    assert MARKER[:4] not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("field", ["secret_file", "public_key_file"])
def test_content_in_an_entry_of_a_list_is_not_repeated(field: str, tmp_path: Path) -> None:
    keys = [{"id": "a", "algorithm": "EdDSA", field: PEM}]
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps({"security": {"keys": keys}}))
    for config_file, environ in ((file, {}), (None, {"SENSORSYNC_SECURITY__KEYS": json.dumps(keys)})):
        with pytest.raises(ConfigurationError, match=rf"security\.keys\[0\]\.{field}: must be the path") as caught:
            load(config_file, environ=environ, cwd=tmp_path / "elsewhere")
        assert MARKER[:4] not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("name", ["mqtt.username", "mqtt.host", "mqtt.topics", "database.name", "mqtt.port"])
def test_a_private_key_in_a_setting_that_is_shown_is_refused_and_not_repeated(name: str, tmp_path: Path) -> None:
    variable = "SENSORSYNC_" + name.replace(".", "__").upper()
    with pytest.raises(ConfigurationError, match=f"^{name}: has a private key in it") as caught:
        load(environ={variable: PEM}, cwd=tmp_path)
    assert MARKER[:4] not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_ends_with_exit_code_2_and_prints_no_part_of_the_key(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SENSORSYNC_MQTT__TLS__KEY_FILE", PEM)
    monkeypatch.setenv("SENSORSYNC_MQTT__TLS__CERT_FILE", PEM.replace("PRIVATE KEY", "CERTIFICATE"))
    assert main(command) == 2
    printed = "".join(capsys.readouterr())
    assert "mqtt.tls.key_file" in printed
    assert MARKER[:4] not in printed


def test_paths_and_public_keys_are_not_taken_for_contents(tmp_path: Path) -> None:
    public = PEM.replace("PRIVATE", "PUBLIC")
    keys = json.dumps([{"id": "a", "algorithm": "EdDSA", "public_key": public}])
    path = "/" + "/".join("Schlüssel für Geräte" for _ in range(100))
    loaded = load(environ={"SENSORSYNC_DATABASE__TLS__CA_FILE": path, "SENSORSYNC_SECURITY__KEYS": keys}, cwd=tmp_path)
    assert str(loaded.settings.database.tls.ca_file) == path


@pytest.mark.parametrize("form", [KEY, DER.hex(), f"data:application/x-pem-file;base64,{KEY}"])
@pytest.mark.parametrize("name", ["mqtt.tls.ca_file", "mqtt.tls.key_file", "mqtt.username", "mqtt.port"])
def test_a_key_without_the_lines_of_pem_is_refused_and_not_repeated(name: str, form: str, tmp_path: Path) -> None:
    variable = "SENSORSYNC_" + name.replace(".", "__").upper()
    file = tmp_path / "config.yaml"
    for wrapped in (form, [form], {"a": form}, {form: 1}):
        file.write_text(json.dumps(nested(name, wrapped)))
        with pytest.raises(ConfigurationError) as caught:
            load(file, environ={}, cwd=tmp_path)
        assert form[20:30] not in f"{caught.value} {caught.value.hint}"
    with pytest.raises(ConfigurationError, match=f"^{name}: ") as caught:
        load(environ={variable: form}, cwd=tmp_path)
    assert form[20:30] not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("form", [PEM, KEY])
def test_a_key_in_the_place_of_a_name_a_configuration_file_or_an_argument_is_not_repeated(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "config.yaml"
    file.write_text(json.dumps({"mqtt": {"tls": {form: "x"}}}))
    assert main(["--config", str(file), "config", "check"]) == 2
    assert main(["--config", form, "config", "check"]) == 2
    assert main(["config", "check", form]) == 2
    monkeypatch.setenv("SENSORSYNC_CONFIG", form)
    assert main(["config", "show"]) == 2
    printed = "".join(capsys.readouterr())
    assert form[30:40] not in printed
    assert printed.count("not shown") >= 4
