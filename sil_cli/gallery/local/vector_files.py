"""The files of a gallery's vectors and of its index, as the gallery's only writer keeps them."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.errors import GalleryError
from sil_cli.files import TEMPORARY_MARK, one_line, sync_folder
from sil_cli.gallery.local.loading import read_index, read_living
from sil_cli.gallery.local.records import IndexRecord, SegmentRecord, index_name, segment_name
from sil_cli.gallery.local.segments import MAKE_ANEW, Segment, write_segment
from sil_cli.gallery.local.set_aside import mark_of, put_aside, require_own, unexplained
from sil_cli.gallery.local.tables import Tables
from sil_cli.gallery.paths import VECTOR_FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from sil_cli.gallery.local.approximate import ApproximateIndex

SEGMENT_BYTES = 2**27  # of vectors that merging puts into one file


class VectorFiles:
    """A file counts once the database names it.

    Before a file is written or stops counting, an empty one beside marks it: a marked file that the database doesn't
    name is a leftover, and `delete_leftovers` deletes it. Whatever else isn't named is set aside, never deleted.

    Args:
        folder: The gallery.
        store: Its database, open for writing.
        dimension: The embeddings' length.
    """

    def __init__(self, folder: Path, store: Tables, dimension: int) -> None:
        self._folder = folder
        self._vectors = folder / VECTOR_FOLDER
        self._store = store
        self._dimension = dimension

    def write(self, number: int, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> tuple[str, str]:
        """Write the segment of a number; returns its SHA-256, and its state on disk.

        Raises:
            GalleryError: The disk doesn't take it.
        """
        with self._refusing():
            self._mark(segment_name(number))
            return write_segment(self._vectors / segment_name(number), ids, vectors)

    def write_index(self, index: ApproximateIndex, *, effort: int, recall: float) -> IndexRecord:
        """Write an index under a name of its own; returns what the database is to say of it.

        Raises:
            GalleryError: The disk doesn't take it.
        """
        name = index_name(self._store.next_index_number())
        with self._refusing():
            self._mark(name)
            sha256, seen = index.write(self._vectors / name)
        return IndexRecord(name, sha256, seen, index.factory, len(index), int(index.ids.max()), effort, recall)

    def read_index(self, record: IndexRecord) -> ApproximateIndex:
        """The index that the database names.

        Raises:
            GalleryError: It is missing or damaged.
        """
        with _missing():
            return read_index(self._folder, record, self._dimension)

    def living(self, segments: Sequence[SegmentRecord]) -> list[tuple[Segment, NDArray[np.bool_] | None]]:
        """Segments, each with which of its rows still count; None for all.

        Raises:
            GalleryError: A file is damaged or missing.
        """
        with _missing():
            return [read_living(self._folder, self._store, one, self._dimension) for one in segments]

    def merge(self) -> None:
        """Merge small segments, and those with dead vectors, into few whole ones.

        Raises:
            GalleryError: A file is damaged, or the disk is full; the gallery stays as it was.
        """
        for group in _groups(self._store.segments(), SEGMENT_BYTES // (4 * self._dimension)):
            self._merge(group)
        self.delete_leftovers()

    def delete_leftovers(self) -> list[Path]:
        """Delete the files that no finished batch needs, and set those aside that nothing explains.

        Returns:
            Where the latter are now.

        Raises:
            GalleryError: The database knows none of the files of vectors, so that it is another gallery's.
        """
        index = self._store.index()
        segments = self._store.segments()
        named = {segment.name for segment in segments} | ({index.name} if index else set())
        with self._refusing():
            self._vectors.mkdir(exist_ok=True)
            require_own(self._folder, segments)
            aside = put_aside(self._folder, unexplained(self._vectors, named))
            # The marks go last: after a kill they still say why the files may go.
            for path in sorted(self._vectors.iterdir(), key=lambda one: one.name.startswith(TEMPORARY_MARK)):
                ours = path.name.startswith((TEMPORARY_MARK, "segment-", "index-")) and path.suffix == ".faiss"
                if ours and path.name not in named:
                    path.unlink(missing_ok=True)
        return aside

    def give_up(self, names: Sequence[str]) -> None:
        """Mark files that the next transaction is to forget, so that they may be deleted.

        Raises:
            GalleryError: The disk doesn't take it.
        """
        with self._refusing():
            for name in names:
                self._mark(name)
            sync_folder(self._vectors)

    def settle(self, number: int) -> None:
        """Take the mark from a segment that counts now."""
        mark_of(self._vectors / segment_name(number)).unlink(missing_ok=True)

    def _mark(self, name: str) -> None:
        """Mark a file that is being written; flushing the file's folder will flush the mark as well."""
        self._vectors.mkdir(exist_ok=True)
        mark_of(self._vectors / name).touch()

    def _merge(self, group: Sequence[SegmentRecord]) -> None:
        parts = [
            (rows.ids, rows.vectors) if living is None else (rows.ids[living], rows.vectors[living])
            for rows, living in self.living(group)
        ]
        ids = np.concatenate([ids for ids, _ in parts])
        order = np.argsort(ids)
        ids, vectors = ids[order], np.concatenate([vectors for _, vectors in parts])[order]
        _, number = self._store.next_numbers()
        written = self.write(number, ids, vectors) if len(ids) else None
        self.give_up([segment.name for segment in group])
        with self._store.transaction():
            if written is not None:
                self._store.insert_segment(number, *written, len(ids))
                self._store.move_entries(ids.tolist(), number)
            self._store.delete_segments([segment.number for segment in group])

    @contextlib.contextmanager
    def _refusing(self) -> Iterator[None]:
        """Say in the user's words that the disk doesn't take it."""
        try:
            yield
        except OSError as error:
            raise GalleryError(
                f"{self._vectors} can't be written: {one_line(error)}.",
                "Make room or set it right, then run the same again: finished batches are kept.",
            ) from error


@contextlib.contextmanager
def _missing() -> Iterator[None]:
    """Say in the user's words that a file is gone."""
    try:
        yield
    except FileNotFoundError as error:
        raise GalleryError(f"{error.filename} is missing.", MAKE_ANEW) from error


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
