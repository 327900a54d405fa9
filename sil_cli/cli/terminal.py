"""What is shown to people: names from outside can't colour it, move its cursor or break its lines."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from rich import markup
from rich.console import Console

if TYPE_CHECKING:
    from rich.text import Text

_UNSEEN = "\\x00-\\x1f\\x7f-\\x9f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff"
"""Control characters, line ends, what turns the direction of writing, and halves of characters (bytes not UTF-8)."""

_ANY = re.compile(f"[{_UNSEEN}]")
_BUT_LINES = re.compile(f"(?!\n)[{_UNSEEN}]")


def visible(text: str) -> str:
    r"""The text on one line, with what a terminal would obey shown as an escape such as \x1b or \n."""
    return _ANY.sub(_escaped, text)


def escape(text: object) -> str:
    """Text from outside, for a place that takes markup: shown as it is, on one line."""
    return markup.escape(visible(str(text)))


class Terminal(Console):
    """A console that obeys no control character in what it prints, only line ends; emoji codes stay as written."""

    def __init__(self, **options: Any) -> None:
        super().__init__(emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Every text on its way out, be it printed or in a table; `escape` has done most of them before."""
        return super().render_str(_BUT_LINES.sub(_escaped, text), **options)

    def on_broken_pipe(self) -> None:
        """Tell the caller that nobody reads any more; rich itself would end the program here."""
        raise BrokenPipeError


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
