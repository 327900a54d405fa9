"""Whether a gallery's files are what they should be, and dropping what is not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sil_cli.errors import GalleryError
from sil_cli.files import file_state, one_line, sha256_of_bytes
from sil_cli.gallery.local.gallery import bring_up_to_date
from sil_cli.gallery.local.schema import FORMAT
from sil_cli.gallery.local.segments import Segment, check_layout, map_file
from sil_cli.gallery.local.set_aside import files_aside, knows_none, put_aside
from sil_cli.gallery.local.tables import Tables
from sil_cli.gallery.paths import SET_ASIDE_FOLDER, VECTOR_FOLDER

if TYPE_CHECKING:
    import mmap
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from sil_cli.gallery.entry import GalleryEntry
    from sil_cli.gallery.local.records import IndexRecord, SegmentRecord

_NORM_ERROR = 1e-3
_ROWS_AT_ONCE = 16_384
_MISSING = "it is missing"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; `found` says what is right or wrong with it, on one line.

    Attributes:
        done: False where it wasn't looked at after all, for the reason that `found` says; `ok` means nothing then.
    """

    name: str
    ok: bool
    found: str
    done: bool = True


@dataclass(frozen=True)
class Examined:
    """A file of vectors that was read whole.

    Attributes:
        problem: Why none of it can be used, or None.
        edited: Its checksum is not the recorded one; the file is well formed otherwise.
        bad_ids: Entries without a usable vector in it.
        why: For each of these, why.
        dead: Vectors that no entry has.
        sha256: Of the file as it is; '' where it can't be read.
        seen: Its state before it was read.
    """

    problem: str | None
    edited: bool = False
    bad_ids: list[int] = field(default_factory=list)
    why: list[str] = field(default_factory=list)
    dead: int = 0
    sha256: str = ""
    seen: str = ""


class _Opened(NamedTuple):
    """A file as it was when it was opened: a map of it outlives its deletion.

    Attributes:
        path: Where it was.
        content: Mapped; None where that failed.
        problem: Why it failed; '' where it didn't.
        seen: The file's state before.
    """

    path: Path
    content: mmap.mmap | bytes | None
    problem: str = ""
    seen: str = ""


def _examine(opened: _Opened, store: Tables, record: SegmentRecord, dimension: int) -> Examined:
    """Read a file of vectors whole: its layout, checksum, ids and vectors."""
    content = opened.content
    if content is None:
        return Examined(opened.problem)
    try:
        check_layout(opened.path, content, record.count, dimension)
    except GalleryError as error:
        return Examined(error.what.removeprefix(f"{opened.path} "))
    sha256 = sha256_of_bytes(content)
    segment = Segment.mapped(content, record.count, dimension)
    wanted = store.ids(record.number)
    rows = segment.rows_of(wanted)
    ids, counts = np.unique(segment.ids, return_counts=True)
    twice = np.isin(wanted, ids[counts > 1])
    good = _unit_rows(segment)
    bad_ids, why = [], []
    for identifier, row, doubled in zip(wanted.tolist(), rows.tolist(), twice.tolist(), strict=True):
        if row < 0 or doubled or not good[row]:
            bad_ids.append(identifier)
            why.append("no vector" if row < 0 else "two vectors" if doubled else "a vector that isn't of length 1")
    dead = len(ids) - int(np.count_nonzero(np.isin(ids, wanted)))
    return Examined(None, sha256 != record.sha256, bad_ids, why, dead, sha256, opened.seen)


def check_files(folder: Path) -> list[Check]:
    """Look at everything that the gallery says of itself; reads every file whole.

    Raises:
        GalleryError: There is no gallery, or its database can't be read at all.
    """
    store = Tables(folder, write=False)
    try:
        if store.format() < FORMAT:
            store.close()
            bring_up_to_date(folder)
            store = Tables(folder, write=False)
        named = _open_named(folder, store)
        segments, index = named.segments, named.index
        dimension = int(store.meta()["model"]["dimension"])
        problems = store.problems()
        checks = [Check("database", not problems, problems[0] if problems else "sound")]
        examined = [_examine(named.files.pop(each.name), store, each, dimension) for each in segments]
        checks += [_segment_check(record, one) for record, one in zip(segments, examined, strict=True)]
        checks.append(_entries_check(store.count(), segments, examined))
        # A file that was read and is right says whose the database is, also where a writer has merged it away since.
        right = any(one.problem is None and not one.edited for one in examined)
        if not right and knows_none(folder, segments):
            store.snapshot()
            if (store.segments(), store.index()) != (segments, index):
                return check_files(folder)  # a writer's new files look like another gallery's to the old snapshot
            found = f"none in {VECTOR_FOLDER}/ is known to {store.path.name}, most likely another gallery's"
            checks.append(Check("files", False, found))
        aside = files_aside(folder)
        if aside:
            found = f"{len(aside):,} in {SET_ASIDE_FOLDER}/, not looked at; `sil gallery compact` deletes them"
            checks.append(Check("set aside", True, found, done=False))
        if index is not None:
            checks.append(_index_check(named.files.pop(index.name), index))
        return checks
    finally:
        store.close()


@dataclass(frozen=True)
class _Named:
    """What the database names at one moment.

    Attributes:
        segments: The files of vectors.
        index: The approximate index.
        files: All of these files, by their names.
    """

    segments: list[SegmentRecord]
    index: IndexRecord | None
    files: dict[str, _Opened]


def _open_named(folder: Path, store: Tables) -> _Named:
    """Take a snapshot, and open all that it names at once: a writer may merge files away while they are read.

    Where some are gone already, the snapshot is taken anew; what a newer one still names is really missing.
    """
    gone: set[str] = set()
    while True:
        store.snapshot()
        segments, index = store.segments(), store.index()
        names = [one.name for one in segments] + ([] if index is None else [index.name])
        files = {name: _open(folder / VECTOR_FOLDER / name) for name in names}
        before, gone = gone, {name for name, one in files.items() if one.problem == _MISSING}
        if not gone or gone & before:
            return _Named(segments, index, files)


def _open(path: Path) -> _Opened:
    try:
        seen = file_state(path)
        return _Opened(path, map_file(path), seen=seen)
    except FileNotFoundError:
        return _Opened(path, None, _MISSING)
    except (GalleryError, OSError) as error:
        text = error.what if isinstance(error, GalleryError) else f"can't be read: {one_line(error)}."
        return _Opened(path, None, text.removeprefix(f"{path} "))


@dataclass
class Repaired:
    """What was dropped from a gallery, and what was accepted.

    Attributes:
        lost: Entries that are gone, each with its id and the reason.
        files: Files of vectors that were dropped, or accepted although they were edited.
        set_aside: Where the files are now that were dropped, or that the database doesn't know.
        dropped_index: The approximate index was damaged.
        mended_database: SQLite's own indexes were built anew.
    """

    lost: list[tuple[int, GalleryEntry, str]] = field(default_factory=list)
    files: list[tuple[str, str]] = field(default_factory=list)
    set_aside: list[Path] = field(default_factory=list)
    dropped_index: bool = False
    mended_database: bool = False


def repair_files(folder: Path, store: Tables, *, trust: bool) -> Repaired:
    """Drop what is broken and keep all else; call it as the only writer. Files that are dropped are set aside.

    Args:
        folder: The gallery.
        store: Its database, open for writing.
        trust: Accept files of vectors that someone edited, if they are well formed, as they are now.

    Raises:
        GalleryError: The database itself can't be mended.
    """
    repaired = Repaired()
    if store.problems():
        store.reindex()
        repaired.mended_database = True
        left = store.problems()
        if left:
            raise GalleryError(
                f"{store.path} can't be mended: {left[0]}.", "Index the images into a new folder with --gallery DIR."
            )
    dimension = int(store.meta()["model"]["dimension"])
    for record in store.segments():
        examined = _examine(_open(folder / VECTOR_FOLDER / record.name), store, record, dimension)
        if examined.problem is not None or (examined.edited and not trust):
            # First aside, then forgotten: a kill between leaves a file missing, which the next repair finds.
            _set_aside(folder, record.name, repaired)
            _drop_segment(store, record, examined, repaired)
        elif examined.edited or examined.bad_ids:
            _accept_segment(store, record, examined, repaired)
    index = store.index()
    if index is not None and not _index_check(_open(folder / VECTOR_FOLDER / index.name), index).ok:
        _set_aside(folder, index.name, repaired)
        with store.transaction():
            store.replace_index(None)
        repaired.dropped_index = True
    return repaired


def _set_aside(folder: Path, name: str, repaired: Repaired) -> None:
    path = folder / VECTOR_FOLDER / name
    repaired.set_aside += put_aside(folder, [path] if path.exists() else [])


def _drop_segment(store: Tables, record: SegmentRecord, examined: Examined, repaired: Repaired) -> None:
    problem = examined.problem or "its checksum is not the one recorded"
    ids = store.ids(record.number).tolist()
    entries = store.entries(ids)
    with store.transaction():
        store.delete_ids(ids)
        store.delete_segments([record.number])
    repaired.files.append((record.name, f"dropped: {problem}"))
    repaired.lost += [(one, entries[one], f"{record.name}: {problem}") for one in ids]


def _accept_segment(store: Tables, record: SegmentRecord, examined: Examined, repaired: Repaired) -> None:
    entries = store.entries(examined.bad_ids)
    with store.transaction():
        store.delete_ids(examined.bad_ids)
        if examined.edited:
            store.mark_seen(record.name, examined.sha256, examined.seen)
    if examined.edited:
        repaired.files.append((record.name, "trusted as it is now"))
    repaired.lost += [
        (one, entries[one], f"{record.name}: {why}") for one, why in zip(examined.bad_ids, examined.why, strict=True)
    ]


def _segment_check(record: SegmentRecord, examined: Examined) -> Check:
    if examined.problem is not None:
        return Check(record.name, False, examined.problem)
    if examined.edited:
        return Check(record.name, False, "its checksum is not the one recorded: it was edited or replaced")
    if examined.bad_ids:
        return Check(
            record.name,
            False,
            f"{len(examined.bad_ids):,} of its entries have {examined.why[0]}, such as entry {examined.bad_ids[0]}",
        )
    dead = f", {examined.dead:,} more of removed entries" if examined.dead else ""
    return Check(record.name, True, f"{record.live:,} unit vectors, one for each entry{dead}; checksum right")


def _entries_check(count: int, segments: Sequence[SegmentRecord], examined: Sequence[Examined]) -> Check:
    """Whether each entry has a vector that can be believed."""
    living = sum(record.live for record in segments)
    if count != living:
        return Check("entries", False, f"{count:,}, but {living:,} in files that count")
    sound = sum(
        record.live - len(one.bad_ids)
        for record, one in zip(segments, examined, strict=True)
        if one.problem is None and not one.edited
    )
    if count != sound:
        return Check("entries", False, f"{count:,}, but only {sound:,} with a sound vector")
    return Check("entries", True, f"{count:,}, each with a vector" if count else "none")


def _index_check(opened: _Opened, record: IndexRecord) -> Check:
    if opened.content is None:
        return Check(record.name, False, "it is missing or can't be read")
    right = sha256_of_bytes(opened.content) == record.sha256
    found = f"{record.factory}, checksum right" if right else "its checksum is not the one recorded"
    return Check(record.name, right, found)


def _unit_rows(segment: Segment) -> NDArray[np.bool_]:
    good = np.empty(len(segment), dtype=np.bool_)
    for start in range(0, len(segment), _ROWS_AT_ONCE):
        rows = segment.vectors[start : start + _ROWS_AT_ONCE].astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            lengths = np.sqrt((rows * rows).sum(axis=1))
        good[start : start + len(rows)] = np.abs(lengths - 1.0) < _NORM_ERROR  # NaN compares false
    return good
