"""What a user reads when something can't be done: one line saying what, one saying what to do."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


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
