"""What is shown to people: names from outside can't colour it, move its cursor or break its lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import markup
from rich.console import Console

from sil_cli.text import visible

if TYPE_CHECKING:
    from rich.text import Text


def escape(text: object) -> str:
    """Text from outside, for a place that takes markup: shown as it is, on one line."""
    return markup.escape(visible(str(text)))


class Terminal(Console):
    """A console that obeys no control character in what it prints, only line ends; emoji codes stay as written."""

    def __init__(self, **options: Any) -> None:
        super().__init__(emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Every text on its way out, be it printed or in a table; `escape` has done most of them before."""
        return super().render_str(visible(text, lines=True), **options)

    def on_broken_pipe(self) -> None:
        """Tell the caller that nobody reads any more; rich itself would end the program here."""
        raise BrokenPipeError
