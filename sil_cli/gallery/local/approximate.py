"""An approximate index over a gallery's vectors: any that FAISS can make from a string, built, written and searched.

It only proposes candidates. Their scores are computed from the segments' own vectors, so a code that loses
precision (SQ8, PQ) costs recall at worst, never a wrong score. The file can be thrown away and built again.
"""

from __future__ import annotations

import contextlib
import math
import re
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import faiss
import numpy as np

from sil_cli.errors import GalleryError, one_line
from sil_cli.files import file_state, replacing, sha256_of_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray


_faiss: Any = faiss  # it makes much of itself while it is imported, which type checkers don't see
EXACT_UP_TO = 100_000
"""Images up to which exact search is quick enough to be chosen by itself."""

EXACT_BYTES = 50_000 * 512 * 4
"""Bytes of vectors up to which it is: one query reads them all, in less time than its embedding takes to compute.

Two cores of a Xeon of the Sapphire Rapids class read twice as many in 14 to 20 ms. The forward pass of a ResNet-18 took
15 ms there, that of a ResNet-50 19 (OpenVINO, bfloat16).
"""

GRAPH_UP_TO = 4_000_000
"""Images up to which a graph is chosen by itself: beyond, its links outgrow the memory, and building takes too long."""

GRAPH_DIMENSIONS = (64, 96, 128)
"""Of longer vectors a graph holds so many principal components: it is built and walked in a fraction of the time."""

KEPT_VARIANCE = 0.99
"""The fewest of those are taken that keep so much of the vectors' variance; the most where none does."""

_AT_ONCE = 16_384  # vectors whose nearest centres are looked for
_FEW = 32  # queries whose order doesn't matter
_AXIS_ROUNDS = 4  # of the power method: a rough axis will do
_TRAINING_PER_LIST = 40
_TRAINING_ROUNDS = 10  # of k-means; more move the cells, and what they find, hardly at all
_WEIGHED = 120
"""Candidates weighed for each link of a graph (efConstruction).

With FAISS's 40, 200,000 vectors were linked in half the time (25 against 54 s of one core), but a search of the same
effort then missed 1.3 % of the best instead of 0.4 %.
"""

_MOST_TRAINING = 400_000
_MOST_LISTS = 1_000_000
_MOST_LINKS = 256
_ADD_AT_ONCE = 16_384
_OTHER_FACTORY = "Use one such as IVF1024,SQ8 or HNSW32,SQ8 or SQfp16 (or exact, or auto)."


def automatic_factory(count: int, sample: NDArray[np.float32]) -> str:
    """The kind of index for so many vectors, where exact search is not enough.

    A graph over one-byte codes finds the best of embeddings with far fewer comparisons than cells do. Cells of inverted
    lists, for still more vectors, are built quickly and read in few pieces; their size balances the cost of choosing
    cells against that of looking into them.

    Args:
        count: How many there are.
        sample: Some of them, shape (S, D).
    """
    return graph_factory(sample) if count <= GRAPH_UP_TO else cells_factory(count)


def exact_is_enough(count: int, dimension: int) -> bool:
    """Whether a search of so many vectors is quick enough without an index."""
    return count <= EXACT_UP_TO and 4 * count * dimension <= EXACT_BYTES


def is_automatic(factory: str, count: int) -> bool:
    """Whether an index of so many vectors may be what `automatic_factory` chose for them, or for fewer or others."""
    return bool(re.fullmatch(r"(PCA\d+,)?HNSW32,SQ8" if count <= GRAPH_UP_TO else r"IVF\d+,SQ8", factory))


def graph_factory(sample: NDArray[np.float32]) -> str:
    """A graph over one-byte codes; where vectors (S, D) are long, of as many principal components as they vary in."""
    fewest, most = GRAPH_DIMENSIONS[0], GRAPH_DIMENSIONS[-1]
    if sample.shape[1] <= most:
        return "HNSW32,SQ8"
    variances = np.linalg.eigvalsh(np.cov(sample, rowvar=False)) if len(sample) > fewest else np.ones(1)
    kept = np.cumsum(variances[::-1]) / max(float(variances.sum()), np.finfo(np.float64).tiny)
    enough = (one for one in GRAPH_DIMENSIONS if kept[min(one, len(kept)) - 1] >= KEPT_VARIANCE)
    return f"PCA{next(enough, most)},HNSW32,SQ8"


def cells_factory(count: int) -> str:
    """Inverted lists over one-byte codes, as many as suit the number of vectors."""
    return f"IVF{max(4, 2 ** round(math.log2(4 * math.sqrt(max(1, count)))))},SQ8"


_LEAST_ROOM = 1 << 28
"""Bytes that an index may have whatever it holds, as the centres of its cells; the finest graph has 16 KB a vector."""


class ApproximateIndex:
    """A FAISS index with its ids; make one with `build` or `read`.

    Attributes:
        factory: FAISS's name of it.
        efforts: What `search` takes, from the least to the most thorough; empty where the index knows no effort.
        takes_filter: Whether it can search among some of its vectors only.
    """

    def __init__(self, index: Any, factory: str) -> None:
        self._index = index
        self._inner, self._wrapped = _inner(index.index)
        self.factory = factory
        self.efforts = _efforts(self._inner, index.ntotal)
        self.takes_filter = self._can_filter()

    @classmethod
    def build(
        cls, factory: str, training: NDArray[np.float32], parts: Iterable[tuple[NDArray[np.int64], NDArray[np.float32]]]
    ) -> Self:
        """Train an index and fill it.

        Args:
            factory: FAISS's name of it.
            training: Shape (T, D), unit rows; `training_size` says how many are enough.
            parts: Ids and unit rows of all vectors, some at a time.

        Raises:
            GalleryError: FAISS doesn't know the factory or can't build it from these vectors.
        """
        plain = plain_index(factory, training.shape[1])
        index: Any = _faiss.IndexIDMap(plain)
        try:
            if not plain.is_trained:
                plain.train(np.ascontiguousarray(training))
            for ids, rows in parts:
                for start in range(0, len(ids), _ADD_AT_ONCE):
                    part = slice(start, start + _ADD_AT_ONCE)
                    index.add_with_ids(np.ascontiguousarray(rows[part]), np.ascontiguousarray(ids[part]))
            graph = _inner(plain)[0]
            if isinstance(graph, _faiss.IndexHNSW):
                put_near_together(index, graph)
            index.search(np.ascontiguousarray(training[:1]), 1)  # some can be filled, but not searched
        except RuntimeError as error:
            raise GalleryError(
                f"The index {factory} can't be built from {len(training):,} vectors: {_reason(error)}.",
                _OTHER_FACTORY,
            ) from error
        return cls(index, factory)

    @classmethod
    def read(cls, path: Path, *, factory: str, sha256: str, seen: str, count: int, dimension: int) -> Self:
        """Map an index into memory, after checking that it is the file that was written.

        Raises:
            FileNotFoundError: There is no such file.
            GalleryError: Its checksum is another, so FAISS isn't shown it; or it isn't what the gallery says.
        """
        again = "Build it again with `sil gallery repair`."
        if path.stat().st_size > _LEAST_ROOM + count * 4 * (4 * dimension + 16384):  # before all of it is read
            raise GalleryError(f"{path} is damaged or was replaced: it is far larger than such an index.", again)
        if file_state(path) != seen and sha256_of_file(path) != sha256:
            raise GalleryError(
                f"{path} is damaged or was replaced: its checksum is not the one recorded in the gallery.", again
            )
        # Cells are mapped by one of FAISS's ways, graphs and codes by the other; each ignores what it can't map.
        flags = _faiss.IO_FLAG_MMAP | _faiss.IO_FLAG_READ_ONLY if "IVF" in factory else _faiss.IO_FLAG_MMAP_IFC
        try:
            with _no_vector_beyond(path.stat().st_size):
                index = _faiss.read_index(str(path), flags)
        except (RuntimeError, MemoryError, TypeError) as error:
            raise GalleryError(f"{path} can't be read: {_reason(error)}.", again) from error
        if type(index) is not _faiss.IndexIDMap or index.ntotal != count or index.d != dimension:
            raise GalleryError(f"{path} is not the index that the gallery's database names.", again)
        return cls(index, factory)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, ids: NDArray[np.int64], rows: NDArray[np.float32]) -> None:
        """Add vectors (N, D), unit rows, with their ids (N,) to an index that was built, not read."""
        if len(ids):
            self._index.add_with_ids(np.ascontiguousarray(rows), np.ascontiguousarray(ids))
        self.__dict__.pop("_positions", None)

    @property
    def ids(self) -> NDArray[np.int64]:
        """The ids of all its vectors."""
        ids: NDArray[np.int64] = _faiss.vector_to_array(self._index.id_map).astype(np.int64)
        return ids

    def write(self, path: Path) -> tuple[str, str]:
        """Write it, whole or not at all; returns the file's SHA-256 and state.

        Raises:
            OSError: The folder can't be written, or the disk is full.
        """
        with replacing(path) as stream:
            writer = _faiss.PyCallbackIOWriter(stream.write)
            _faiss.write_index(self._index, writer)
        return sha256_of_file(path), file_state(path)

    def search(
        self, queries: NDArray[np.float32], k: int, effort: int, keep: NDArray[np.bool_ | np.int64] | None
    ) -> NDArray[np.int64]:
        """Candidates for the best k vectors of each query.

        Args:
            queries: Shape (Q, D), unit rows.
            k: How many candidates.
            effort: nprobe or efSearch; ignored where the index has neither.
            keep: For every id from 0 on whether it may be found, or the ids that may be, ascending; None for all.

        Returns:
            Ids, shape (Q, k), best first; -1 where nothing more was found.
        """
        mask = keep if keep is None or not self._wrapped else _at(keep, self._positions)
        found = np.empty((len(queries), k), dtype=np.int64)
        order = along_main_axis(queries)
        found[order] = self._found(queries[order], k, effort, mask)
        return found

    def _found(
        self, queries: NDArray[np.float32], k: int, effort: int, mask: NDArray[np.bool_ | np.int64] | None
    ) -> NDArray[np.int64]:
        """As `search`; behind a transform, where FAISS doesn't translate ids, the mask is of positions."""
        selector = None
        if mask is not None and mask.dtype == np.bool_:
            selector = _faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
        elif mask is not None:
            selector = _faiss.IDSelectorBatch(mask)
        parameters = self._parameters(max(1, effort), selector)
        found: NDArray[np.int64]
        _, found = self._index.search(np.ascontiguousarray(queries), k, params=parameters)
        return found

    @cached_property
    def _positions(self) -> NDArray[np.int64]:
        return self.ids

    def _parameters(self, effort: int, selector: Any) -> Any:
        """FAISS's parameters of one search."""
        facts = {} if selector is None else {"sel": selector}
        if isinstance(self._inner, _faiss.IndexIVF):
            inner = _faiss.SearchParametersIVF(nprobe=min(effort, self._inner.nlist), **facts)
        elif isinstance(self._inner, _faiss.IndexHNSW):
            inner = _faiss.SearchParametersHNSW(efSearch=effort, **facts)
        elif facts:
            inner = _faiss.SearchParameters(**facts)
        else:
            return None
        return _faiss.SearchParametersPreTransform(index_params=inner) if self._wrapped else inner

    def _can_filter(self) -> bool:
        if not len(self):
            return False
        first = int(self._index.id_map.at(0))
        mask = np.zeros(1 if self._wrapped else first + 1, dtype=np.bool_)
        mask[-1] = True
        try:
            found = self._found(np.ones((1, self._index.d), dtype=np.float32), 1, 1, mask)
        except RuntimeError:
            return False
        return bool(np.isin(found, [-1, first]).all())


def plain_index(factory: str, dimension: int) -> Any:
    """An empty, untrained index by FAISS's name of it.

    Raises:
        GalleryError: FAISS doesn't know it, or it can't serve a gallery.
    """
    lists = [int(number) for number in re.findall(r"IVF(\d+)", factory)]
    links = [int(number) for number in re.findall(r"HNSW(\d+)", factory)]
    sensible = len(factory) <= 100 and all(0 < one <= _MOST_LISTS for one in lists)
    if not sensible or not all(0 < one <= _MOST_LINKS for one in links):
        raise GalleryError(f"The index '{factory}' has a size that no gallery needs.", _OTHER_FACTORY)
    try:
        index = _faiss.index_factory(dimension, factory, _faiss.METRIC_INNER_PRODUCT)
    except (RuntimeError, MemoryError, TypeError) as error:
        raise GalleryError(
            f"FAISS can't make an index '{factory}' for {dimension} dimensions: {_reason(error)}.", _OTHER_FACTORY
        ) from error
    inner, _ = _inner(index)
    kinds = (_faiss.IndexIVF, _faiss.IndexHNSW, _faiss.IndexFlatCodes)
    if not isinstance(inner, kinds) or index.metric_type != _faiss.METRIC_INNER_PRODUCT:
        raise GalleryError(
            f"An index '{factory}' can't serve a gallery: it isn't a plain IVF, HNSW, SQ, PQ or Flat index.",
            _OTHER_FACTORY,
        )
    if isinstance(inner, _faiss.IndexIVF):
        inner.cp.min_points_per_centroid = 1  # else FAISS itself prints a warning about small galleries
        inner.cp.niter = _TRAINING_ROUNDS
    if isinstance(inner, _faiss.IndexHNSW):
        inner.hnsw.efConstruction = _WEIGHED
    return index


def training_size(factory: str, dimension: int, count: int) -> int:
    """How many of `count` vectors an index is trained with.

    Raises:
        GalleryError: As `plain_index`; or it needs more vectors than there are.
    """
    index = plain_index(factory, dimension)
    inner, _ = _inner(index)  # a view: `index` must live as long
    lists = int(inner.nlist) if isinstance(inner, _faiss.IndexIVF) else 256
    if isinstance(inner, _faiss.IndexIVF) and lists > count:
        raise GalleryError(
            f"The index {factory} needs at least {lists:,} vectors; the gallery has {count:,}.", _OTHER_FACTORY
        )
    return min(count, max(_TRAINING_PER_LIST * lists, 20_000), max(_MOST_TRAINING, 30 * lists))


def _inner(index: Any) -> tuple[Any, bool]:
    """The index that searches, and whether vectors pass through a transform (OPQ, PCA, …) on their way to it."""
    index = _faiss.downcast_index(index)
    if isinstance(index, _faiss.IndexPreTransform):
        return _faiss.downcast_index(index.index), True
    return index, False


def _efforts(inner: Any, count: int) -> list[int]:
    if isinstance(inner, _faiss.IndexIVF):
        return _growing(1, int(inner.nlist))
    if isinstance(inner, _faiss.IndexHNSW):
        return _growing(16, max(16, min(count, 4096)))
    return []


def _growing(first: int, last: int) -> list[int]:
    """first, then about a tenth more each time, up to last."""
    efforts = [first]
    while efforts[-1] < last:
        efforts.append(min(last, max(efforts[-1] + 1, round(efforts[-1] * 1.1))))
    return efforts


def _reason(error: BaseException) -> str:
    """FAISS's reason without the place in its source."""
    text = one_line(error)
    return re.sub(r"^Error in .*? at \S+?:\d+: ", "", text).removeprefix("Error: ").rstrip(".")


@contextlib.contextmanager
def _no_vector_beyond(size: int) -> Iterator[None]:
    """Have FAISS refuse to make room for more than a file of this size can hold, where it knows how to (1.14)."""
    limit = getattr(_faiss, "get_deserialization_vector_byte_limit", lambda: 0)()
    set_limit = getattr(_faiss, "set_deserialization_vector_byte_limit", lambda _: None)
    set_limit(size)
    try:
        yield
    finally:
        set_limit(limit)


def _at(keep: NDArray[np.bool_ | np.int64], ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """For each of the ids whether it may be found; ids beyond the end of `keep` may not."""
    if keep.dtype != np.bool_:
        return np.isin(ids, keep)
    inside = ids < len(keep)
    return inside & keep[np.where(inside, ids, 0)].astype(np.bool_, copy=False)


def put_near_together(index: Any, graph: Any) -> None:
    """Sort a graph's vectors by the nearest of some of them, links and ids with them; the graph stays the same.

    A walk through a graph waits for memory: the vectors that it looks at next are rarely near those that it has just
    looked at. A search of a million vectors took 13 % less time so.

    Args:
        index: FAISS's map of ids over the graph, or over a transform before it.
        graph: The graph (IndexHNSW).
    """
    count = int(graph.ntotal)
    if not isinstance(_faiss.downcast_index(graph.storage), _faiss.IndexFlatCodes) or not count:
        return
    order = np.argsort(_nearest_centre(graph, count), kind="stable").astype(np.int64)
    ids = _faiss.vector_to_array(index.id_map)[order]
    graph.permute_entries(order)
    _faiss.copy_array_to_vector(ids, index.id_map)


def along_main_axis(rows: NDArray[np.float32]) -> NDArray[np.int64]:
    """The order (N,) of rows (N, D) along the direction in which they vary most, about; of a few rows their own.

    Queries that are asked one after another find more in the cache where they are near each other: 1,024 new ones took
    16 to 21 % less time in this order, no more by a chain of neighbours.
    """
    if len(rows) < _FEW:
        return np.arange(len(rows))
    centred = rows - rows.mean(axis=0)
    axis = centred[0]
    for _ in range(_AXIS_ROUNDS):
        axis = (centred @ axis) @ centred
        axis = axis / max(float(np.linalg.norm(axis)), float(np.finfo(np.float32).tiny))
    return np.argsort(centred @ axis, kind="stable")


def _nearest_centre(graph: Any, count: int) -> NDArray[np.int64]:
    """For each vector which of about 2·√count others is nearest to it, shape (count,)."""
    chosen = np.random.default_rng(0).permutation(count)[: 2 * math.isqrt(count)]
    centres = np.stack([graph.reconstruct(int(one)) for one in chosen])
    halves = np.einsum("ij,ij->i", centres, centres) / 2
    nearest = np.empty(count, dtype=np.int64)
    for start in range(0, count, _AT_ONCE):
        rows = graph.reconstruct_n(start, min(_AT_ONCE, count - start))
        nearest[start : start + len(rows)] = np.argmax(rows @ centres.T - halves, axis=1)
    return nearest
