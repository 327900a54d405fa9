"""Whether a gallery's files are what they should be, and dropping what is not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.errors import GalleryError
from sil_cli.files import file_state, sha256_of_bytes, sha256_of_file
from sil_cli.retrieval.gallery import bring_up_to_date
from sil_cli.retrieval.places import SET_ASIDE_FOLDER, VECTOR_FOLDER
from sil_cli.retrieval.schema import FORMAT
from sil_cli.retrieval.segments import Segment, check_layout, map_file
from sil_cli.retrieval.set_aside import files_aside, knows_none, put_aside
from sil_cli.retrieval.store import Store

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from sil_cli.retrieval.store import GalleryEntry, IndexRecord, SegmentRecord

_NORM_ERROR = 1e-3
_ROWS_AT_ONCE = 16_384


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


def examine_segment(folder: Path, store: Store, record: SegmentRecord, dimension: int) -> Examined:
    """Read a file of vectors whole: its layout, checksum, ids and vectors."""
    path = folder / VECTOR_FOLDER / record.name
    try:
        seen = file_state(path)
        content = map_file(path)
        check_layout(path, content, record.count, dimension)
    except FileNotFoundError:
        return Examined("it is missing")
    except GalleryError as error:
        return Examined(error.what.removeprefix(f"{path} "))
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
    return Examined(None, sha256 != record.sha256, bad_ids, why, dead, sha256, seen)


def check_files(folder: Path) -> list[Check]:
    """Look at everything that the gallery says of itself; reads every file whole.

    Raises:
        GalleryError: There is no gallery, or its database can't be read at all.
    """
    store = Store(folder, write=False)
    try:
        if store.format() < FORMAT:
            store.close()
            bring_up_to_date(folder)
            store = Store(folder, write=False)
        store.snapshot()
        dimension = int(store.meta()["model"]["dimension"])
        problems = store.problems()
        checks = [Check("database", not problems, problems[0] if problems else "sound")]
        segments = store.segments()
        examined = [examine_segment(folder, store, record, dimension) for record in segments]
        checks += [_segment_check(record, one) for record, one in zip(segments, examined, strict=True)]
        checks.append(_entries_check(store.count(), segments, examined))
        if knows_none(folder, segments):
            found = f"none in {VECTOR_FOLDER}/ is known to {store.path.name}, most likely another gallery's"
            checks.append(Check("files", False, found))
        aside = files_aside(folder)
        if aside:
            found = f"{len(aside):,} in {SET_ASIDE_FOLDER}/, not looked at; `sil gallery compact` deletes them"
            checks.append(Check("set aside", True, found, done=False))
        index = store.index()
        if index is not None:
            checks.append(_index_check(folder, index))
        return checks
    finally:
        store.close()


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


def repair_files(folder: Path, store: Store, *, trust: bool) -> Repaired:
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
        examined = examine_segment(folder, store, record, dimension)
        if examined.problem is not None or (examined.edited and not trust):
            # First aside, then forgotten: a kill between leaves a file missing, which the next repair finds.
            _set_aside(folder, record.name, repaired)
            _drop_segment(store, record, examined, repaired)
        elif examined.edited or examined.bad_ids:
            _accept_segment(store, record, examined, repaired)
    index = store.index()
    if index is not None and not _index_check(folder, index).ok:
        _set_aside(folder, index.name, repaired)
        with store.transaction():
            store.replace_index(None)
        repaired.dropped_index = True
    return repaired


def _set_aside(folder: Path, name: str, repaired: Repaired) -> None:
    path = folder / VECTOR_FOLDER / name
    repaired.set_aside += put_aside(folder, [path] if path.exists() else [])


def _drop_segment(store: Store, record: SegmentRecord, examined: Examined, repaired: Repaired) -> None:
    problem = examined.problem or "its checksum is not the one recorded"
    ids = store.ids(record.number).tolist()
    entries = store.entries(ids)
    with store.transaction():
        store.delete_ids(ids)
        store.delete_segments([record.number])
    repaired.files.append((record.name, f"dropped: {problem}"))
    repaired.lost += [(one, entries[one], f"{record.name}: {problem}") for one in ids]


def _accept_segment(store: Store, record: SegmentRecord, examined: Examined, repaired: Repaired) -> None:
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


def _index_check(folder: Path, record: IndexRecord) -> Check:
    try:
        right = sha256_of_file(folder / VECTOR_FOLDER / record.name) == record.sha256
    except OSError:
        return Check(record.name, False, "it is missing or can't be read")
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
