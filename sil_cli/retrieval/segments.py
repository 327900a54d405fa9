"""Vectors on disk: FAISS files that are written whole, never changed, and checked before they are parsed.

The only module that talks to FAISS. Everything is exact: inner product on vectors of length 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import faiss
import numpy as np

from sil_cli.errors import GalleryError
from sil_cli.files import one_line, sha256_of_bytes, write_bytes

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from numpy.typing import NDArray

INDEX_KIND = "exact (inner product of unit float32 vectors)"


class VectorIndex:
    """Vectors with their ids, searched exactly; a thin typed coat over `IndexIDMap2(IndexFlatIP)`."""

    def __init__(self, dimension: int) -> None:
        self._index: Any = faiss.IndexIDMap2(faiss.IndexFlatIP(dimension))

    @classmethod
    def from_bytes(cls, content: bytes, *, what: str) -> VectorIndex:
        """Parse a FAISS file; call this only with bytes whose checksum is known to be right.

        Raises:
            GalleryError: It isn't the kind of index that this class writes.
        """
        try:
            index = faiss.deserialize_index(np.frombuffer(content, dtype=np.uint8))
        except RuntimeError as error:
            raise GalleryError(f"{what} can't be read: {one_line(error)}.", MAKE_ANEW) from error
        flat = faiss.downcast_index(index.index) if isinstance(index, faiss.IndexIDMap2) else None
        if not isinstance(flat, faiss.IndexFlatIP):
            raise GalleryError(f"{what} holds another kind of index than this version writes.", MAKE_ANEW)
        self = cls.__new__(cls)
        self._index = index
        return self

    def to_bytes(self) -> bytes:
        """The index as the content of a FAISS file."""
        return bytes(faiss.serialize_index(self._index))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def dimension(self) -> int:
        """The vectors' length."""
        return int(self._index.d)

    @property
    def ids(self) -> NDArray[np.int64]:
        """All ids in the order of the vectors."""
        ids: NDArray[np.int64] = faiss.vector_to_array(self._index.id_map).astype(np.int64)
        return ids

    def add(self, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Append vectors, shape (N, D), under new ids."""
        self._index.add_with_ids(np.ascontiguousarray(vectors), np.ascontiguousarray(ids))

    def stored(self) -> NDArray[np.float32]:
        """All vectors in the order of `ids`, shape (N, D); a view that lives as long as the index."""
        flat: Any = faiss.downcast_index(self._index.index)
        values = faiss.rev_swig_ptr(flat.get_xb(), len(self) * self.dimension)
        view: NDArray[np.float32] = values.reshape(len(self), self.dimension)
        return view

    def vectors(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors of the given ids, shape (N, D)."""
        if not len(ids):
            return np.empty((0, self.dimension), dtype=np.float32)
        found: NDArray[np.float32] = self._index.reconstruct_batch(np.ascontiguousarray(ids))
        return found

    def search(
        self, queries: NDArray[np.float32], k: int, allowed: Collection[int] | None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores and ids, both (Q, k), best first; where fewer than k exist the id is -1."""
        parameters: Any = None
        if allowed is not None:
            wanted = np.fromiter(allowed, dtype=np.int64, count=len(allowed))
            parameters = faiss.SearchParameters()
            parameters.sel = faiss.IDSelectorBatch(wanted)
        scores, ids = self._index.search(np.ascontiguousarray(queries), k, params=parameters)
        return scores, ids


MAKE_ANEW = "Index the images into a new folder with `sil index-gallery --gallery DIR`."


def write_segment(path: Path, ids: NDArray[np.int64], vectors: NDArray[np.float32]) -> str:
    """Write vectors as a FAISS file, whole or not at all.

    Returns:
        The SHA-256 of the file, by which `read_segment` will know it.

    Raises:
        OSError: The folder can't be written, or the disk is full.
    """
    index = VectorIndex(vectors.shape[1])
    index.add(ids, vectors)
    content = index.to_bytes()
    write_bytes(path, content)
    return sha256_of_bytes(content)


def read_segment(path: Path, *, sha256: str, count: int, dimension: int) -> VectorIndex:
    """Read a FAISS file after checking that it is the one that was written.

    FAISS trusts what it reads, so the checksum is compared on the very bytes that are then parsed.

    Raises:
        FileNotFoundError: There is no such file (a writer may have merged it away).
        GalleryError: It is damaged or not the file that was written.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise GalleryError(f"{path} can't be read: {one_line(error)}.", "Check the disk.") from error
    if sha256_of_bytes(content) != sha256:
        raise GalleryError(
            f"{path} is damaged or was replaced: its checksum is not the one recorded in the gallery.",
            MAKE_ANEW,
        )
    index = VectorIndex.from_bytes(content, what=str(path))
    if len(index) != count or index.dimension != dimension:
        raise GalleryError(
            f"{path} holds {len(index)} vectors of {index.dimension} where {count} of {dimension} belong.",
            MAKE_ANEW,
        )
    return index
