"""Suggestions for an unknown name: `did you mean ...?`."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most similar to `name`, or None when none is. Case does not count."""
    by_folded = {candidate.lower(): candidate for candidate in known}
    matches = get_close_matches(name.lower().replace("-", "_"), by_folded, n=1, cutoff=0.6)
    return by_folded[matches[0]] if matches else None


def key_suggestion(name: str, siblings: Iterable[str], all_keys: Iterable[str]) -> str | None:
    """Return a suggestion for an unknown key, or None when there is none.

    It is the nearest of its siblings, else the keys elsewhere that end in this name. A known key that is written with dots is to be
    written below its section.
    """
    keys = list(all_keys)
    if name in keys:
        section, _, leaf = name.rpartition(".")
        return f"write {leaf} on a line of its own, indented below {section.replace('.', ': ')}:"
    if near := nearest_name(name, siblings):
        return f"did you mean {near}?"
    elsewhere = [key for key in keys if key.rpartition(".")[2] == name.lower().replace("-", "_")]
    return f"did you mean {' or '.join(elsewhere)}?" if elsewhere else None
