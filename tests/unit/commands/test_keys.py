"""`sensorsync keys`: files that only their owner reads, and output without a secret."""

from __future__ import annotations

import json
import logging
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sensorsync.cli import main
from sensorsync.commands import keys
from sensorsync.config import LoadedSettings, load
from sensorsync.config.loading import yaml_file
from sensorsync.errors import ConfigurationError, UsageError
from sensorsync.messages.envelope import ALGORITHMS, generate_key
from sensorsync.wiring import envelope, message_encoder

PAIRS = ("RS256", "PS256", "EdDSA")


def loaded(folder: Path, *entries: dict[str, Any], **more: Any) -> LoadedSettings:
    environ = {"SENSORSYNC_SECURITY__KEYS": json.dumps(entries), "HOME": str(folder), **more}
    return load(None, {}, environ, folder)


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(yaml_file, "SYSTEM_FILE", tmp_path / "none")
    handlers = list(logging.getLogger().handlers)
    yield
    logging.getLogger().handlers[:] = handlers
    logging.captureWarnings(capture=False)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_generated_key_is_in_files_of_mode_0600_and_not_in_the_result(tmp_path: Path, algorithm: str) -> None:
    result = keys.generate("2026-a", algorithm)
    names = {"2026-a.pem", "2026-a.pub.pem"} if algorithm in PAIRS else {"2026-a.key"}
    assert {file.name for file in tmp_path.iterdir()} == names
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}
    secret = Path(result.data["secret_file"]).read_text()
    shown = json.dumps(result.envelope())
    assert [line for line in secret.splitlines() if "-----" not in line and line in shown] == []
    assert "PRIVATE KEY" not in shown


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_settings_that_generate_prints_work(tmp_path: Path, algorithm: str) -> None:
    printed = keys.generate("k", algorithm, tmp_path).data["settings"]
    maker, opener = (loaded(tmp_path, printed[side]).settings.security for side in ("makes", "opens"))
    seal = message_encoder(maker)
    assert seal is not None
    assert envelope(opener).verify_and_decrypt(seal(b"{}")) == b"{}"
    assert (message_encoder(opener) is None) == (algorithm in PAIRS)


def test_out_names_a_file_or_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()
    assert keys.generate("a", "HS256", folder).data["secret_file"] == str(folder / "a.key")
    result = keys.generate("b", "EdDSA", folder / "gateway.pem")
    assert Path(result.data["public_key_file"]).name == "gateway.pub.pem"


def test_what_is_there_is_never_overwritten_and_half_a_pair_is_never_left(tmp_path: Path) -> None:
    keys.generate("a", "HS256")
    before = (tmp_path / "a.key").read_bytes()
    with pytest.raises(ConfigurationError, match="there already"):
        keys.generate("a", "HS256")
    assert (tmp_path / "a.key").read_bytes() == before
    (tmp_path / "b.pub.pem").write_text("mine")
    with pytest.raises(ConfigurationError, match="there already"):
        keys.generate("b", "EdDSA")
    assert not (tmp_path / "b.pem").exists()
    assert (tmp_path / "b.pub.pem").read_text() == "mine"
    with pytest.raises(ConfigurationError, match="could not be written"):
        keys.generate("c", "HS256", tmp_path / "nowhere" / "c.key")


@pytest.mark.parametrize("key_id", ["", "../a", "a/b", ".hidden", "a b", "a\n", "x" * 129])
def test_an_id_that_is_not_a_file_name_is_refused(key_id: str) -> None:
    with pytest.raises(UsageError, match="no id for a key"):
        keys.generate(key_id, "HS256")


@pytest.mark.parametrize("algorithm", ["none", "HS512", "hs256", ""])
def test_an_unknown_algorithm_is_refused(algorithm: str) -> None:
    with pytest.raises(UsageError, match="must be one of"):
        keys.generate("a", algorithm)


def test_list_shows_the_use_the_origin_and_the_fingerprint_of_each_key(tmp_path: Path) -> None:
    pair = keys.generate("pair", "EdDSA").data["settings"]
    content = keys.generate("content", "A256GCM").data["settings"]["makes"]
    result = keys.show(
        loaded(tmp_path, {**pair["opens"], "id": "twin"}, pair["makes"], content, {"id": "weak", "secret": "marker"})
    )
    rows = {row["id"]: row for row in result.data["keys"]}
    assert [(row["id"], row["use"], row["makes"]) for row in result.data["keys"]] == [
        ("twin", ["verify"], False),
        ("pair", ["sign", "verify"], True),
        ("content", ["encrypt", "decrypt"], True),
        ("weak", ["sign", "verify"], False),
    ]
    assert rows["twin"]["fingerprint"] == rows["pair"]["fingerprint"]
    assert rows["weak"]["fingerprint"] is None
    assert "6 bytes" in rows["weak"]["weakness"]
    assert rows["pair"]["from"] == f"file {tmp_path / 'pair.pem'}"
    assert rows["weak"]["from"] == "security.keys[3].secret (env SENSORSYNC_SECURITY__KEYS)"
    assert "marker" not in json.dumps(result.envelope())


def test_list_names_every_key_that_is_wrong_and_shows_the_others(tmp_path: Path) -> None:
    result = keys.show(
        loaded(
            tmp_path,
            {"id": "gone", "secret_file": str(tmp_path / "gone")},
            {"id": "no-pem", "algorithm": "EdDSA", "public_key": "x"},
            {"id": "good", "secret": "s" * 32},
        )
    )
    assert result.exit_code == 2
    assert len(result.problems) == 2
    assert [row["fingerprint"] is not None for row in result.data["keys"]] == [False, False, True]
    assert [row["use"] for row in result.data["keys"]][1] == ["verify"]


def test_list_names_a_key_that_is_for_two_algorithms(tmp_path: Path) -> None:
    text = generate_key("e", "A256GCM").material.decode()
    result = keys.show(
        loaded(tmp_path, {"id": "a", "secret": text}, {"id": "e", "algorithm": "A256GCM", "secret": text})
    )
    assert result.exit_code == 2
    assert "one algorithm" in result.problems[0].message


def test_show_public_prints_the_public_half_alone(tmp_path: Path) -> None:
    pair = keys.generate("pair", "PS256").data
    both = loaded(tmp_path, pair["settings"]["makes"], {"id": "shared", "secret": "s" * 32})
    assert keys.show_public(both, "pair").data["public_key"] == Path(pair["public_key_file"]).read_text()
    with pytest.raises(UsageError, match="no public half"):
        keys.show_public(both, "shared")
    with pytest.raises(UsageError, match="no key 'other'"):
        keys.show_public(both, "other")


def test_the_commands_print_for_people(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["keys", "list"]) == 0
    assert "No keys are configured" in capsys.readouterr().out
    for algorithm in ALGORITHMS:
        assert main(["keys", "generate", "--id", algorithm, "--algorithm", algorithm, "--out", str(tmp_path)]) == 0
    made = capsys.readouterr().out
    assert made.count("Key ") == len(ALGORITHMS)
    entries = [json.loads(line.removeprefix("  - ")) for line in made.splitlines() if line.startswith("  - ")]
    monkeypatch.setenv(
        "SENSORSYNC_SECURITY__KEYS", json.dumps(list({entry["id"]: entry for entry in entries}.values()))
    )
    assert main(["keys", "list"]) == 0
    listed = capsys.readouterr().out
    assert all(algorithm in listed for algorithm in ALGORITHMS)
    assert main(["keys", "show-public", "EdDSA"]) == 0
    assert capsys.readouterr().out == (tmp_path / "EdDSA.pub.pem").read_text()
    secret = (tmp_path / "HS256.key").read_text().strip()
    assert secret not in made + listed
    assert main(["keys", "generate", "--id", "HS256", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["errors"][0]["code"] == "configuration"


def test_config_check_finds_an_invalid_key_and_a_key_file_that_all_can_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "key"
    file.write_text("marker" * 10)
    file.chmod(0o644)
    monkeypatch.setenv("SENSORSYNC_SECURITY__KEYS", json.dumps([{"id": "a", "secret_file": str(file)}]))
    assert main(["config", "check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["warnings"] == [
        f"Every user of this machine can read the key file {file}: chmod 600."
    ]
    entry = {"id": "a", "algorithm": "EdDSA", "secret_file": str(file)}
    monkeypatch.setenv("SENSORSYNC_SECURITY__KEYS", json.dumps([entry]))
    assert main(["config", "check", "--json"]) == 2
    shown = capsys.readouterr().out
    assert "no key in PEM" in json.loads(shown)["errors"][0]["message"]
    assert "marker" not in shown
