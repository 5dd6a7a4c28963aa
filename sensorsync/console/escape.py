"""Text from outside, made harmless for a terminal and a log: one line stays one line, and no character acts."""

from __future__ import annotations

import re

_UNSAFE_CHARACTERS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
"""Control characters (C0, DEL, C1), line separators, what turns the direction of writing, what is invisible and could hide text (but
not the joiners that some scripts need), lone surrogates."""


def printable(text: str) -> str:
    """`text` with every active character written as its escape, so that nobody can forge a log line or drive a terminal."""
    return _UNSAFE_CHARACTERS.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)
