"""At which rank each query finds its true matches, exactly, without sorting the gallery or holding all its scores.

The number of true matches of a query is small, so a match's rank is found by counting: one more than the valid gallery
images that score higher. The gallery streams past in blocks. Scores come from a matrix product in the embeddings' own
precision; wherever one is too near a match's exact score to be told apart by it, the pair is scored again in float64
(`sil_cli.retrieval.scoring`). Therefore:

- the order is that of the exact scores, whatever the blocks, the BLAS library or the number of threads;
- equal embeddings tie exactly, and ties stand in gallery order;
- memory beyond the embeddings doesn't grow with the gallery.

float64 embeddings make the bound rigorous; for float32 it rests on how matrix kernels sum (`product_margin`). Where
many scores are too near, as with embeddings that tell nobody apart, the product is made in float64 instead, so that
scoring again never takes over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.evaluation.pairs import EmbeddingSet
from sil_cli.evaluation.streaming import CHUNK_BYTES, make_test, run_test

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sil_cli.evaluation.streaming import Chunk, RetrievalTest
    from sil_cli.retrieval.scoring import Metric
    from sil_cli.runtime import Reporter

__all__ = ["EmbeddingSet", "MatchRanks", "rank_matches"]

_RESCORED_SHARE = 1 / 64  # of the pairs: from here on a float64 product is faster than scoring pairs again (measured)
_SORTED_UP_TO = 64  # values for each threshold: sorting them is faster than counting for each (measured)


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
    metric: Metric = "cosine",
    chunk_bytes: int = CHUNK_BYTES,
    reporter: Reporter | None = None,
) -> MatchRanks:
    """Find the ranks of all true matches; which pairs count is said by `PairRules`. Junk queries are ignored.

    Args:
        query: The queries.
        gallery: The gallery, of the same dimension and precision.
        metric: What is near: by cosine similarity, or by Euclidean distance of the embeddings as they are.
        chunk_bytes: Memory for scores, and for gallery rows; the result doesn't depend on it.
        reporter: Hears of the progress.

    Raises:
        DataError: A side is empty, the sides don't fit together, or an embedding can't be used.
    """
    test = make_test(query, gallery, metric=metric)
    ranker = Ranker(test)
    run_test(test, [ranker], chunk_bytes=chunk_bytes, reporter=reporter)
    return ranker.result()


class Ranker:
    """A listener that counts the different people who stand before each match."""

    def __init__(self, test: RetrievalTest) -> None:
        self._test = test
        self._ahead = [np.zeros(len(each), dtype=np.int64) for each in test.matches]

    def take(self, chunk: Chunk) -> bool:
        """Count, unless too many pairs of a chunk would have to be scored again."""
        counts, to_rescore = [], 0
        limit = np.inf if chunk.scores.dtype == np.float64 else _RESCORED_SHARE * chunk.scores.size
        for place, (row, error) in enumerate(zip(chunk.scores, chunk.errors.tolist(), strict=True), start=chunk.first):
            if len(self._test.matches[place]):
                sure, near = _count_sure(row, self._test.match_scores[place], error)
                counts.append((place, sure, near))
                to_rescore += len(near)
            if to_rescore > limit:
                return False
        for place, sure, near in counts:
            self._ahead[place] += sure
            if len(near):
                exact = self._test.scorer.exact(self._test.rows.rows[place], chunk.block.rows[near])
                scores, matches = self._test.match_scores[place], self._test.matches[place]
                self._ahead[place] += _count_exact(exact, chunk.start + near, scores, matches)
        return True

    def result(self) -> MatchRanks:
        """The ranks, once all chunks have been taken."""
        ranks = [ahead + np.arange(1, len(ahead) + 1) for ahead in self._ahead]
        found = np.array([len(each) > 0 for each in ranks], dtype=bool)
        indices = self._test.indices
        kept = tuple(each for each in ranks if len(each))
        return MatchRanks(indices[found], kept, indices[~found], self._test.gallery_size)


def _count_sure(
    row: NDArray[np.floating], scores: NDArray[np.float64], error: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Compare one query's product scores of a block with the exact scores of its matches, as far as they tell.

    Args:
        row: Shape (B,), product scores, -inf where an image isn't counted.
        scores: Exact scores of the matches, descending.
        error: How far a product score is from the exact one at most.

    Returns:
        For each match how many of the block surely stand before it, without those of which some match is too near to
        tell; and the positions of these.
    """
    kind = row.dtype.type
    high = np.nextafter((scores + error).astype(kind), kind(np.inf))
    low = np.nextafter((scores - error).astype(kind), kind(-np.inf))
    reaching = row[row > low[-1]]  # whatever scores less stands behind the last match
    sure = _count_above(reaching, high)
    unsure = np.flatnonzero(_count_above(reaching, low) > sure)
    if not len(unsure):
        return sure, unsure
    is_near = np.zeros(len(row), dtype=bool)
    for match in unsure:
        is_near |= (row > low[match]) & (row <= high[match])
    near = np.flatnonzero(is_near)
    return sure - _count_above(row[near], high), near


def _count_exact(
    exact: NDArray[np.float64],
    positions: NDArray[np.int64],
    scores: NDArray[np.float64],
    matches: NDArray[np.int64],
) -> NDArray[np.int64]:
    """For each match how many of the images at gallery `positions` stand before it, by their exact scores."""
    above = _count_above(exact, scores)
    for match in np.flatnonzero(np.isin(scores, exact)):
        above[match] += np.count_nonzero((exact == scores[match]) & (positions < matches[match]))
    return above


def _count_above(values: NDArray[np.floating], thresholds: NDArray[np.floating]) -> NDArray[np.int64]:
    """For each threshold the number of values greater than it."""
    if len(values) > _SORTED_UP_TO * len(thresholds):
        return np.array([np.count_nonzero(values > one) for one in thresholds], dtype=np.int64)
    return len(values) - np.searchsorted(np.sort(values), thresholds, side="right")
