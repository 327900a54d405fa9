"""The files of a gallery's vectors and of its index: opened as the database names them, written before it does.

A file counts once the database names it. Its number is used up before it is written, so whatever is numbered up to the
last one given and isn't named is a leftover of interrupted writing or of merging, and the next writer deletes it. Files
of higher numbers are nobody's that this database knows: they are set aside, never deleted.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.errors import GalleryError, one_line
from sil_cli.files import is_half_made
from sil_cli.gallery.local.approximate import ApproximateIndex
from sil_cli.gallery.local.schema import VECTOR_FOLDER, IndexRecord, SegmentRecord, index_name, segment_name
from sil_cli.gallery.local.segments import MAKE_AGAIN, Segment, read_segment, write_segment
from sil_cli.gallery.local.set_aside import numbered_files, put_aside, require_own

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from sil_cli.gallery.local.tables import Tables

SEGMENT_BYTES = 2**27  # of vectors that merging puts into one file

Living = tuple[Segment, "NDArray[np.bool_] | None"]
"""A segment, and which of its rows still count; None for all."""


def read_index(folder: Path, record: IndexRecord, dimension: int) -> ApproximateIndex:
    """The approximate index that the database names.

    Raises:
        FileNotFoundError: The file isn't there.
        GalleryError: It is damaged.
    """
    return ApproximateIndex.read(
        folder / VECTOR_FOLDER / record.name,
        factory=record.factory,
        sha256=record.sha256,
        seen=record.seen,
        count=record.count,
        dimension=dimension,
    )


def read_living(folder: Path, tables: Tables, record: SegmentRecord, dimension: int) -> Living:
    """One file of vectors, and for each of them whether it has an entry.

    Raises:
        FileNotFoundError: The file isn't there.
        GalleryError: It is damaged, or an entry has no vector in it.
    """
    path = folder / VECTOR_FOLDER / record.name
    segment = read_segment(path, sha256=record.sha256, seen=record.seen, count=record.count, dimension=dimension)
    if record.live == record.count and tables.spans_exactly(record.number, segment.ids):
        return segment, None
    living = np.isin(segment.ids, tables.ids(record.number))
    if np.count_nonzero(living) != record.live:
        raise GalleryError(f"{path} doesn't hold the vectors of all its entries.", MAKE_AGAIN)
    return segment, None if living.all() else living


@contextlib.contextmanager
def naming_missing_files() -> Iterator[None]:
    """Say in the user's words that a file is missing."""
    try:
        yield
    except FileNotFoundError as error:
        raise GalleryError(f"{error.filename} is missing.", MAKE_AGAIN) from error


class VectorFiles:
    """The files, as the gallery's only writer keeps them.

    Args:
        folder: The gallery.
        tables: Its database, open for writing.
        dimension: The embeddings' length.
    """

    def __init__(self, folder: Path, tables: Tables, dimension: int) -> None:
        self._folder = folder
        self._vectors = folder / VECTOR_FOLDER
        self._tables = tables
        self._dimension = dimension

    def write(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> SegmentRecord:
        """Write a segment; returns what the database is to say of it.

        Raises:
            GalleryError: The disk doesn't take it.
        """
        number = self._tables.reserve("segments")
        name = segment_name(number)
        with self._naming_the_disk():
            sha256, seen = write_segment(self._vectors / name, ids, vectors)
        return SegmentRecord(number, name, sha256, seen, len(ids), len(ids))

    def write_index(self, index: ApproximateIndex, *, effort: int, recall: float) -> IndexRecord:
        """Write an index under a name of its own; returns what the database is to say of it.

        Raises:
            GalleryError: The disk doesn't take it.
        """
        number = self._tables.reserve("indexes")
        name = index_name(number)
        with self._naming_the_disk():
            sha256, seen = index.write(self._vectors / name)
        last_id = int(index.ids.max())
        return IndexRecord(number, name, sha256, seen, index.factory, len(index), last_id, effort, recall)

    def read_index(self, record: IndexRecord) -> ApproximateIndex:
        """The index that the database names.

        Raises:
            GalleryError: It is missing or damaged.
        """
        with naming_missing_files():
            return read_index(self._folder, record, self._dimension)

    def living(self, segments: Sequence[SegmentRecord]) -> list[Living]:
        """Segments, each with which of its rows still count.

        Raises:
            GalleryError: A file is damaged or missing.
        """
        with naming_missing_files():
            return [read_living(self._folder, self._tables, one, self._dimension) for one in segments]

    def merge(self) -> None:
        """Merge small segments, and those with dead vectors, into few whole ones; then call `delete_leftovers`.

        Raises:
            GalleryError: A file is damaged, or the disk is full; the gallery stays as it was.
        """
        for group in _groups(self._tables.segments(), SEGMENT_BYTES // (4 * self._dimension)):
            parts = [
                (rows.ids, rows.vectors) if living is None else (rows.ids[living], rows.vectors[living])
                for rows, living in self.living(group)
            ]
            ids = np.concatenate([ids for ids, _ in parts])
            order = np.argsort(ids)
            ids, vectors = ids[order], np.concatenate([vectors for _, vectors in parts])[order]
            merged = self.write(ids, vectors) if len(ids) else None
            with self._tables.transaction():
                if merged is not None:
                    self._tables.insert_segment(merged)
                    self._tables.move_entries(ids.tolist(), merged.number)
                self._tables.delete_segments([segment.number for segment in group])

    def delete_leftovers(self) -> list[Path]:
        """Delete the files that no finished batch needs, and set those aside that the database can't know.

        Returns:
            Where the latter are now.

        Raises:
            GalleryError: The database knows none of the files of vectors, so that it is another gallery's.
        """
        index, segments = self._tables.index(), self._tables.segments()
        named = {segment.name for segment in segments} | ({index.name} if index else set())
        last = {"segment": self._tables.last_number("segments"), "index": self._tables.last_number("indexes")}
        with self._naming_the_disk():
            self._vectors.mkdir(exist_ok=True)
            require_own(self._folder, segments, last["segment"])
            unnamed = [one for one in numbered_files(self._vectors) if one.path.name not in named]
            aside = put_aside(self._folder, [one.path for one in unnamed if one.number > last[one.kind]])
            half_made = [path for path in self._vectors.iterdir() if is_half_made(path.name)]
            for path in [*half_made, *(one.path for one in unnamed)]:  # held or not: there is no other writer
                path.unlink(missing_ok=True)
        return aside

    @contextlib.contextmanager
    def _naming_the_disk(self) -> Iterator[None]:
        """Say in the user's words that the disk doesn't take it."""
        try:
            yield
        except OSError as error:
            raise GalleryError(
                f"{self._vectors} can't be written: {one_line(error)}.",
                "Free some space or check the permissions, then run the same command again: finished batches are kept.",
            ) from error


def _groups(segments: Sequence[SegmentRecord], full: int) -> list[list[SegmentRecord]]:
    """The segments to merge with each other, each group into at most about `full` vectors."""
    groups: list[list[SegmentRecord]] = []
    room = 0
    for segment in segments:
        if segment.live == segment.count and 2 * segment.count >= full:
            continue
        if segment.live > room or not groups:
            groups.append([])
            room = full
        groups[-1].append(segment)
        room -= segment.live
    return [group for group in groups if len(group) > 1 or group[0].live < group[0].count]
