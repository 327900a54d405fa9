"""Which entries of a gallery a search may find, or a removal takes: said by what they are, asked of SQLite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from sil_cli.gallery.entry import instant_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

COLUMNS = ("identity", "camera", "domain", "source", "path")
"""What `metadata` may name besides an entry's own metadata."""


@dataclass(frozen=True)
class Filter:
    """What an entry must fulfil, all of it; an empty field asks for nothing.

    Attributes:
        cameras: Its camera is one of these.
        excluded_cameras: Its camera is none of these; an entry without a camera passes.
        after: Taken at this time or later; an entry without a time doesn't pass. Without a zone: UTC.
        before: Taken before this time.
        identities: It shows one of these people.
        domains: It is from one of these networks.
        paths: Its path, or that of an image of its tracklet, matches one of these patterns of SQLite's GLOB
            (`*`, `?`, `[a-z]`; `*` also crosses `/`).
        ids: It is one of these.
        metadata: Pairs (key, value), or a dictionary, of metadata or of the COLUMNS; of several values of one key any
            will do.
    """

    cameras: tuple[str, ...] = ()
    excluded_cameras: tuple[str, ...] = ()
    after: datetime | None = None
    before: datetime | None = None
    identities: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    ids: tuple[int, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, str):
                raise TypeError(f"Filter({one.name}=...) takes several values: write ({value!r},).")
            if isinstance(value, Mapping):
                value = value.items()
            if isinstance(value, Iterable):
                object.__setattr__(self, one.name, tuple(value))  # lists and dictionaries do as well

    @property
    def kinds(self) -> tuple[str, ...]:
        """What it looks at, without saying for what: ("camera", "before")."""
        kinds = {
            "id": self.ids,
            "identity": self.identities,
            "path": self.paths,
            "camera": self.cameras,
            "excluded camera": self.excluded_cameras,
            "after": self.after,
            "before": self.before,
            "domain": self.domains,
            "metadata": self.metadata,
        }
        return tuple(kind for kind, wanted in kinds.items() if wanted)

    def __bool__(self) -> bool:
        """Whether it asks for anything."""
        return bool(self.kinds)

    def __str__(self) -> str:
        """All that it asks for, for people: `camera c1 or c2, before 2024-05-01T00:00:00`."""
        parts = {
            "id": [str(one) for one in self.ids],
            "identity": self.identities,
            "path": self.paths,
            "camera": self.cameras,
            "no camera": self.excluded_cameras,
            "domain": self.domains,
        }
        words = [f"{name} {' or '.join(values)}" for name, values in parts.items() if values]
        words += [f"after {self.after.isoformat()}"] if self.after else []
        words += [f"before {self.before.isoformat()}"] if self.before else []
        words += [f"{key} {' or '.join(values)}" for key, values in self._grouped().items()]
        return ", ".join(words)

    def condition(self) -> tuple[str, list[object]]:
        """An SQL condition on the table `entries`, and the values for its question marks."""
        parts: list[str] = []
        values: list[object] = []

        def add(part: str, wanted: Sequence[object]) -> None:
            parts.append(part)
            values.extend(wanted)

        if self.ids:
            possible = possible_ids(self.ids)
            add(f"id IN ({_marks(possible)})", possible)
        columns = {"identity": self.identities, "camera": self.cameras, "domain": self.domains}
        for column, listed in columns.items():
            if listed:
                add(f"{column} IN ({_marks(listed)})", listed)
        if self.excluded_cameras:
            add(f"(camera IS NULL OR camera NOT IN ({_marks(self.excluded_cameras)}))", self.excluded_cameras)
        if self.paths:
            like = " OR ".join(["path GLOB ?"] * len(self.paths))
            add(f"({like} OR id IN (SELECT entry FROM members WHERE {like}))", [*self.paths, *self.paths])  # noqa: S608
        if self.after is not None:
            add("instant >= ?", [instant_of(self.after)])
        if self.before is not None:
            add("instant < ?", [instant_of(self.before)])
        for key, wanted in self._grouped().items():
            marks = _marks(wanted)
            if key in COLUMNS:
                add(f"{key} IN ({marks})", wanted)
            else:
                chosen = f"SELECT entry FROM metadata WHERE key = ? AND value IN ({marks})"  # noqa: S608
                add(f"id IN ({chosen})", [key, *wanted])
        return " AND ".join(parts) or "1", values

    def _grouped(self) -> dict[str, list[str]]:
        grouped: dict[str, list[str]] = {}
        for key, value in self.metadata:
            grouped.setdefault(key, []).append(value)
        return grouped


def possible_ids(ids: Sequence[int]) -> list[int]:
    """Those ids that an entry can have: stores number entries from 1, in 64 bits, and refuse to be asked for more."""
    return [one for one in ids if 0 < one < 2**63]


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
