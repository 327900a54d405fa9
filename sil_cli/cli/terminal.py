"""What is shown to people: names from outside can't colour it, move its cursor or break its lines."""

from __future__ import annotations

import os
from typing import Any

from rich import markup
from rich.console import Console
from rich.text import Text

from sil_cli.text import visible

_IN_ASCII = str.maketrans(
    {"✓": "ok", "✗": "x", "●": "*", "◐": "~", "○": "-", "≠": "!=", "…": "...", "–": "-", "−": "-", "×": "x", "÷": "/"}
    | {"±": "+/-", "→": "->", "λ": "lambda"}
)


def escape(text: object) -> str:
    """Text from outside, for a place that takes markup: shown as it is, on one line."""
    return markup.escape(visible(str(text)))


class Terminal(Console):
    """A console that obeys no control character in what it prints, only line ends; emoji codes stay as written."""

    def __init__(self, **options: Any) -> None:
        if os.environ.get("COLUMNS", "").strip() == "0":  # as containers set it; rich would print nothing at all
            options["width"] = 80
        super().__init__(emoji=False, **options)

    @property
    def is_bounded(self) -> bool:
        """Whether lines have an end: in a terminal, or where COLUMNS says so; in a pipe they have none."""
        return self.is_terminal or "COLUMNS" in os.environ

    def length(self, text: str) -> int:
        """The cells that the longest line of some markup takes here."""
        lines = self._sayable(text).splitlines()
        return max((Text.from_markup(line, emoji=False).cell_len for line in lines), default=0)

    def render_str(self, text: str, **options: Any) -> Text:
        """Every text on its way out, be it printed or in a table; `escape` has done most of them before."""
        return super().render_str(self._sayable(visible(text, lines=True)), **options)

    def _sayable(self, text: str) -> str:
        """The text with our own signs as words or ASCII where the stream's encoding lacks them."""
        try:
            text.encode(self.encoding)
        except (UnicodeEncodeError, LookupError):
            return text.translate(_IN_ASCII)
        return text

    def on_broken_pipe(self) -> None:
        """Tell the caller that nobody reads any more; rich itself would end the program here."""
        raise BrokenPipeError
