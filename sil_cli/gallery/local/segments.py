"""Vectors on disk: FAISS files that are written whole, never changed, mapped into memory and searched exactly.

A segment is what FAISS writes for `IndexIDMap2(IndexFlatIP)`. FAISS trusts what it reads, so it never gets to see
a header that a stranger wrote: the header must be, byte for byte, the one that belongs to the number of vectors
and the dimension that the gallery's database names, and the file must be exactly as long as they make it. Then
whatever else the file holds are vectors and ids. The checksum says whether they are those that were written.

Vectors stay in the file: the system brings in what is looked at and may drop it again, so that a gallery can be
larger than the memory.
"""

from __future__ import annotations

import mmap
import struct
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np

from sil_cli.errors import GalleryError, one_line
from sil_cli.files import file_state, open_file, sha256_of_bytes, write_bytes
from sil_cli.gallery.entry import LAST_ID
from sil_cli.runtime import cpu_count, map_threads

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_faiss: Any = faiss  # it makes much of itself while it is imported, which type checkers don't see
INDEX_KIND = "exact (inner product of unit float32 vectors)"
MAKE_AGAIN = "Repair it with `sil gallery repair`, or index the images into a new folder with --gallery DIR."

_TOGETHER = 8  # queries; 16 by products took 0.4 times as long as one by one, 128 took 0.14 times, 4 as long
_ROWS_OF_THREAD = 8_192  # rows that are worth a thread of their own
_BLOCK = 4_096  # rows at a time, whose products stay in the cache
_HEAP = 1_024  # best scores up to which a heap costs next to nothing beside the products

_ONE_INDEX = struct.Struct("<4siqqq?i")  # fourcc, dimension, vectors, two fixed numbers, trained, metric
_FIXED = 1 << 20
_COUNT = struct.Struct("<Q")
_HEADER_BYTES = 2 * _ONE_INDEX.size + _COUNT.size


class Segment:
    """Vectors with their ids, searched exactly: those of a file, or some that were put together for one search.

    Attributes:
        ids: Shape (N,), in the order of the vectors.
        vectors: Shape (N, D), float32; of a file, a view.
    """

    def __init__(self, ids: NDArray[np.int64], vectors: NDArray[np.float32], flat: Any = None) -> None:
        """Put ids and vectors together; `flat` is FAISS's view of the vectors where there is one already."""
        self.ids = ids
        self.vectors = vectors
        if flat is None:
            flat = _faiss.IndexFlatIP(vectors.shape[1])
            flat.add(np.ascontiguousarray(vectors))
        self._flat: Any = flat
        ascending = bool((np.diff(ids) > 0).all())
        self._order: NDArray[np.int64] | None = None if ascending else np.argsort(ids, kind="stable")

    @classmethod
    def mapped(cls, content: mmap.mmap | bytes, count: int, dimension: int) -> Segment:
        """The vectors in the content of a file whose header and length were checked."""
        start, size = _HEADER_BYTES, count * dimension
        ids = np.frombuffer(content, dtype="<i8", count=count, offset=start + 4 * size + _COUNT.size)
        vectors = np.frombuffer(content, dtype="<f4", count=size, offset=start).reshape(count, dimension)
        inner = np.frombuffer(content, dtype=np.uint8)[_ONE_INDEX.size :]
        reader = _faiss.ZeroCopyIOReader(_faiss.swig_ptr(inner), len(inner))
        # FAISS looks at the file's own bytes, which `ids` and `vectors` keep mapped.
        return cls(ids, vectors, _faiss.read_index(reader, _faiss.IO_FLAG_MMAP_IFC))

    def __len__(self) -> int:
        return len(self.ids)

    def require_ids(self, path: Path) -> None:
        """Raise a GalleryError unless a gallery can have given its ids."""
        if len(self) and not 1 <= self.ids.min() <= self.ids.max() <= LAST_ID:
            raise GalleryError(f"{path} is damaged or was replaced: its ids are out of range.", MAKE_AGAIN)

    @property
    def span(self) -> tuple[int, int]:
        """The lowest and the highest id; (0, -1) where there is none."""
        if not len(self):
            return 0, -1
        ordered = (0, -1) if self._order is None else self._order[[0, -1]]
        return int(self.ids[ordered[0]]), int(self.ids[ordered[1]])

    def rows_of(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """For each id the row of its vector, -1 where it isn't here; of the same shape."""
        if not len(self):
            return np.full(ids.shape, -1, dtype=np.int64)
        first, last = self.span
        if last - first + 1 == len(self) and self._order is None:  # ids without a gap: nothing to look for
            return np.where((ids >= first) & (ids <= last), ids - first, -1)
        at = np.minimum(np.searchsorted(self.ids, ids, sorter=self._order), len(self) - 1)
        rows = at if self._order is None else self._order[at]
        found: NDArray[np.int64] = np.where(self.ids[rows] == ids, rows, -1)
        return found

    def scores_of(self, queries: NDArray[np.float32], ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Float32 inner products of each query with some vectors of its own choice, which aren't copied.

        Args:
            queries: Shape (Q, D).
            ids: Shape (Q, C), for each query the vectors to compare it with.

        Returns:
            Shape (Q, C), -inf where a vector isn't here.
        """
        rows = np.ascontiguousarray(self.rows_of(ids))
        scores = np.full(ids.shape, -np.inf, dtype=np.float32)
        if (rows >= 0).any():
            queries = np.ascontiguousarray(queries)
            pointers = [_faiss.swig_ptr(array) for array in (queries, scores, rows)]
            self._flat.compute_distance_subset(len(queries), pointers[0], ids.shape[1], *pointers[1:])
        return scores

    def search(
        self, queries: NDArray[np.float32], k: int, keep: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The best k rows of each query among those to keep, by float32 inner products.

        Args:
            queries: Shape (Q, D).
            k: At least 1.
            keep: Shape (N,), which rows may be found; None for all.

        Returns:
            Scores and ids, both (Q, k), best first; where fewer than k exist the id is -1 and the score -inf.
        """
        if len(queries) >= _TOGETHER and k <= _HEAP and (keep is None or 8 * np.count_nonzero(keep) >= len(self)):
            scores, rows = best_products(queries, self.vectors, k, keep)
        else:
            scores, rows = self._one_by_one(queries, k, keep)
        found = rows >= 0
        return np.where(found, scores, -np.inf), np.where(found, self.ids[rows], -1)

    def _one_by_one(
        self, queries: NDArray[np.float32], k: int, keep: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores and rows, (Q, k), by FAISS, which compares one query at a time until there are hundreds."""
        queries = np.ascontiguousarray(queries)
        # One query reads all vectors: as fast as memory is read, of which one core gets a part only.
        edges = np.linspace(0, len(self), min(cpu_count(), max(1, len(self) // _ROWS_OF_THREAD)) + 1).astype(int)
        ranges = [_selector(first, last, keep) for first, last in pairwise(edges.tolist())]
        parts = map_threads(lambda part: self._among(queries, k, part), ranges)
        if len(parts) == 1:
            return parts[0]
        scores, rows = (np.concatenate(each, axis=1) for each in zip(*parts, strict=True))
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)

    def _among(
        self, queries: NDArray[np.float32], k: int, selector: Any
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores and rows, (Q, k), of the rows that a selector of FAISS's lets through; -1 where there are fewer."""
        scores, rows = self._flat.search(queries, k, params=_faiss.SearchParameters(sel=selector))
        return scores, rows


def _selector(first: int, last: int, keep: NDArray[np.bool_] | None) -> Any:
    """FAISS's selector of the rows from `first` to below `last` that are to be kept."""
    if keep is None:
        return _faiss.IDSelectorRange(first, last)
    inside = np.zeros(len(keep), dtype=np.bool_)
    inside[first:last] = keep[first:last]
    return _faiss.IDSelectorBitmap(np.packbits(inside, bitorder="little"))


def write_segment(path: Path, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> tuple[str, str]:
    """Write vectors as a FAISS file, whole or not at all.

    Returns:
        The SHA-256 of the file and its state, by which `read_segment` will know it.

    Raises:
        OSError: The folder can't be written, or the disk is full.
    """
    index = _faiss.IndexIDMap2(_faiss.IndexFlatIP(vectors.shape[1]))
    index.add_with_ids(np.ascontiguousarray(vectors), np.ascontiguousarray(ids))
    content = bytes(_faiss.serialize_index(index))
    write_bytes(path, content)
    return sha256_of_bytes(content), file_state(path)


def read_segment(path: Path, *, sha256: str, seen: str, count: int, dimension: int) -> Segment:
    """Map a FAISS file after checking that it is the one that was written.

    Args:
        path: The file.
        sha256: Its checksum, which is compared unless the file's state is still `seen`.
        seen: The file's state when its checksum was last known to be right.
        count: How many vectors it must hold.
        dimension: And of which length.

    Raises:
        FileNotFoundError: There is no such file (a writer may have merged it away).
        GalleryError: It is damaged or not the file that was written.
    """
    content = map_file(path)
    check_layout(path, content, count, dimension)
    if file_state(path) != seen and sha256_of_bytes(content) != sha256:
        raise GalleryError(
            f"{path} is damaged or was replaced: its checksum is not the one recorded in the gallery.",
            MAKE_AGAIN,
        )
    segment = Segment.mapped(content, count, dimension)
    segment.require_ids(path)
    return segment


def check_layout(path: Path, content: mmap.mmap | bytes, count: int, dimension: int) -> None:
    """Raise a GalleryError unless a file has the header and the length of so many vectors."""
    length = _HEADER_BYTES + _COUNT.size + count * (4 * dimension + 8)
    ids_at = length - 8 * count - _COUNT.size
    whole = len(content) == length and content[:_HEADER_BYTES] == _header(count, dimension)
    if not whole or content[ids_at : ids_at + _COUNT.size] != _COUNT.pack(count):
        raise GalleryError(
            f"{path} is damaged or was replaced: it isn't a file of {count:,} vectors of {dimension} values.",
            MAKE_AGAIN,
        )


def count_of_whole(path: Path, content: mmap.mmap | bytes) -> int | None:
    """How many vectors a file says that it holds; None unless it is a segment of just the length that makes."""
    if len(content) < _HEADER_BYTES:
        return None
    _, dimension, count, *_ = _ONE_INDEX.unpack(content[: _ONE_INDEX.size])
    if dimension < 1 or not 0 <= count <= len(content):
        return None
    try:
        check_layout(path, content, count, dimension)
    except GalleryError:
        return None
    return int(count)


def map_file(path: Path) -> mmap.mmap | bytes:
    """A file's content, mapped into memory for reading.

    Raises:
        FileNotFoundError: There is no such file.
        GalleryError: It can't be read.
    """
    try:
        with open_file(path) as stream:
            if not stream.seek(0, 2):
                return b""  # nothing can't be mapped
            return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise GalleryError(f"{path} can't be read: {one_line(error)}.", "Check the disk.") from error


def _header(count: int, dimension: int) -> bytes:
    """What FAISS writes before the vectors: the map of ids, the flat index, and the number of values."""
    inner_product = int(_faiss.METRIC_INNER_PRODUCT)
    parts = [
        _ONE_INDEX.pack(kind, dimension, count, _FIXED, _FIXED, True, inner_product) for kind in (b"IxM2", b"IxFI")
    ]
    return b"".join(parts) + _COUNT.pack(count * dimension)


def best_products(
    queries: NDArray[np.float32], rows: NDArray[np.float32], k: int, keep: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k rows with the largest inner products with each query, without the whole matrix.

    FAISS can do the same. Its packages bring a BLAS library of their own though, which takes processors that it
    doesn't know for very old ones: on a Sapphire Rapids its product ran at 27 Gflop/s a core, NumPy's at 100 to 125.

    Args:
        queries: Shape (Q, D).
        rows: Shape (N, D); may be a memory map.
        k: At least 1.
        keep: Shape (N,), which rows may be found; None for all.

    Returns:
        Products and rows, both (Q, k), best first; where there are fewer rows, -inf and -1.
    """
    best = _faiss.ResultHeap(len(queries), k, keep_max=True)
    block = np.empty((min(len(rows), _BLOCK), queries.shape[1]), dtype=np.float32)
    for start in range(0, len(rows), _BLOCK):
        some = rows[start : start + _BLOCK]
        # As bytes: in a file the values lie at odd addresses, from which NumPy would copy them one by one.
        block[: len(some)].view(np.uint8)[:] = some.view(np.uint8)
        products = queries @ block[: len(some)].T
        if keep is not None:
            products[:, ~keep[start : start + _BLOCK]] = -np.inf
        best.heaps.addn(products.shape[1], _faiss.swig_ptr(products), start)
    best.finalize()
    found = best.I >= 0  # a heap never takes -inf
    return np.where(found, best.D, -np.inf), np.where(found, best.I, -1)
