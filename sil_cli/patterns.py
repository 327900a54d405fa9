"""Regular expressions that a user, or a stranger's settings, gives for the names of files."""

from __future__ import annotations

import re
import warnings

from sil_cli.errors import UsageError
from sil_cli.files import composed

_SECONDS = 1.0
_LONGEST_SHOWN = 200


class PathPattern:
    """An expression that is searched in paths, for a second in each: some would go on for ever.

    Letters are compared composed (NFC), however the expression and the paths are spelt. The syntax is that of
    Python's `re`; the search is that of the package `regex`, which takes the same, ends when its time is over in
    whichever thread it runs, and finds at once what keeps `re` busy for ever in many ways.

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
        import regex

        self._shown = repr(pattern) if len(pattern) <= _LONGEST_SHOWN else f"{pattern[:_LONGEST_SHOWN]!r}…"
        try:
            with warnings.catch_warnings(action="ignore"):  # of what a later Python may read otherwise
                re.compile(composed(pattern))  # recursion and other things of regex's own take memory without end
                self._expression = regex.compile(composed(pattern))
        except (re.error, regex.error, RecursionError, OverflowError) as error:
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
            match = self._expression.search(composed(path), timeout=_SECONDS)
        except TimeoutError:
            raise UsageError(
                f"The pattern {self._shown} was still searching in {path} after a second: it matches in too many ways.",
                "Let nothing repeated stand within a repetition, as in (a+)+, and write [^/]* rather than .*",
            ) from None
        return match.groupdict() if match else None
