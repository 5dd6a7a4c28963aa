"""Values from several origins in one tree, where later ones replace earlier ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sensorsync.config.reference.keys import KeyPath
from sensorsync.config.sections.validation import Location


class Layers:
    """The values that were given, as a tree, and the origin of each. A later value replaces an earlier one completely."""

    def __init__(self) -> None:
        self.tree: dict[str, Any] = {}
        self.places_with_unknown_names: set[Location] = set()
        """Places whose value has an unknown name. A key that is missing there is probably this name, misspelled."""
        self._origins: dict[Location, str] = {}

    def set_value(
        self, path: KeyPath, value: Any, origin: str, inner_origins: Mapping[Location, str] | None = None
    ) -> None:
        """Set one key. `inner_origins` are the origins inside its value, by the path from the key."""
        section = self.tree
        for name in path[:-1]:
            section = section.setdefault(name, {})
        section[path[-1]] = value
        self._origins = {place: old for place, old in self._origins.items() if place[: len(path)] != path}
        self._origins[path] = origin
        for inner, inner_origin in (inner_origins or {}).items():
            self._origins[(*path, *inner)] = inner_origin

    def value(self, place: Location, default: Any = None) -> Any:
        """Return the value that was given for a place, or `default` when there was none."""
        value: Any = self.tree
        for part in place:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return default
        return value

    def origin(self, place: Location) -> str:
        """Return the origin of the value at a place, or of the key around it, or `default` when none was set."""
        for length in range(len(place), 0, -1):
            if place[:length] in self._origins:
                return self._origins[place[:length]]
        return "default"
