"""What the terminal is spared."""

import io
import re

import pytest
from rich.table import Table

from sil_cli.cli.query import CORRECT
from sil_cli.cli.terminal import SIGNS, Terminal, escape, make_reporter, print_table
from sil_cli.errors import visible
from sil_cli.runtime import StopRequest


@pytest.fixture
def terminal() -> Terminal:
    return Terminal(file=io.StringIO(), width=60, force_terminal=True, color_system=None)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb", r"a\x1b[31mb"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x07\x7f\x9b", r"\x07\x7f\x9b"),
        ("\u202e\u2028\u200f\u061c", r"\u202e\u2028\u200f\u061c"),
        ("\udcff", r"\udcff"),
        ("Zoë \u200d 雪 C:\\x", "Zoë \u200d 雪 C:\\x"),
    ],
)
def test_what_a_terminal_obeys_is_an_escape(terminal, text, shown) -> None:
    assert visible(text) == shown
    terminal.print(escape(f"{text}[bold]"))
    assert terminal.file.getvalue() == f"{shown}[bold]\n"


def test_what_nobody_escaped_can_do_no_more_than_end_a_line(terminal) -> None:
    table = Table("a\x1b[2J", title="\x9bx")
    table.add_row("one\x07\ntwo :tv:")
    terminal.print(table)
    printed = terminal.file.getvalue()
    assert r"a\x1b[2J" in printed
    assert r"\x9bx" in printed
    assert "one\\x07" in printed
    assert "two :tv:" in printed
    assert not set("\x1b\x9b\x07") & set(printed)


def test_notes_warnings_and_progress(terminal) -> None:
    terminal.file.isatty = lambda: False
    stop = StopRequest()
    for to in (terminal, Terminal(file=terminal.file, force_terminal=False)):
        reporter = make_reporter(to, stop)
        reporter.note("x\x1b[31m\ny")
        reporter.warn("x\x1b[31m\ny")
    with reporter.task("of x\x1b[31m\ny", 1) as task:
        task.advance()
    printed = terminal.file.getvalue()
    assert printed.count(r"x\x1b[31m\ny") == 5
    assert "\x1b[31m" not in printed


@pytest.mark.parametrize("is_terminal", [True, False])
def test_work_that_says_how_far_it_is_stops_where_an_interrupt_got_lost(terminal, is_terminal) -> None:
    stop = StopRequest()
    reporter = make_reporter(Terminal(file=terminal.file, force_terminal=is_terminal), stop)
    with reporter.task("Work", 2) as task:
        task.advance()
        stop.requested = True
        with pytest.raises(KeyboardInterrupt):
            task.advance()
    with pytest.raises(KeyboardInterrupt), reporter.task("More", 2):
        pytest.fail("it began")


def test_work_is_counted_only_where_it_has_a_unit(terminal) -> None:
    reporter = make_reporter(Terminal(file=terminal.file, force_terminal=False), StopRequest())
    with reporter.task("Exporting", None) as task:
        task.advance()
    with reporter.task("Drawing", 2, "images") as task:
        task.advance(2)
    assert re.fullmatch(r"Exporting: done in 0\.\d s\nDrawing: 2/2 images in 0\.\d s\n", terminal.file.getvalue())


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_narrow_encoding_gets_words_for_our_signs_and_escapes_for_letters(encoding, is_terminal) -> None:
    """Strictly: nothing is left to the stream, not even what a bar is made of."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict")
    narrow = Terminal(file=stream, width=100, force_terminal=is_terminal, color_system=None)
    columns = {
        "": list(CORRECT.values()),
        "decision": list(SIGNS.values())[:3],
        "name": ["Zo\u00eb", "\u540d", "x \u00b1 2"],
    }
    print_table(narrow, "Matches \u2026", columns, left=["decision", "name"])
    reporter = make_reporter(narrow, StopRequest())
    reporter.note("\u03bb \u2260 1")
    with reporter.task("Work", 2) as task:
        task.advance()
    stream.flush()
    shown = stream.buffer.getvalue().decode(encoding)
    rows = [" ".join(line.replace("|", " ").split()) for line in shown.splitlines()]
    assert ("ok * match Zo\\xeb" if encoding == "ascii" else "ok * match Zo\u00eb") in rows
    assert "x ~ possible \\u540d" in rows
    assert "lambda != 1" in shown
    assert ("Matches ..." in shown) == (encoding != "cp1252")
