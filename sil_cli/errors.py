"""What a user is told: errors of two lines, what and what to do; and text from outside made harmless.

Terminals, spreadsheets, browsers and readers' eyes obey some characters; names and messages may be a stranger's.
"""

from __future__ import annotations

import re
import shlex
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


_PYDANTIC = (
    (r"Value error, ", ""),  # its mark of a message of ours
    (r"Input should be greater than or equal to", "it must be at least"),
    (r"Input should be less than or equal to", "it must be at most"),
    (r"Input should be a valid integer(, [^.]*)?", "it must be a whole number"),
    (r"Input should be a valid number(, [^.]*)?", "it must be a number"),
    (r"Input should be a valid boolean(, [^.]*)?", "it must be true or false"),
    (r"Input should be a valid string", "it must be text"),
    (r"Input should be a valid (tuple|list)", "it must be a list"),
    (r"Input should be a valid dictionary( or instance of \w+)?", "it must be a table of keys and values"),
    (r"Input is not a valid path.*", "it must be a path"),
    (r"(Tuple|List) should have (.*) after validation, not \d+", r"it must have \2"),
    (r"Field required", "it is missing"),
    (r"Extra inputs are not permitted", "this key is not known"),
    (r"Input should", "it must"),
)
"""What pydantic says of a value, and how a colleague would say it."""


_LONGEST, _KEPT_END = 4000, 200
"""Letters of a line that is told; what a stranger wrote could fill the screen a thousand times."""


def _clipped(line: str) -> str:
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - _KEPT_END]}…{line[-_KEPT_END:]}"


class SilError(Exception):
    """A failure that a user can understand and act on.

    Args:
        what: One line that says what went wrong, naming the file, key or value.
        fix: One line that says what to do about it.
    """

    exit_code = 1

    def __init__(self, what: str, fix: str) -> None:
        self.what, self.fix = _clipped(what), _clipped(fix)
        super().__init__(self.what, self.fix)

    def __str__(self) -> str:
        return f"{self.what} {self.fix}"


class DataError(SilError):
    """A data set, manifest or image that can't be used."""


class ModelError(SilError):
    """A model or checkpoint that can't be used."""


class GalleryError(SilError):
    """A gallery that can't be used, or not with this model."""


class UsageError(SilError):
    """A wrong argument or setting (exit code 2)."""

    exit_code = 2


class InterruptedWorkError(SilError):
    """Ctrl-C or a termination signal; says what can be resumed (exit code 130)."""

    exit_code = 130


class AlreadyReportedError(SilError):
    """Another process of the same command has reported what went wrong.

    Args:
        exit_code: That of this process.
    """

    def __init__(self, exit_code: int) -> None:
        super().__init__("Another process has reported what went wrong.", "See its message.")
        self.exit_code = exit_code


def in_plain_words(message: str) -> str:
    """A message of pydantic as a user may read it: `it must be at least 1`; our own messages stay as they are."""
    for pattern, words in _PYDANTIC:
        message = re.sub(pattern, words, message)
    return message


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like `word`, or None when nothing is near."""
    found = get_close_matches(word, list(known), n=1, cutoff=0.5)
    return found[0] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A sentence that names the nearest known word and lists all of them."""
    names = sorted(known)
    near = nearest(word, names)
    guess = f"Did you mean '{near}'? " if near else ""
    return f"{guess}Known: {', '.join(names)}."


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that led to it; some of other packages (gRPC's) name themselves as their cause."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = error.__cause__ or error.__context__


_LONGEST_LINE = 400  # letters of what a package says of a file
_OBEYED = "\\x00-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff"
"""Control characters, line ends, what turns the direction of writing, and halves of characters (bytes not UTF-8)."""

_ANY = re.compile(f"[{_OBEYED}]")
_FORMULA = re.compile("'*[=+\\-@\uff1d\uff0b\uff0d\uff20]")
"""How a cell begins that a spreadsheet computes; the last four are the wide forms of the first."""

_CELL_ESCAPES = re.compile(r"\\(?:\\|[tnr]|x[0-9a-f]{2}|u[0-9a-f]{4})")
_ESCAPES = re.compile(r"\\(?:[tnr]|x[0-9a-f]{2}|u[0-9a-f]{4})")
_ALL_BUT_LINE_ENDS = re.compile(f"(?!\n)[{_OBEYED}]")


def one_line(error: BaseException) -> str:
    """An exception's text on one line, without a final full stop, and not longer than anybody would read."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error)[: 2 * _LONGEST_LINE].split()).rstrip(".") or type(error).__name__
    return text if len(text) <= _LONGEST_LINE else f"{text[:_LONGEST_LINE]}…"


def visible(text: str, *, lines: bool = False) -> str:
    r"""The text with what a terminal, a browser or a reader's eye would obey shown as an escape such as \x1b or \n.

    Args:
        text: From anywhere.
        lines: Line feeds stay as they are; otherwise the text comes out as one line.
    """
    return (_ALL_BUT_LINE_ENDS if lines else _ANY).sub(_escaped, text)


def not_visible(text: str) -> str:
    """The text of which `visible` made this one; what looks like an escape of something else stays."""
    return _ESCAPES.sub(lambda found: _meant(found[0]), text)


def _meant(escape: str) -> str:
    letter = escape.encode("ascii").decode("unicode_escape")
    return letter if _ANY.fullmatch(letter) else escape


_IN_ASCII = (
    {"✓": "ok", "✗": "x", "●": "*", "◐": "~", "○": "-", "≠": "!=", "…": "...", "–": "-", "−": "-", "×": "x", "÷": "/"}
    | {"±": "+/-", "→": "->", "·": ".", "¹": "1", "²": "2", "³": "3"}
    | {"α": "alpha", "γ": "gamma", "ε": "epsilon", "λ": "lambda", "ρ": "rho", "τ": "tau"}
)
"""Our own signs and letters as words or in ASCII, for streams that have no others."""


def sayable(text: str, encoding: str) -> str:
    """The text with what an encoding lacks in ASCII: our own signs as words, letters of names as escapes."""
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return "".join(one if _is_in(one, encoding) else _in_ascii(one) for one in text)
    return text


def say_in_ascii(error: UnicodeError) -> tuple[str, int]:
    """What a stream writes for letters that its encoding lacks: `sayable` as an error handler of codecs."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_in_ascii, error.object[error.start : error.end])), error.end


def _is_in(letter: str, encoding: str) -> bool:
    try:
        return bool(letter.encode(encoding))
    except (UnicodeEncodeError, LookupError):
        return letter.isascii()


def _in_ascii(letter: str) -> str:
    return _IN_ASCII.get(letter) or letter.encode("ascii", "backslashreplace").decode()


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def quoted(path: Path | str) -> str:
    """A path for a command line that the user may copy, as a shell takes it."""
    return shlex.quote(str(path))


def as_cell(text: str) -> str:
    r"""A table's cell that no spreadsheet computes and no terminal obeys; `from_cell` gives the text again.

    What begins like a formula, holds what `visible` shows as an escape, or has a space at an end is written after an
    apostrophe, with escapes such as `\x1b`; its backslashes are doubled.
    """
    harmless = text == text.strip() and not _ANY.search(text) and not _FORMULA.match(text)
    if harmless and not (text.startswith("'") and "\\" in text):
        return text
    shown = visible(text.replace("\\", "\\\\"))
    return "'" + re.sub(r"^\s|\s$", lambda found: f"\\u{ord(found[0]):04x}", shown)


def from_cell(cell: str) -> str:
    """The text of which `as_cell` made a cell; any other cell is its own text."""
    text = _CELL_ESCAPES.sub(lambda found: found[0].encode("ascii").decode("unicode_escape"), cell[1:])
    return text if cell.startswith("'") and as_cell(text) == cell else cell


def json_for_terminals(text: str) -> str:
    r"""The same JSON with what `visible` would show as an escape inside of strings as JSON's own, `\u202e`."""
    return _ALL_BUT_LINE_ENDS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
