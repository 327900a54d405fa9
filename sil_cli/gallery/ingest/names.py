"""What file names say: a regular expression with named groups."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sil_cli.data.tables import mistyped
from sil_cli.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

KNOWN_GROUPS = ("identity", "camera", "time", "tracklet")
_EXAMPLE = r"(?P<camera>c\d+)_(?P<time>\d{8}T\d{6})"


def compile_names(pattern: str) -> re.Pattern[str]:
    """A pattern that is searched in each path relative to its source.

    The groups identity, camera, time and tracklet are understood; any other becomes a column of its own.

    Raises:
        UsageError: It is no regular expression, has no named group, or one that looks mistyped.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UsageError(
            f"The pattern {pattern!r} is not a regular expression: {error}.", f"For example: '{_EXAMPLE}'."
        ) from error
    if not expression.groupindex:
        raise UsageError(
            f"The pattern {pattern!r} has no named group.",
            f"Name the parts to be read ({', '.join(KNOWN_GROUPS)}), for example: '{_EXAMPLE}'.",
        )
    for group in expression.groupindex:
        near = mistyped(group, KNOWN_GROUPS)
        if near:
            raise UsageError(f"The pattern has a group '{group}'.", f"Rename it to '{near}' or otherwise.")
    return expression


def read_name(path: str, expression: re.Pattern[str]) -> Mapping[str, str] | None:
    """The groups that a path has, by name; None where the expression doesn't match."""
    found = expression.search(path)
    return None if found is None else {name: text for name, text in found.groupdict().items() if text}
