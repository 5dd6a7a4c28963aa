"""The YAML file: the search for it, and a reader that keeps line numbers.

Scalars are read as their text, not by the guesses of YAML 1.1, where `off` is false and `0123` is 83. The type of the key decides the
meaning of a value, as it does for an environment variable.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sensorsync.config.sections.validation import Location
from sensorsync.errors import ConfigurationError
from sensorsync.runtime.key_text import hide_private_key

SYSTEM_FILE = Path("/etc/sensorsync/config.yaml")
_NULL = {"", "~", "null", "Null", "NULL"}
_YAML_TAG = "tag:yaml.org,2002:"
_QUOTED = re.compile(r"'[^'<]{4,}'")


@dataclass(slots=True)
class YamlDocument:
    """The content of a file: a tree of dicts, lists and texts, and the line of every place in it."""

    tree: dict[str, Any] = field(default_factory=dict)
    lines: dict[Location, int] = field(default_factory=dict)
    duplicates: list[tuple[Location, int, int]] = field(default_factory=list)
    """Keys that occur twice, each as (place, line, line of the first)."""


def find(config_file: Path | None, environ: Mapping[str, str], cwd: Path) -> Path | None:
    """Return the file to read: the one that is named, else the first of the usual places that exists, else None.

    Raises ConfigurationError when the named file (`--config`, SENSORSYNC_CONFIG) does not exist.
    """
    for named, by in ((config_file, "--config"), (environ.get("SENSORSYNC_CONFIG"), "SENSORSYNC_CONFIG")):
        if named:
            path = cwd / Path(named).expanduser()
            if not path.is_file():
                raise ConfigurationError(
                    f"The configuration file {hide_private_key(str(path))} (named by {by}) does not exist or is no file.",
                    hint="Correct the path, or leave it out to use the usual places.",
                )
            return path
    return next((path for path in default_paths(environ, cwd) if path.is_file()), None)


def default_paths(environ: Mapping[str, str], cwd: Path) -> tuple[Path, ...]:
    """Return the usual places of a file, in the order in which they are tried when no file is named."""
    home = Path(environ.get("HOME") or Path.home())
    user = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    return (cwd / "sensorsync.yaml", user / "sensorsync" / "config.yaml", SYSTEM_FILE)


def read(path: Path) -> YamlDocument:
    """Read and parse a file. Raises ConfigurationError with file, line and column when it is not YAML or not a mapping."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigurationError(
            f"The configuration file {path} could not be read: {error.strerror}.",
            hint="Give the user that runs sensorsync the right to read it.",
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"The configuration file {path} is not UTF-8 (byte {error.start + 1}).", hint="Save it as UTF-8."
        ) from error
    return parse(text, path)


def parse(text: str, path: Path) -> YamlDocument:
    """Parse the text of a file. `path` is for the errors. Raises ConfigurationError."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        document = YamlDocument()
        if root is None or _is_null(root):
            return document
        if not isinstance(root, yaml.MappingNode):
            kind = "a list" if isinstance(root, yaml.SequenceNode) else "a single value"
            raise _error(path, root, f"must have sections such as mqtt: at its top, but it is {kind}")
        document.tree = _mapping(root, (), document, path)
    except yaml.reader.ReaderError as error:
        line, column = _line_and_column(text, error.position)
        raise ConfigurationError(
            f"{path}, line {line}, column {column}: a character that YAML does not allow (#x{error.character:04x})."
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        # Raised without a cause, because the library's own message quotes the file, and the quotation may be a secret.
        raise ConfigurationError(
            f"{path}{where}: not valid YAML: {_explain(error, text)}.",
            hint="Indent with blanks, and put quotes around values with special characters.",
        ) from None
    except RecursionError:
        raise ConfigurationError(f"{path}: nested too deeply.") from None
    return document


def _explain(error: yaml.MarkedYAMLError, text: str) -> str:
    """Return the mistake in plain words when it is a common one, else in the parser's own words without its quotations of the file."""
    if isinstance(error, yaml.composer.ComposerError):
        if error.problem and "another document" in error.problem:
            return "a second document begins here (---); there may be only one"
        return "a value beginning with * or & refers to nothing; put quotes around it"
    problem, here = error.problem or "", error.problem_mark
    if problem.startswith("expected <block end>") and here:
        if not text[: here.index].rpartition("\n")[2].strip():
            return f"the indentation is wrong: {here.column} blanks fit none of the sections that are open here"
        return "something stands behind a value that has ended"
    if problem.startswith("expected ',' or"):
        return "a comma or the closing bracket is missing before this"
    if problem.startswith("mapping values"):
        return f"{problem}: the line is indented too far, or a text has a colon in it"
    return _QUOTED.sub("'...'", error.problem or error.context or "it ends unexpectedly")


def _mapping(node: yaml.MappingNode, place: Location, document: YamlDocument, path: Path) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise _error(path, key_node, "a key must be a plain word")
        name = key_node.value
        here = (*place, name)
        line = key_node.start_mark.line + 1
        if name in tree:
            document.duplicates.append((here, line, document.lines[here]))
            continue
        document.lines[here] = line
        tree[name] = _value(value_node, here, document, path)
    return tree


def _value(node: yaml.Node, place: Location, document: YamlDocument, path: Path) -> Any:
    if not str(node.tag).startswith(_YAML_TAG):
        raise _error(path, node, "a value beginning with ! is a tag, and none is known here; put quotes around it")
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, place, document, path)
    if isinstance(node, yaml.SequenceNode):
        return list(_items(node, place, document, path))
    return None if _is_null(node) else node.value


def _items(node: yaml.SequenceNode, place: Location, document: YamlDocument, path: Path) -> Iterator[Any]:
    for index, item in enumerate(node.value):
        document.lines[(*place, index)] = item.start_mark.line + 1
        yield _value(item, (*place, index), document, path)


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.style is None and node.value in _NULL


def _error(path: Path, node: yaml.Node, message: str) -> ConfigurationError:
    mark = node.start_mark
    return ConfigurationError(f"{path}, line {mark.line + 1}, column {mark.column + 1}: {message}.")


def _line_and_column(text: str, position: int) -> tuple[int, int]:
    before = text[:position]
    return before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1
