from __future__ import annotations

from pathlib import Path

import pytest

from sensorsync.config.loading.yaml_file import parse, read
from sensorsync.errors import ConfigurationError

FILE = Path("/c.yaml")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("mqtt:\n  host: [a\n", "/c.yaml, line 3, column 1: not valid YAML"),
        ("mqtt:\n\thost: a\n", "/c.yaml, line 2, column 1: not valid YAML: found character '\\t'"),
        ("mqtt:\n  host: a: b\n", "/c.yaml, line 2, column 10: not valid YAML: mapping values are not allowed here"),
        (
            "a:\n  - b: 1\n    c: 2\n   d: 3\n",
            "/c.yaml, line 4, column 4: not valid YAML: the indentation is wrong: 3 blanks fit",
        ),
        ("a: {b}/c\n", "/c.yaml, line 1, column 7: not valid YAML: something stands behind a value that has ended"),
        ("a: {b: 1 c: 2}\n", "/c.yaml, line 1, column 11: not valid YAML: a comma or the closing bracket is missing"),
        ("a: 1\n---\nb: 2\n", "/c.yaml, line 2, column 1: not valid YAML: a second document begins here"),
        ("- a\n- b\n", "/c.yaml, line 1, column 1: must have sections such as mqtt: at its top, but it is a list"),
        (
            "just words\n",
            "/c.yaml, line 1, column 1: must have sections such as mqtt: at its top, but it is a single value",
        ),
        ("? [a]\n: b\n", "/c.yaml, line 1, column 3: a key must be a plain word"),
        ("a: b\nc: \x07\n", "/c.yaml, line 2, column 4: a character that YAML does not allow (#x0007)"),
        ("a: &x [*x]\n", "/c.yaml: nested too deeply"),
    ],
)
def test_invalid_yaml_is_refused_with_its_place(text: str, sentence: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(text, FILE)
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    "value",
    [
        "*marker-secret",
        "!marker-secret x",
        "'marker-secret",
        "%marker-secret",
        "@marker-secret",
        "[marker-secret",
        "!e!marker-secret x",
    ],
)
def test_a_secret_that_breaks_the_yaml_is_not_repeated(value: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(f"mqtt:\n  password: {value}\n", FILE)
    assert "marker-secret" not in f"{caught.value} {caught.value.hint} {caught.value.__cause__}"
    assert "line" in str(caught.value)


def test_every_place_has_its_line() -> None:
    document = parse("mqtt:\n  topics:\n  - a\n  - b\nsecurity: {keys: [{id: x}]}\n", FILE)
    assert document.lines[("mqtt", "topics", 1)] == 4
    assert document.lines[("security", "keys", 0, "id")] == 5


def test_an_alias_stands_for_its_anchor() -> None:
    assert parse("a: &x [1]\nb: *x\n", FILE).tree == {"a": ["1"], "b": ["1"]}


def test_a_byte_order_mark_is_not_part_of_the_first_key(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_bytes(b"\xef\xbb\xbfmqtt: {}\n")
    assert read(file).tree == {"mqtt": {}}


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_bytes("ü: 1\n".encode("latin-1"))
    with pytest.raises(ConfigurationError, match="is not UTF-8"):
        read(file)


def test_a_file_that_cannot_be_read_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="could not be read: Is a directory"):
        read(tmp_path)
