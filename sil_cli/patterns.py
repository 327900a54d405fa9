"""Regular expressions that a user, or a stranger's settings, gives for the names of files."""

from __future__ import annotations

import re
import signal
import threading
import warnings
from typing import TYPE_CHECKING, NoReturn

from sil_cli.errors import UsageError
from sil_cli.files import composed

if TYPE_CHECKING:
    from types import FrameType

_SECONDS = 1.0
_LONGEST_SHOWN = 200


class _TooLongError(Exception):
    """The second is over."""


class PathPattern:
    """An expression that is searched in paths, for a second in each: some would go on for ever.

    Letters are compared composed (NFC), however the expression and the paths are spelt.

    Time is kept by SIGALRM, which Python's `re` looks at as it searches; that costs 5 µs a path. Threads other than the
    main one hear of no signals, and search for as long as it takes.

    Attributes:
        groups: The names of its groups.
    """

    def __init__(self, pattern: str, *, example: str) -> None:
        """Compile it.

        Args:
            pattern: The expression.
            example: Another, for the message.

        Raises:
            UsageError: It is none.
        """
        self._shown = repr(pattern) if len(pattern) <= _LONGEST_SHOWN else f"{pattern[:_LONGEST_SHOWN]!r}…"
        try:
            with warnings.catch_warnings(action="ignore"):  # of what a later Python may read otherwise
                self._expression = re.compile(composed(pattern))
        except (re.error, RecursionError, OverflowError) as error:
            why = "it is nested too deeply" if isinstance(error, RecursionError) else error
            raise UsageError(
                f"The pattern {self._shown} is not a regular expression: {why}.", f"For example: '{example}'."
            ) from error
        self.groups = tuple(self._expression.groupindex)

    def search(self, path: str) -> dict[str, str | None] | None:
        """What the groups match in a path, None where the expression does not.

        Raises:
            UsageError: It has searched for a second.
        """
        try:
            match = self._within_a_second(composed(path))
        except _TooLongError:
            raise UsageError(
                f"The pattern {self._shown} was still searching in {path} after a second: it matches in too many ways.",
                "Let nothing repeated stand within a repetition, as in (a+)+, and write [^/]* rather than .*",
            ) from None
        return match.groupdict() if match else None

    def _within_a_second(self, path: str) -> re.Match[str] | None:
        if threading.current_thread() is not threading.main_thread():
            return self._expression.search(path)
        handler = signal.signal(signal.SIGALRM, _give_up)
        remaining = signal.setitimer(signal.ITIMER_REAL, _SECONDS)
        try:
            return self._expression.search(path)
        finally:
            signal.setitimer(signal.ITIMER_REAL, *remaining)
            signal.signal(signal.SIGALRM, handler)


def _give_up(number: int, frame: FrameType | None) -> NoReturn:
    raise _TooLongError
