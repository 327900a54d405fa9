"""Re-ranking by k-reciprocal encoding, on sparse matrices.

Zhong, Zheng, Cao, Li: "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017, in the form of its
authors' code, which most published numbers come from:

- all N images, queries and gallery, are each other's neighbours; an image is its own first neighbour;
- the distance between images i and j is d(i, j) = |x_i - x_j|² / max_l |x_i - x_l|², of unit vectors x;
- N(i, k) are the k + 1 nearest images of i, itself among them; R(i, k) = {j in N(i, k): i in N(j, k)} (eq. 2, 3);
- R*(i) adds to R(i, k1) each R(j, k1/2), j in R(i, k1), more than two thirds of which lie in R(i, k1) (eq. 5; the
  paper has "at least", its code "more than"; k1/2 is rounded half to even);
- V(i, j) = exp(-d(i, j)) for j in R*(i), else 0, each row divided by its sum (eq. 7 and the code);
- each row of V is replaced by the mean of those of its first k2 neighbours (eq. 11), unless k2 is 1;
- Jaccard distance J(i, j) = 1 - m / (2 - m), m = Σ_l min(V(i, l), V(j, l)) (eq. 10);
- the final distance is (1 - λ)·J + λ·d (eq. 12).

The original holds several N×N arrays. A row of V has some tens of entries, so everything here is sparse, and only the
rows of queries are ever written out, some at a time.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ValidationError
from scipy import sparse

from sil_cli.errors import UsageError
from sil_cli.runtime import SilentReporter, cpu_count
from sil_cli.settings import RerankSettings
from sil_cli.similarity.distance import squared_distances, unit_rows
from sil_cli.similarity.neighbours import (
    BlockDistances,
    nearest_neighbours,
    squared_of_pairs,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sil_cli.runtime import Reporter
    from sil_cli.similarity.neighbours import Neighbours

_ROWS = 2048  # of the sparse matrices worked on by one thread at a time
_KEPT_BYTES = 2**30  # of the distances of queries to gallery images; where there are more, they are worked out again
_VALUES = 2**19  # distances worked on by one thread at a time


def rerank(
    query: NDArray[np.floating],
    gallery: NDArray[np.floating],
    *,
    k1: int = 20,
    k2: int = 6,
    weight: float = 0.3,
    reporter: Reporter | None = None,
) -> NDArray[np.floating]:
    """Distances of queries to gallery images after k-reciprocal re-ranking; no identity or camera is looked at.

    Args:
        query: Embeddings of the queries, shape (Q, D), float32 or float64, of any length but zero.
        gallery: Those of the gallery, shape (G, D), of the same precision.
        k1: Neighbours that are looked at, at least 1.
        k2: Neighbours whose encodings are averaged, at least 1.
        weight: λ, in 0..1: the weight of the original distance beside the Jaccard distance.
        reporter: Hears of the progress.

    Returns:
        Shape (Q, G), in the embeddings' precision, in 0..1; what is nearer has a smaller distance.

    Raises:
        DataError: Embeddings can't be used.
        UsageError: k1, k2 or weight is out of range.
    """
    try:
        options = RerankSettings(k1=k1, k2=k2, weight=weight)
    except ValidationError:
        raise UsageError(
            f"Re-ranking does not work with k1 = {k1}, k2 = {k2}, λ = {weight}.",
            "k1 and k2 must be at least 1, and λ between 0 and 1.",
        ) from None
    units = np.concatenate([unit_rows(query, what="query"), unit_rows(gallery, what="gallery")])
    return KReciprocalDistances(units, len(query), options, reporter=reporter).rows(np.arange(len(query)))


class KReciprocalDistances:
    """The final distance of every query to every gallery image, given out some queries at a time.

    Args:
        units: Shape (N, D), rows of unit length, float32 or float64: the queries first, then the gallery.
        queries: How many of them are queries.
        options: k1, k2 and λ.
        reporter: Hears of the progress.
    """

    def __init__(
        self,
        units: NDArray[np.floating],
        queries: int,
        options: RerankSettings,
        *,
        reporter: Reporter | None = None,
    ) -> None:
        reporter = reporter or SilentReporter()
        self._distances = BlockDistances(units)
        self._queries = queries
        self._weight = options.weight
        shape = (queries, len(units) - queries)
        kept = shape[0] * shape[1] * units.itemsize <= _KEPT_BYTES
        self._original = np.empty(shape, dtype=units.dtype) if kept else None
        neighbours = nearest_neighbours(
            self._distances, max(options.k1 + 1, options.k2), keep=self._original, reporter=reporter
        )
        self._farthest = np.where(neighbours.farthest > 0, neighbours.farthest, 1).astype(np.float64)
        encoded = encode(units, neighbours, options, reporter)
        self._encoded = encoded[:queries]
        self._inverted = encoded[queries:].tocsc()  # for each image the gallery images that have it in their rows

    def margin(self, query: int) -> float:
        """Two distances in a row of `rows` that differ by more are in the right order for certain."""
        of_original = self._weight * self._distances.margin / float(self._farthest[query])
        return of_original + 8.0 * float(np.finfo(self._distances.units.dtype).eps)

    def rows(self, queries: NDArray[np.int64]) -> NDArray[np.floating]:
        """Final distances of some queries, shape (len(queries), gallery), in the units' precision."""
        if self._original is None:
            found = self._distances.between(queries, slice(self._queries, len(self._distances)))
        else:
            found = self._original[queries]
        scale = (self._weight / self._farthest[queries])[:, None].astype(found.dtype)
        step = max(1, _VALUES // max(1, found.shape[1]))

        def complete(start: int) -> None:
            part = slice(start, start + step)
            np.maximum(found[part], 0, out=found[part])
            found[part] *= scale[part]
            found[part] += (1 - self._weight) * self.jaccards(queries[part])

        with ThreadPoolExecutor(cpu_count()) as workers:
            list(workers.map(complete, range(0, len(found), step)))
        return found

    def exact(self, query: int, images: NDArray[np.int64]) -> NDArray[np.float64]:
        """Final distances of one query to some gallery images, the original part in float64."""
        units = self._distances.units
        original = squared_distances(units[query], units[self._queries + images]) / self._farthest[query]
        final: NDArray[np.float64] = (1 - self._weight) * self.jaccards(np.array([query]))[
            0, images
        ] + self._weight * original
        return final

    def jaccards(self, queries: NDArray[np.int64]) -> NDArray[np.float64]:
        """Jaccard distances of some queries to the whole gallery, shape (len(queries), gallery), in 0..1."""
        encoded, inverted = self._encoded[queries], self._inverted
        begins, ends = inverted.indptr[encoded.indices], inverted.indptr[encoded.indices + 1]
        at = _joined_ranges(begins, ends)
        smaller = np.minimum(inverted.data[at], np.repeat(encoded.data, ends - begins))
        first = np.repeat(np.arange(len(queries)) * inverted.shape[0], np.diff(encoded.indptr))
        place = inverted.indices[at] + np.repeat(first, ends - begins)
        shared = np.bincount(place, weights=smaller, minlength=len(queries) * inverted.shape[0])
        distances: NDArray[np.float64] = 1 - shared / (2 - shared)
        return distances.reshape(len(queries), -1)


def encode(
    units: NDArray[np.floating], neighbours: Neighbours, options: RerankSettings, reporter: Reporter
) -> sparse.csr_array:
    """The matrix V after local query expansion, shape (N, N)."""
    mutual, half = (mutual_neighbours(neighbours.rows, count + 1) for count in (options.k1, round(options.k1 / 2)))
    half_sizes, half_turned = np.diff(half.indptr), half.T.tocsr()

    def encode_part(start: int) -> sparse.csr_array:
        expanded = _expanded(mutual[start : start + _ROWS], half, half_turned, half_sizes)
        return _weighted(units, neighbours, expanded, start)

    starts, parts = range(0, len(units), _ROWS), []
    with (
        ThreadPoolExecutor(cpu_count()) as workers,
        reporter.task("Encoding", total=len(units), unit="images") as task,
    ):
        for part in workers.map(encode_part, starts):
            parts.append(part)
            task.advance(part.shape[0])
        encoded = sparse.vstack(parts, format="csr")
        if options.k2 > 1:
            averaging = _averaging(neighbours.rows, options.k2)
            parts = list(workers.map(lambda start: averaging[start : start + _ROWS] @ encoded, starts))
            encoded = sparse.vstack(parts, format="csr")
    return encoded


def mutual_neighbours(rows: NDArray[np.int32], count: int) -> sparse.csr_array:
    """Which images are among each other's first `count` neighbours: an (N, N) matrix of ones."""
    forward = _pattern(rows[:, :count])
    return forward.multiply(forward.T).tocsr()


def _pattern(rows: NDArray[np.int32]) -> sparse.csr_array:
    number, count = rows.shape
    begins = np.arange(0, number * count + 1, count)
    return sparse.csr_array((np.ones(rows.size, dtype=np.int32), rows.ravel(), begins), shape=(number, number))


def _expanded(
    mutual: sparse.csr_array,
    half: sparse.csr_array,
    half_turned: sparse.csr_array,
    half_sizes: NDArray[np.int32],
) -> sparse.csr_array:
    """R* of some images: entries above zero are its members."""
    shared = (mutual @ half_turned).multiply(mutual).tocsr()  # |R(i, k1) ∩ R(j, k1/2)| for j in R(i, k1)
    shared.data = (3 * shared.data > 2 * half_sizes[shared.indices]).astype(np.int32)
    expanded = (mutual + shared @ half).tocsr()
    expanded.eliminate_zeros()
    expanded.sort_indices()
    return expanded


def _weighted(
    units: NDArray[np.floating], neighbours: Neighbours, members: sparse.csr_array, first: int
) -> sparse.csr_array:
    """Rows of V, for the images from `first` on, before they are averaged."""
    line = np.repeat(np.arange(members.shape[0]), np.diff(members.indptr))
    squared = _squared(units, neighbours, first + line, members.indices)
    farthest = neighbours.farthest[first : first + members.shape[0]].astype(np.float64)
    weights = np.exp(-squared / np.where(farthest > 0, farthest, 1)[line])
    weights /= np.bincount(line, weights=weights, minlength=members.shape[0])[line]
    return sparse.csr_array((weights, members.indices, members.indptr), shape=members.shape)


def _squared(
    units: NDArray[np.floating], neighbours: Neighbours, left: NDArray[np.int64], right: NDArray[np.int32]
) -> NDArray[np.float64]:
    """Squared distances of pairs: known ones are looked up, the others worked out."""
    first, last = int(left[0]) if len(left) else 0, int(left[-1]) + 1 if len(left) else 0
    known = (np.arange(first, last)[:, None] * len(units) + neighbours.rows[first:last]).ravel()
    order = np.argsort(known)
    wanted = left * len(units) + right
    place = np.searchsorted(known, wanted, sorter=order)
    at = order[np.minimum(place, len(order) - 1)]
    squared = neighbours.squared[first:last].ravel()[at].astype(np.float64)
    missing = known[at] != wanted
    squared[missing] = squared_of_pairs(units, left[missing], right[missing], units.dtype)
    return squared


def _averaging(rows: NDArray[np.int32], k2: int) -> sparse.csr_array:
    pattern = _pattern(rows[:, :k2]).astype(np.float64)
    pattern.data /= min(k2, rows.shape[1])
    return pattern


def _joined_ranges(begins: NDArray[np.integer], ends: NDArray[np.integer]) -> NDArray[np.int64]:
    """The integers of several ranges, one range after another."""
    lengths = (ends - begins).astype(np.int64)
    offsets: NDArray[np.int64] = np.repeat(begins - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
    return np.arange(int(lengths.sum())) + offsets
