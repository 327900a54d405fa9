"""At which rank each query finds its true matches, exactly, without sorting the gallery.

The number of true matches of a query is small, so a match's rank is found by counting: one more than the
valid gallery images that score higher. The scores come from a matrix product in the embeddings' own
precision; wherever two of them are too near to be told apart by it, the pair is scored again by
`sil_cli.retrieval.distance.cosines` in float64. Therefore:

- the order is that of the float64 cosines, whatever the chunk, the BLAS library or the number of threads;
- equal embeddings tie exactly, and ties stand in gallery order.

float64 embeddings make the margin rigorous; for float32 it rests on how matrix kernels sum
(`product_margin`). Fed float32, the embeddings are scaled to length 1 and rounded to float32 first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.errors import DataError
from sil_cli.retrieval.distance import cosines, product_margin, unit_rows
from sil_cli.runtime import SilentReporter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sil_cli.runtime import Reporter

CHUNK_BYTES = 2**27  # of scores held at a time
_COUNT_UP_TO = 128  # thresholds: counting each is faster than sorting a row up to about here (measured)


@dataclass(frozen=True)
class EmbeddingSet:
    """One side of a test: the queries, or the gallery.

    Attributes:
        embeddings: Shape (N, D), float32 or float64, of any length but zero.
        identities: N of them. A distractor is a gallery image whose identity no query has.
        cameras: N of them, None where unknown.
        junk: N flags, images that evaluation ignores on either side; None means no image is.
        keys: N names of the image files, so that a query that is itself in the gallery isn't found; None
            where the two sides share no image.

    Raises:
        DataError: The lengths differ, or there is no image.
    """

    embeddings: NDArray[np.floating]
    identities: Sequence[str]
    cameras: Sequence[str | None]
    junk: Sequence[bool] | None = None
    keys: Sequence[str] | None = None

    def __post_init__(self) -> None:
        lengths = {"identities": len(self.identities), "cameras": len(self.cameras)}
        lengths |= {"junk": len(self.junk)} if self.junk is not None else {}
        lengths |= {"keys": len(self.keys)} if self.keys is not None else {}
        for name, length in lengths.items():
            if length != len(self.embeddings):
                raise DataError(
                    f"There are {len(self.embeddings)} embeddings but {length} {name}.",
                    "Each image needs one of each, in the same order.",
                )

    def __len__(self) -> int:
        return len(self.embeddings)


@dataclass(frozen=True)
class MatchRanks:
    """Where each query's true matches stand among the gallery images that count for it.

    Attributes:
        queries: Indices of the queries that have a match, ascending.
        ranks: For each of them the ranks of its matches, from 1, strictly ascending.
        dropped: Indices of the queries left out because no gallery image is a valid match.
        gallery: Gallery images without junk.
    """

    queries: NDArray[np.int64]
    ranks: tuple[NDArray[np.int64], ...]
    dropped: NDArray[np.int64]
    gallery: int

    def __post_init__(self) -> None:
        if len(self.queries) != len(self.ranks):
            raise ValueError(f"{len(self.queries)} queries but {len(self.ranks)} lists of ranks")
        for ranks in self.ranks:
            if not len(ranks) or ranks[0] < 1 or ranks[-1] > self.gallery or (np.diff(ranks) <= 0).any():
                raise ValueError(f"ranks must ascend strictly within 1..{self.gallery}: {ranks}")


def rank_matches(
    query: EmbeddingSet,
    gallery: EmbeddingSet,
    *,
    chunk_bytes: int = CHUNK_BYTES,
    reporter: Reporter | None = None,
) -> MatchRanks:
    """Find the ranks of all true matches by cosine similarity.

    A gallery image is ignored for a query when it is junk, when it has the query's identity *and* camera, or
    when it is the query itself (equal keys). Junk queries are ignored too.

    Args:
        query: The queries.
        gallery: The gallery, of the same dimension and precision.
        chunk_bytes: Memory for scores; the result doesn't depend on it.
        reporter: Hears of the progress.

    Raises:
        DataError: A side is empty, the sides don't fit together, or an embedding can't be used.
    """
    _check_sides(query, gallery)
    rules = _Rules(query, gallery)
    kept = [index for index in range(len(query)) if query.junk is None or not query.junk[index]]
    found = {index: rules.matches(index) for index in kept}
    scored = np.array([index for index in kept if len(found[index])], dtype=np.int64)
    dropped = np.array([index for index in kept if not len(found[index])], dtype=np.int64)
    ranks: list[NDArray[np.int64]] = []
    query_units = unit_rows(query.embeddings, what="query")
    gallery_units = unit_rows(gallery.embeddings, what="gallery")
    margin = product_margin(query_units.shape[1], query_units.dtype)

    size = max(1, chunk_bytes // (len(gallery) * gallery_units.itemsize))
    progress = (reporter or SilentReporter()).task("Ranking", total=len(scored), unit="queries")
    with progress as task:
        for start in range(0, len(scored), size):
            chunk = scored[start : start + size]
            for index, scores in zip(chunk.tolist(), query_units[chunk] @ gallery_units.T, strict=True):
                scores[rules.ignored(index)] = -np.inf
                ranks.append(_ranks(scores, found[index], query_units[index], gallery_units, margin))
            task.advance(len(chunk))
    return MatchRanks(scored, tuple(ranks), dropped, rules.gallery_size)


def _check_sides(query: EmbeddingSet, gallery: EmbeddingSet) -> None:
    for name, side in {"query": query, "gallery": gallery}.items():
        if len(side) == 0:
            raise DataError(f"The {name} is empty.", "Prepare a data set that has query and gallery images.")
    one, other = query.embeddings, gallery.embeddings
    if one.shape[1:] != other.shape[1:] or one.dtype != other.dtype:
        raise DataError(
            f"Query embeddings are {one.shape} {one.dtype} but gallery embeddings {other.shape} {other.dtype}.",
            "Embed both sides with the same model, in the same precision.",
        )


class _Rules:
    """Which gallery images match a query, and which are ignored for it."""

    def __init__(self, query: EmbeddingSet, gallery: EmbeddingSet) -> None:
        self._query, self._gallery = query, gallery
        junk = np.zeros(len(gallery), bool) if gallery.junk is None else np.asarray(gallery.junk, dtype=bool)
        self._junk = np.flatnonzero(junk)
        self.gallery_size = len(gallery) - len(self._junk)
        self._of_identity = _positions(gallery.identities, junk)
        same_images = query.keys is not None and gallery.keys is not None
        self._of_key = _positions(gallery.keys or (), junk) if same_images else {}

    def _same(self, index: int) -> tuple[list[int], set[int]]:
        """The images of the query's identity, and those that are ignored for it besides junk."""
        same = self._of_identity.get(self._query.identities[index], [])
        camera = self._query.cameras[index]
        ignored = set(self._of_key.get(self._query.keys[index], [])) if self._query.keys is not None else set()
        if camera is not None:
            ignored |= {row for row in same if self._gallery.cameras[row] == camera}
        return same, ignored

    def matches(self, index: int) -> NDArray[np.int64]:
        same, ignored = self._same(index)
        return np.array([row for row in same if row not in ignored], dtype=np.int64)

    def ignored(self, index: int) -> NDArray[np.int64]:
        _, ignored = self._same(index)
        return np.concatenate([self._junk, np.array(sorted(ignored), dtype=np.int64)])


def _positions(names: Sequence[str], junk: NDArray[np.bool_]) -> dict[str, list[int]]:
    positions: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        if not junk[row]:
            positions.setdefault(name, []).append(row)
    return positions


def _ranks(
    scores: NDArray[np.floating],
    matches: NDArray[np.int64],
    query: NDArray[np.floating],
    gallery: NDArray[np.floating],
    margin: float,
) -> NDArray[np.int64]:
    """Ranks of `matches`, ascending; `scores` of the whole gallery hold -inf where an image is ignored."""
    width = scores.dtype.type(margin)
    low, high = scores[matches] - width, scores[matches] + width
    rows = np.flatnonzero(scores > low.min())  # whatever scores less stands behind the last match
    scores = scores[rows]
    above = _count_above(scores, high)
    unsure = np.flatnonzero(_count_above(scores, low) - above > 1)  # others than the match itself are near
    if len(unsure):
        near = [np.flatnonzero((scores > low[at]) & (scores <= high[at])) for at in unsure]
        rescored = np.unique(np.concatenate(near))
        exact = np.empty(len(rows))
        exact[rescored] = cosines(query, gallery[rows[rescored]])
        own_positions = np.searchsorted(rows, matches)
        for at, others in zip(unsure, near, strict=True):
            own = own_positions[at]
            ahead = (exact[others] > exact[own]) | ((exact[others] == exact[own]) & (others < own))
            above[at] += np.count_nonzero(ahead)
    return np.sort(above + 1)


def _count_above(scores: NDArray[np.floating], thresholds: NDArray[np.floating]) -> NDArray[np.int64]:
    """For each threshold the number of scores greater than it."""
    if len(thresholds) <= _COUNT_UP_TO:
        return np.array([np.count_nonzero(scores > one) for one in thresholds], dtype=np.int64)
    return len(scores) - np.searchsorted(np.sort(scores), thresholds, side="right").astype(np.int64)
