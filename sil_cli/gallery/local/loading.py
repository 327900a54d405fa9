"""From what a gallery's database names to vectors that can be searched."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sil_cli.errors import GalleryError
from sil_cli.gallery.local.approximate import ApproximateIndex
from sil_cli.gallery.local.segments import MAKE_ANEW, Segment, read_segment
from sil_cli.gallery.local.vector_search import Searcher
from sil_cli.gallery.paths import VECTOR_FOLDER

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from sil_cli.gallery.local.records import IndexRecord, SegmentRecord
    from sil_cli.gallery.local.tables import Tables


def load(folder: Path, store: Tables, dimension: int) -> tuple[Searcher, int, IndexRecord | None]:
    """All living vectors, the number of files that they are in, and the index over them.

    Raises:
        GalleryError: A file is missing or damaged.
    """
    missing: list[SegmentRecord] = []
    while True:
        segments, record = store.segments(), store.index()
        try:
            parts = [read_living(folder, store, segment, dimension) for segment in segments]
            index = None if record is None else read_index(folder, record, dimension)
        except FileNotFoundError as error:
            if segments == missing:
                raise GalleryError(f"{error.filename} is missing.", MAKE_ANEW) from error
            missing = segments
            store.snapshot()  # a writer merged files away in this moment: look again
            continue
        last_id, effort = (record.last_id, record.effort) if record else (0, 0)
        return Searcher(parts, index, last_id=last_id, effort=effort), len(segments), record


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


def read_living(
    folder: Path, store: Tables, record: SegmentRecord, dimension: int
) -> tuple[Segment, NDArray[np.bool_] | None]:
    """One file of vectors, and for each of them whether it has an entry; None where all have.

    Raises:
        FileNotFoundError: The file isn't there.
        GalleryError: It is damaged, or an entry has no vector in it.
    """
    path = folder / VECTOR_FOLDER / record.name
    segment = read_segment(path, sha256=record.sha256, seen=record.seen, count=record.count, dimension=dimension)
    if record.live == record.count and store.spans_exactly(record.number, segment.ids):
        return segment, None
    living = np.isin(segment.ids, store.ids(record.number))
    if np.count_nonzero(living) != record.live:
        raise GalleryError(f"{path} doesn't hold the vectors of all its entries.", MAKE_ANEW)
    return segment, None if living.all() else living
