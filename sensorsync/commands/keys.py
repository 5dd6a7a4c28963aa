"""The `keys generate`, `keys list` and `keys show-public` commands for `security.keys`. No secret is part of a result."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from sensorsync.commands.result import CommandResult
from sensorsync.config import KeySettings, LoadedSettings
from sensorsync.errors import ConfigurationError, ExitCode, Problem, UsageError
from sensorsync.messages.envelope import ALGORITHMS, Key, generate_key
from sensorsync.wiring import envelope, load_key

_KEY_ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_SECRET_FILE_MODE = 0o600
_KEY_USES = {
    ("signature", True): ("sign", "verify"),
    ("signature", False): ("verify",),
    ("encryption", True): ("encrypt", "decrypt"),
}


def generate(key_id: str, algorithm: str, out: Path | None = None) -> CommandResult:
    """Generate a key and write its secret to a file, and the public half of a key pair beside it.

    `out` is the file of the secret, or a folder, by default the working folder. Raises UsageError when the id or the
    algorithm is invalid, ConfigurationError when a file exists already or cannot be written.
    """
    if not _KEY_ID_PATTERN.fullmatch(key_id):
        raise UsageError(
            f"--id: {key_id[:128]!r} is no id for a key.", hint="Letters, digits, '.', '_' and '-', at most 128."
        )
    if algorithm not in ALGORITHMS:
        raise UsageError(f"--algorithm: must be one of {', '.join(ALGORITHMS)}, not {algorithm[:32]!r}.")
    key = generate_key(key_id, algorithm)
    secret_file = _secret_file(key, out)
    files = {secret_file: key.material}
    public_file = None
    if key.public_pem is not None:
        public_file = secret_file.with_name(f"{secret_file.name.removesuffix('.pem')}.pub.pem")
        files[public_file] = key.public_pem.encode()
    _write_new_files(files)
    settings: dict[str, Any] = {"id": key_id, "algorithm": algorithm}
    data = {
        **_key_as_json(key),
        "secret_file": str(secret_file),
        "public_key_file": public_file and str(public_file),
        "public_key": key.public_pem,
        "settings": {
            "makes": {**settings, "secret_file": str(secret_file)},
            "opens": {**settings, "public_key_file": str(public_file)}
            if public_file
            else {**settings, "secret_file": str(secret_file)},
        },
    }
    return CommandResult("keys generate", data)


def show(loaded: LoadedSettings) -> CommandResult:
    """Return every configured key with its id, algorithm, use, origin and fingerprint.

    A key that cannot be read is a problem of the result.
    """
    security = loaded.settings.security
    problems, entries = [], []
    for index, settings in enumerate(security.keys):
        entry: dict[str, Any] = {
            "from": _key_origin(settings, index, loaded),
            "makes": settings in (security.signing_key_settings, security.encryption_key_settings),
        }
        try:
            entry = {**_key_as_json(key := load_key(settings)), **entry, "weakness": key.weakness}
        except ConfigurationError as error:
            problems.append(Problem.from_error(error))
            use = list(_KEY_USES.get((settings.use, settings.is_private), ()))
            entry = {
                "id": settings.id,
                "algorithm": settings.algorithm,
                "use": use,
                "fingerprint": None,
                **entry,
                "weakness": None,
            }
        entries.append(entry)
    if not problems:
        problems = list(_key_conflicts(loaded))
    data = {"signatures": security.signatures, "encryption": security.encryption, "keys": entries}
    return CommandResult("keys list", data, ExitCode.USAGE if problems else ExitCode.OK, tuple(problems))


def show_public(loaded: LoadedSettings, key_id: str) -> CommandResult:
    """Return the public half of a configured key in PEM.

    Raises UsageError when there is none, ConfigurationError when the key cannot be read.
    """
    found = next((key for key in loaded.settings.security.keys if key.id == key_id), None)
    if found is None:
        known = ", ".join(key.id for key in loaded.settings.security.keys) or "none"
        raise UsageError(f"security.keys has no key {key_id[:128]!r}.", hint=f"Configured: {known}.")
    key = load_key(found)
    if key.public_pem is None:
        raise UsageError(f"Key {key_id!r} is for {key.algorithm}: it is a secret as a whole, and has no public half.")
    return CommandResult("keys show-public", {**_key_as_json(key), "public_key": key.public_pem})


def _key_as_json(key: Key) -> dict[str, Any]:
    return {
        "id": key.id,
        "algorithm": key.algorithm,
        "use": list(_KEY_USES[key.use, key.is_private]),
        "fingerprint": key.fingerprint,
    }


def _key_origin(key: KeySettings, index: int, loaded: LoadedSettings) -> str:
    file = key.secret_file or key.public_key_file
    if file is not None:
        return f"file {file}"
    name = "secret" if key.is_private else "public_key"
    return f"security.keys[{index}].{name} ({loaded.origins['security.keys']})"


def _key_conflicts(loaded: LoadedSettings) -> Iterator[Problem]:
    try:
        envelope(loaded.settings.security)
    except ConfigurationError as error:
        yield Problem.from_error(error)


def _secret_file(key: Key, out: Path | None) -> Path:
    name = f"{key.id}.pem" if key.public_pem is not None else f"{key.id}.key"
    target = Path() if out is None else out.expanduser()
    return (target / name if target.is_dir() else target).absolute()


def _write_new_files(files: dict[Path, bytes]) -> None:
    """Write all of the files or none, readable only for their owner. An existing file is never overwritten."""
    with ExitStack() as undo:
        for path, content in files.items():
            try:
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _SECRET_FILE_MODE)
                undo.callback(path.unlink)
                with os.fdopen(descriptor, "wb") as stream:
                    stream.write(content.rstrip() + b"\n")
            except FileExistsError:
                raise ConfigurationError(
                    f"The file {path} is there already.",
                    hint="Keys are never overwritten: choose another --id or --out.",
                ) from None
            except OSError as error:
                raise ConfigurationError(
                    f"The file {path} could not be written: {error.strerror}.", hint="Check --out."
                ) from error
        undo.pop_all()
