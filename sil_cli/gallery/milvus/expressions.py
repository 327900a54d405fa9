"""A `Filter` in the words of Milvus."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING

from sil_cli.gallery.entry import instant_of
from sil_cli.gallery.filters import COLUMNS, LONGEST_PATH, possible_ids
from sil_cli.gallery.milvus.rows import INSTANT, METADATA, NO_TIME

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sil_cli.gallery.filters import Filter

EVERYTHING = ""
_NOTHING = "id < 0"


def expression(wanted: Filter) -> str:
    """The condition on a row, without `paths`, of which Milvus knows too little; '' for none."""
    parts: list[str] = []
    if wanted.ids:
        parts.append(among_ids(wanted.ids))
    columns = {"identity": wanted.identities, "camera": wanted.cameras, "domain": wanted.domains}
    parts += [_among(column, values) for column, values in columns.items() if values]
    excluded = [value for value in wanted.excluded_cameras if value]  # '' is what an unknown camera is stored as
    if excluded:
        parts.append(f"camera not in [{_quoted(excluded)}]")
    if wanted.after is not None:
        parts.append(f"{INSTANT} >= {instant_of(wanted.after)!r}")
    if wanted.before is not None:
        parts.append(f"({INSTANT} > {NO_TIME / 2!r} and {INSTANT} < {instant_of(wanted.before)!r})")
    grouped: dict[str, list[str]] = {}
    for key, value in wanted.metadata:
        grouped.setdefault(key, []).append(value)
    for key, values in grouped.items():
        named = f"{METADATA}[{json.dumps(key, ensure_ascii=False)}]"
        either = " or ".join(f"{named} == {_quoted([value])}" for value in values)  # Lite knows no `in` of JSON
        parts.append(_among(key, values) if key in COLUMNS else f"({either})")
    return " and ".join(parts)


def among_ids(ids: Sequence[int]) -> str:
    """The condition of having one of some ids."""
    possible = possible_ids(ids)
    return f"id in [{', '.join(map(str, possible))}]" if possible else _NOTHING


def both(one: str, other: str) -> str:
    """Two conditions together."""
    return f"({one}) and ({other})" if one and other else one or other


def equal(column: str, value: str) -> str:
    """The condition of a column having a value."""
    return f"{column} == {_quoted([value])}"


class PathPatterns:
    """The paths that a filter asks for, with the meaning that they have in the local store: SQLite's own."""

    def __init__(self, wanted: Filter) -> None:
        self._wanted = wanted
        self._glob = sqlite3.connect(":memory:")

    def close(self) -> None:
        """Close the database that matches."""
        self._glob.close()

    def match(self, paths: Sequence[str]) -> bool:
        """Whether any of these paths is asked for."""
        if not self._wanted.glob:
            return not set(paths).isdisjoint(self._wanted.paths)
        return any(
            self._glob.execute("SELECT ? GLOB ?", (path, pattern)).fetchone()[0]
            for path in paths
            if len(path) <= LONGEST_PATH
            for pattern in self._wanted.paths
        )


def _among(column: str, values: Sequence[str]) -> str:
    known = [value for value in values if value]
    return f"{column} in [{_quoted(known)}]" if known else _NOTHING


def _quoted(values: Sequence[str]) -> str:
    return ", ".join(json.dumps(value, ensure_ascii=False) for value in values)
