"""Text from outside, escaped for a terminal and a log: one line stays one line, and no character has an effect."""

from __future__ import annotations

import re

_UNSAFE_CHARACTERS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
"""The characters that are escaped.

They are control characters (C0, DEL, C1), line separators, characters that change the direction of writing, invisible
ones that could hide text (but not the joiners that some scripts need), and lone surrogates.
"""


def printable(text: str) -> str:
    """Return `text` with every unsafe character written as its escape.

    The result can neither forge a log line nor control a terminal.
    """
    return _UNSAFE_CHARACTERS.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)
