"""Whether a gallery's files are what they should be, and dropping what is not."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.errors import GalleryError, one_line
from sil_cli.files import file_state, sha256_of_bytes, sha256_of_file
from sil_cli.gallery.local.schema import SET_ASIDE_FOLDER, VECTOR_FOLDER
from sil_cli.gallery.local.segments import Segment, check_layout, map_file
from sil_cli.gallery.local.set_aside import files_aside, knows_none, put_aside
from sil_cli.gallery.results import Check, lost_entry

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from sil_cli.gallery.local.schema import IndexRecord, SegmentRecord
    from sil_cli.gallery.local.tables import Tables
    from sil_cli.gallery.results import LostEntry

_NORM_ERROR = 1e-3
_ROWS_AT_ONCE = 16_384
_ATTEMPTS = 5


@dataclass(frozen=True)
class Examined:
    """A file of vectors that was read whole.

    Attributes:
        problem: Why none of it can be used, or None.
        edited: Its checksum is not the recorded one; the file is well formed otherwise.
        bad_ids: Entries without a usable vector in it, with the reason.
        dead: Vectors that no entry has.
        sha256: Of the file as it is; '' where it can't be read.
        seen: Its state before it was read.
    """

    problem: str | None
    edited: bool = False
    bad_ids: dict[int, str] = field(default_factory=dict)
    dead: int = 0
    sha256: str = ""
    seen: str = ""


def check_files(folder: Path, tables: Tables) -> list[Check]:
    """Look at everything that the gallery says of itself; reads every file whole.

    Args:
        folder: The gallery.
        tables: Its database, open for reading.

    Raises:
        GalleryError: The database can't be read at all.
    """
    checks: list[Check] = []
    for _ in range(_ATTEMPTS):  # a writer that merges files away meanwhile makes them look missing
        tables.snapshot()
        segments, index = tables.segments(), tables.index()
        checks = _checks(folder, tables, segments, index)
        tables.snapshot()
        if all(check.ok for check in checks) or (tables.segments(), tables.index()) == (segments, index):
            break
    return checks


def _checks(folder: Path, tables: Tables, segments: Sequence[SegmentRecord], index: IndexRecord | None) -> list[Check]:
    problems = tables.problems()
    checks = [Check("database", not problems, problems[0] if problems else "sound")]
    examined = [_examine(folder, tables, each) for each in segments]
    checks += [_segment_check(record, one) for record, one in zip(segments, examined, strict=True)]
    checks.append(_entries_check(tables.count(), segments, examined))
    if knows_none(folder, segments, tables.last_number("segments")):
        found = f"none in {VECTOR_FOLDER}/ is known to {tables.path.name}, most likely another gallery's"
        checks.append(Check("files", False, found))
    aside = files_aside(folder)
    if aside:
        found = f"{len(aside):,} in {SET_ASIDE_FOLDER}/, not looked at; `sil gallery compact` deletes them"
        checks.append(Check("set aside", True, found, done=False))
    return checks if index is None else [*checks, _index_check(folder, index)]


def _examine(folder: Path, tables: Tables, record: SegmentRecord) -> Examined:
    """Read a file of vectors whole: its layout, checksum, ids and vectors."""
    path = folder / VECTOR_FOLDER / record.name
    dimension = int(tables.meta()["model"]["dimension"])
    try:
        seen = file_state(path)
        content = map_file(path)
        check_layout(path, content, record.count, dimension)
    except FileNotFoundError:
        return Examined("it is missing")
    except (GalleryError, OSError) as error:
        text = error.what if isinstance(error, GalleryError) else f"can't be read: {one_line(error)}."
        return Examined(text.removeprefix(f"{path} "))
    sha256 = sha256_of_bytes(content)
    segment = Segment.mapped(content, record.count, dimension)
    try:
        segment.require_ids(path)
    except GalleryError as error:
        return Examined(error.what.removeprefix(f"{path} "))
    wanted = tables.ids(record.number)
    rows = segment.rows_of(wanted)
    ids, counts = np.unique(segment.ids, return_counts=True)
    twice = np.isin(wanted, ids[counts > 1])
    good = _unit_rows(segment)
    bad_ids: dict[int, str] = {}
    for identifier, row, doubled in zip(wanted.tolist(), rows.tolist(), twice.tolist(), strict=True):
        if row < 0 or doubled or not good[row]:
            reason = "no vector" if row < 0 else "two vectors" if doubled else "a vector that isn't of length 1"
            bad_ids[identifier] = reason
    dead = len(ids) - int(np.count_nonzero(np.isin(ids, wanted)))
    return Examined(None, sha256 != record.sha256, bad_ids, dead, sha256, seen)


class Repair:
    """Drops what is broken and keeps all else; files that are dropped are set aside.

    Attributes: As of `RepairResult`, which has them as they are when this was made.
    """

    def __init__(self, folder: Path, tables: Tables, *, trust: bool) -> None:
        """Repair a gallery as its only writer.

        Args:
            folder: The gallery.
            tables: Its database.
            trust: Accept files of vectors that someone edited, if they are well formed, as they are now.

        Raises:
            GalleryError: The database itself can't be repaired.
        """
        self.lost: list[LostEntry] = []
        self.files: dict[str, str] = {}
        self.set_aside: list[Path] = []
        self.index_rebuilt = False
        self.database_mended = bool(tables.problems())
        self._folder, self._tables = folder, tables
        if self.database_mended:
            self._rebuild_database_indexes()
        for record in tables.segments():
            examined = _examine(folder, tables, record)
            if examined.problem is not None or (examined.edited and not trust):
                self._drop_segment(record, examined)
            elif examined.edited or examined.bad_ids:
                self._accept_segment(record, examined)
        index = tables.index()
        if index is not None and not _index_check(folder, index).ok:
            self._put_aside(index.name)
            with tables.transaction():
                tables.replace_index(None)
            self.index_rebuilt = True

    def _rebuild_database_indexes(self) -> None:
        self._tables.reindex()
        left = self._tables.problems()
        if left:
            raise GalleryError(
                f"{self._tables.path} can't be repaired: {left[0]}.",
                "Index the images into a new folder with --gallery DIR.",
            )

    def _put_aside(self, name: str) -> None:
        """First aside, then forgotten: a kill between leaves a file missing, which the next repair finds."""
        path = self._folder / VECTOR_FOLDER / name
        self.set_aside += put_aside(self._folder, [path] if path.exists() else [])

    def _drop_segment(self, record: SegmentRecord, examined: Examined) -> None:
        problem = examined.problem or "its checksum is not the one recorded"
        self._put_aside(record.name)
        ids = self._tables.ids(record.number).tolist()
        self._note_lost(record, dict.fromkeys(ids, problem))
        with self._tables.transaction():
            self._tables.delete_ids(ids)
            self._tables.delete_segments([record.number])
        self.files[record.name] = f"dropped: {problem}"

    def _accept_segment(self, record: SegmentRecord, examined: Examined) -> None:
        self._note_lost(record, examined.bad_ids)
        with self._tables.transaction():
            self._tables.delete_ids(list(examined.bad_ids))
            if examined.edited:
                self._tables.mark_seen(record.name, examined.sha256, examined.seen)
        if examined.edited:
            self.files[record.name] = "trusted as it is now"

    def _note_lost(self, record: SegmentRecord, reasons: dict[int, str]) -> None:
        entries = self._tables.entries(list(reasons))
        self.lost += [lost_entry(one, entries[one], f"{record.name}: {reason}") for one, reason in reasons.items()]


def _segment_check(record: SegmentRecord, examined: Examined) -> Check:
    if examined.problem is not None:
        return Check(record.name, False, examined.problem)
    if examined.edited:
        return Check(record.name, False, "its checksum is not the one recorded: it was edited or replaced")
    if examined.bad_ids:
        identifier, reason = next(iter(examined.bad_ids.items()))
        found = f"{len(examined.bad_ids):,} of its entries have {reason}, such as entry {identifier}"
        return Check(record.name, False, found)
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
    return Check(
        record.name, right, f"{record.factory}, checksum right" if right else "its checksum is not the one recorded"
    )


def _unit_rows(segment: Segment) -> NDArray[np.bool_]:
    good = np.empty(len(segment), dtype=np.bool_)
    for start in range(0, len(segment), _ROWS_AT_ONCE):
        rows = segment.vectors[start : start + _ROWS_AT_ONCE].astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            lengths = np.sqrt((rows * rows).sum(axis=1))
        good[start : start + len(rows)] = np.abs(lengths - 1.0) < _NORM_ERROR  # NaN compares false
    return good
