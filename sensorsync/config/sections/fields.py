"""Building blocks of the sections: the base class, the function that declares a key, and the types of values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    ValidationInfo,
)

MASK = "***"
UNSET = "(unset)"
_LONGEST_SECRET = 65536


class Section(BaseModel):
    """A group of keys. It is frozen, and an unknown key is an error."""

    # hide_input_in_errors: a ValidationError that escapes into a traceback or a log must not carry a secret.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True)


def setting(
    default: Any = ...,
    *,
    doc: str,
    example: object,
    env: Sequence[str] = (),
    unit: str | None = None,
    default_factory: Callable[[dict[str, Any]], Any] | None = None,
    default_text: str | None = None,
    **limits: Any,
) -> Any:
    """Declare one key of the settings, with its documentation.

    `doc` is its description. `example` is a value as it is written in YAML. `env` has its well-known environment variables beside the
    systematic one. `unit` is the unit of a number. `default_factory` gets the keys of the section that are declared above it, and
    `default_text` then describes its result in words.
    """
    about: dict[str, Any] = {"env": list(env), "unit": unit, "default_text": default_text}
    extra = {key: value for key, value in about.items() if value}
    if default_factory is not None:
        return Field(
            default_factory=default_factory, description=doc, examples=[example], json_schema_extra=extra, **limits
        )
    return Field(default, description=doc, examples=[example], json_schema_extra=extra, **limits)


def section(model: type[Section]) -> Any:
    """Declare a group of keys inside another one. It has its own defaults when it is not given."""
    return Field(default_factory=model)


def mask(value: SecretStr | None) -> str:
    """Return the text that is shown for a secret: `***`, or `(unset)` when there is none."""
    return MASK if value is not None and value.get_secret_value() else UNSET


def _expand_home(value: Path) -> Path:
    return value.expanduser()


def _upper(value: object) -> object:
    text = value.strip().upper() if isinstance(value, str) else value
    return {"WARN": "WARNING", "FATAL": "CRITICAL"}.get(text, text) if isinstance(text, str) else text


def _split(value: object) -> object:
    """Split a text at its commas. The environment and flags write lists in this way."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _readable(path: Path) -> Path:
    read_secret(path)
    return path


def read_secret(path: Path) -> SecretStr:
    """Return the password that is the only content of a file, without line breaks at its end.

    Raises ValueError when the file cannot be read, is not UTF-8, is empty, or is longer than 65,536 characters.
    """
    try:
        with path.open(encoding="utf-8") as stream:
            text = stream.read(_LONGEST_SECRET + 1)
    except OSError as error:
        raise ValueError(f"the file cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError("the file is not UTF-8") from None
    secret = text.rstrip("\r\n")
    if not secret or len(text) > _LONGEST_SECRET:
        raise ValueError("the file must hold the password and nothing else")
    return SecretStr(secret)


def resolve_password(password: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
    """Return a section's `password`, or the content of its `password_file`.

    The section must declare `password_file` above `password`. Raises ValueError when both are set.
    """
    file = info.data.get("password_file")
    if file is None:
        return password
    if password is not None and password.get_secret_value():
        raise ValueError("is set, and password_file is, too: remove one of them")
    return read_secret(file)


def _as_text(value: object) -> object:
    """Convert an integer to a text, because a version such as 5 is a number in YAML."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Secret = Annotated[SecretStr, PlainSerializer(mask, return_type=str, when_used="json")]
FilePath = Annotated[Path, AfterValidator(_expand_home)]
SecretFile = Annotated[Path, AfterValidator(_expand_home), AfterValidator(_readable)]
Port = Annotated[int, Field(ge=1, le=65535)]
PositiveInt = Annotated[int, Field(ge=1)]
UpperCase = BeforeValidator(_upper)
CommaSeparated = BeforeValidator(_split)
AsText = BeforeValidator(_as_text)
