"""Text from outside, such as the names of files and people, made harmless for whoever looks at it."""

from __future__ import annotations

import re

_OBEYED = "\\x00-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff"
"""Control characters, line ends, what turns the direction of writing, and halves of characters (bytes not UTF-8)."""

_ANY = re.compile(f"[{_OBEYED}]")
_ALL_BUT_LINE_ENDS = re.compile(f"(?!\n)[{_OBEYED}]")


def visible(text: str, *, lines: bool = False) -> str:
    r"""The text with what a terminal, a browser or a reader's eye would obey shown as an escape such as \x1b or \n.

    Args:
        text: From anywhere.
        lines: Line feeds stay as they are; otherwise the text comes out as one line.
    """
    return (_ALL_BUT_LINE_ENDS if lines else _ANY).sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
