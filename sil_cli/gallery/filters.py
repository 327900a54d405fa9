"""Which entries of a gallery a search may find, or a removal takes: from what the user says to a question to SQLite."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Protocol
from unicodedata import normalize

from sil_cli.errors import UsageError, nearest, not_visible
from sil_cli.gallery.entry import instant_of
from sil_cli.settings import find_zone
from sil_cli.times import TimeReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime, tzinfo
    from pathlib import Path

    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings


LONGEST_PATH = 4096
"""Letters of a path, and of a pattern of GLOB, that are compared: no disk has a longer path, and GLOB takes as many
steps as the two have pairs of letters, hearing of no signal meanwhile."""

COLUMNS = ("identity", "camera", "domain", "source", "path")
"""What `metadata` may name besides an entry's own metadata."""


@dataclass(frozen=True)
class Filter:
    """What an entry must fulfil, all of it; an empty field asks for nothing.

    Attributes:
        cameras: Its camera is one of these.
        excluded_cameras: Its camera is not one of these; an entry without a camera passes.
        after: Taken at this time or later; an entry without a time doesn't pass. Without a zone: UTC.
        before: Taken before this time.
        identities: It shows one of these people.
        domains: It is from one of these networks.
        paths: Its path, or that of an image of its tracklet, is one of these, to the letter.
        glob: `paths` are patterns of SQLite's GLOB instead (`*`, `?`, `[a-z]`; `*` also crosses `/`), of
            4,096 letters at most.
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
    glob: bool = False

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, str):
                raise TypeError(f"Filter({one.name}=...) takes several values: write ({value!r},).")
            if isinstance(value, Mapping):
                value = value.items()
            if isinstance(value, Iterable):
                object.__setattr__(self, one.name, tuple(value))  # lists and dictionaries do as well
        if self.glob and max(map(len, self.paths), default=0) > LONGEST_PATH:
            raise UsageError(
                f"A pattern for paths has more than {LONGEST_PATH:,} characters.", "Give a shorter one, with more *."
            )

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
            marks = " OR ".join([f"(length(path) <= {LONGEST_PATH} AND path GLOB ?)"] * len(self.paths))
            either = f"({marks})" if self.glob else f"path IN ({_marks(self.paths)})"
            add(f"({either} OR id IN (SELECT entry FROM members WHERE {either}))", [*self.paths, *self.paths])  # noqa: S608
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


WILD = re.compile(r"[*?\[]")
_NAMED = 12
_COMPARED = 10_000
"""Values among which the nearest to an unknown one is looked for."""


def make_filter(
    settings: Settings, *, paths: tuple[str, ...] = (), ids: tuple[int, ...] = (), glob: bool = False
) -> Filter:
    """The filter that `query.filter` describes; times that don't say their zone are of `gallery.timezone`.

    Raises:
        UsageError: A part of `where` is not KEY=VALUE, the span of time is empty, or there is no such zone.
    """
    chosen = settings.query.filter
    zone = find_zone(settings.gallery.timezone)
    wanted = Filter(
        cameras=chosen.camera,
        excluded_cameras=chosen.exclude_camera,
        after=_in_zone(chosen.after, zone),
        before=_in_zone(chosen.before, zone),
        identities=chosen.identity,
        paths=paths,
        ids=ids,
        metadata=tuple(_pair(text) for text in chosen.where),
        glob=glob,
    )
    if wanted.after and wanted.before and wanted.after >= wanted.before:
        raise UsageError(
            f"No time lies after {wanted.after.isoformat()} and before {wanted.before.isoformat()}.",
            "Swap --after and --before."
            if wanted.after > wanted.before
            else "--after includes its own moment and --before doesn't: for one day, give the next as --before.",
        )
    return wanted


class Countable(Protocol):
    """An open gallery, as far as it is asked here what its entries are."""

    def count_passing(self, where: Filter) -> int:
        """How many entries pass a filter."""

    def known_values(self, key: str, limit: int = 50) -> list[str]:
        """The values that entries have of a kind, at most so many."""


def warn_if_nothing_passes(gallery: Countable, wanted: Filter, reporter: Reporter) -> None:
    """Say so when no entry passes a filter, and what entries there are."""
    if not wanted or gallery.count_passing(wanted):
        return
    why = why_nothing_passes(gallery, wanted, unknown_values(gallery.count_passing, wanted))
    reporter.warn(f"{why[0].upper()}{why[1:]}.")


def unknown_values(count: Callable[[Filter], int], wanted: Filter) -> dict[str, list[str]]:
    """The values that a filter asks for and no entry has, by what they would be: `{"camera": ["c77"]}`.

    Args:
        count: How many entries pass a filter.
        wanted: The filter.
    """
    asked = [("identity", one) for one in wanted.identities] + [("camera", one) for one in wanted.cameras]
    missing: dict[str, list[str]] = {}
    for key, value in (*asked, *wanted.metadata):
        if not count(Filter(metadata=((key, value),))):
            missing.setdefault(key, []).append(value)
    return missing


def why_nothing_passes(gallery: Countable, wanted: Filter, missing: Mapping[str, Sequence[str]]) -> str:
    """Why no entry passes a filter, and what entries there are, as the end of a sentence.

    Args:
        gallery: Knows what its entries have.
        wanted: The filter.
        missing: What of it no entry has (see `unknown_values`); the message is about the first kind.
    """
    for key, values in missing.items():
        return f"no entry has {key} {' or '.join(values)}{_what_there_is(gallery, key, values[0])}"
    return f"no entry of the gallery passes the filter ({wanted})"


def _what_there_is(gallery: Countable, key: str, value: str) -> str:
    """The values that entries have: all of a few, or the nearest and the first ones of many."""
    if key == "id":
        return ""
    known = gallery.known_values(key, _COMPARED)
    if len(known) <= _NAMED:
        return f"; there are: {', '.join(known) or 'none'}"
    near = nearest(value, known)
    return f"; {f'the nearest is {near}; ' if near else ''}there are: {', '.join(known[:_NAMED])}, …"


def _in_zone(moment: datetime | None, zone: tzinfo | None) -> datetime | None:
    """A moment that says its zone; `zone` None is that of this machine."""
    if moment is None or moment.tzinfo is not None:
        return moment
    try:
        TimeReader(zone=zone).settle(moment)
    except ValueError as error:
        raise UsageError(f"{error}.", "Choose another time for --after and --before.") from None
    return moment.replace(tzinfo=zone) if zone is not None else moment.astimezone()


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--where {text} is not KEY=VALUE.", "For example: --where weather=rain")
    return key.strip(), value


def as_stored(count: Callable[[Filter], int], wanted: Filter) -> Filter:
    r"""The filter with each value as the gallery has it, where it has none as it is written.

    What was copied from a message, such as `a\x1b.png`, stands for the character; composed letters (NFC) for decomposed
    ones (NFD), which macOS writes into names, and the other way round.

    Args:
        count: How many entries pass a filter.
        wanted: The filter; what entries have as it is written stays.
    """

    def stored(value: str, only: Callable[[str], Filter]) -> str:
        meant = not_visible(value)
        spellings = dict.fromkeys([value, meant, *(normalize(form, meant) for form in ("NFC", "NFD"))])
        return next((one for one in spellings if len(spellings) > 1 and count(only(one))), value)

    def known(key: str, values: Sequence[str]) -> tuple[str, ...]:
        return tuple(stored(value, lambda one: Filter(metadata=((key, one),))) for value in values)

    return replace(
        wanted,
        identities=known("identity", wanted.identities),
        cameras=known("camera", wanted.cameras),
        excluded_cameras=known("camera", wanted.excluded_cameras),
        paths=tuple(stored(path, lambda one: Filter(paths=(one,), glob=wanted.glob)) for path in wanted.paths),
        metadata=tuple((key, known(key, [value])[0]) for key, value in wanted.metadata),
    )


def with_disk_paths(where: Filter, gallery: Path, sources: Sequence[str]) -> list[Filter]:
    """Filters one of which an entry must pass, so that a path may also be one from the working folder or a whole one.

    Args:
        where: Its `paths` are matched as they are, and as paths on the disk, whether the files are still there or not.
        gallery: The gallery's folder, which sources are relative to.
        sources: The gallery's.
    """
    alternatives = [where]
    whole = sorted({one for path in where.paths for one in _whole(path, glob=where.glob)})
    others = tuple((key, value) for key, value in where.metadata if key != "source")
    named = {value for key, value in where.metadata if key == "source"}
    for source in sources if where.paths else ():
        if named and source not in named:
            continue
        root = os.path.join(os.path.realpath(gallery / source), "")  # noqa: PTH118 -- with a slash at its end
        below = tuple(dict.fromkeys(rest for path in whole for rest in _below(path, root, glob=where.glob)))
        if below:
            alternatives.append(replace(where, paths=below, metadata=(*others, ("source", source))))
    return alternatives


def _whole(path: str, *, glob: bool) -> set[str]:
    """A path, or a pattern of paths, from the root on: as written, and with links in its folder followed."""
    wild = WILD.search(path) if glob else None
    cut = path.rfind("/", 0, wild.start() if wild else len(path)) + 1
    folders = (os.path.abspath(path[:cut] or "."), os.path.realpath(path[:cut] or "."))  # noqa: PTH100
    starts = [os.path.join(folder, "") for folder in folders]  # noqa: PTH118
    return {(_literally(start) if glob else start) + path[cut:] for start in starts}


def _literally(text: str) -> str:
    """A pattern that nothing but this text matches."""
    return WILD.sub(lambda found: f"[{found[0]}]", text)


def _below(path: str, root: str, *, glob: bool) -> Iterator[str]:
    """What is left of a path below a folder, or of a pattern whose beginning matches it; a `*` may reach into it."""
    if not glob:
        if path.startswith(root):
            yield path.removeprefix(root)
        return
    for cut in range(1, len(path) + 1):
        if fnmatchcase(root, path[:cut]):
            yield path[cut:]
            if path[cut - 1] == "*":
                yield path[cut - 1 :]
