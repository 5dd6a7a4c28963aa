"""Text from outside, made harmless for a terminal and a log: one line stays one line, and no character acts."""

from __future__ import annotations

import re

_ACTIVE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters (C0, DEL, C1), line separators, what turns the direction of writing, lone surrogates."""


def printable(text: str) -> str:
    """`text` with every active character written as its escape, so that nobody can forge a log line or drive a terminal."""
    return _ACTIVE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)
