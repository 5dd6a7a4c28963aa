"""Values that are the content of a file, such as a private key, where the path of a file belongs.

Such a value is refused before it is validated, and is never repeated: paths are shown by `config show` and by many errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from sensorsync.config.loading.layers import Layers
from sensorsync.config.reference.keys import SettingKey, key_at
from sensorsync.config.sections.validation import Location, format_location
from sensorsync.errors import ConfigurationError
from sensorsync.runtime.key_text import holds_key_or_certificate, holds_private_key

_MAX_PATH_BYTES: Final = 4095
_MAX_NAME_BYTES: Final = 255
"""The longest path, and the longest name of a file in a path, on Linux."""
_CONTROL_CHARACTER: Final = re.compile(r"[\x00-\x1f\x7f]")


def content_errors(layers: Layers) -> Iterator[ConfigurationError]:
    """Yield an error for each path that is the content of a file, and for each private key where no secret belongs."""
    for place, text in _texts((), layers.tree):
        key = key_at(place)
        if key is None or key.secret:
            continue
        if (key.is_path and _is_content(text)) or holds_private_key(text):
            yield ConfigurationError(
                f"{_place_of(key, place)}: {_sentence(key)} (from {layers.origin(place)}; the value is not shown).",
                hint="Write the text into a file that only this user can read, and give the path of that file.",
            )


def _sentence(key: SettingKey) -> str:
    return "must be the path of a file, and is the content of one" if key.is_path else "has a private key in it"


def _place_of(key: SettingKey, place: Location) -> str:
    """Return the place as far as its names are ours. A name that the user wrote inside a path may be a part of the content."""
    if not key.is_path:
        return format_location(place)
    return format_location(place[: place.index(key.path[-1]) + 1])


def _texts(place: Location, value: Any) -> Iterator[tuple[Location, str]]:
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, bytes):
        yield place, value.decode("latin-1")
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from _texts(place, name)
            yield from _texts((*place, name), part)
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _texts((*place, index), part)


def _is_content(text: str) -> bool:
    path = text.encode(errors="surrogatepass")  # a name that is not UTF-8 has surrogates
    return (
        holds_key_or_certificate(text)
        or _CONTROL_CHARACTER.search(text) is not None
        or len(path) > _MAX_PATH_BYTES
        or any(len(name) > _MAX_NAME_BYTES for name in path.split(b"/"))
    )
