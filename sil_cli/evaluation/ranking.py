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
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.evaluation.pairs import EmbeddingSet
from sil_cli.evaluation.streaming import CHUNK_BYTES, make_test, run_test

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sil_cli.evaluation.streaming import Chunk, RetrievalTest
    from sil_cli.retrieval.scoring import Metric
    from sil_cli.runtime import Reporter

__all__ = ["EmbeddingSet", "MatchRanks", "rank_matches"]

_RESCORED_SHARE = 1 / 64  # of the pairs: from here on a float64 product is faster than scoring pairs again (measured)


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
        first, scores = chunk.first, chunk.scores
        own = self._test.match_scores[first : first + len(scores)]
        bounds = _bounds(own, chunk.errors, scores.dtype)
        ends = np.cumsum([len(each) for each in own]).tolist()
        parts = [slice(end - len(each), end) for each, end in zip(own, ends, strict=True)]
        # Whatever scores less than the last match stands behind it. A query without a match looks at nothing.
        last = [bounds[1, end - 1] if len(each) else np.inf for each, end in zip(own, ends, strict=True)]
        reaching = np.flatnonzero(scores > np.array(last, dtype=scores.dtype)[:, None])
        values = scores.reshape(-1)[reaching]
        cuts = np.searchsorted(reaching, np.arange(len(scores) + 1) * scores.shape[1]).tolist()
        looked = [slice(*each) for each in pairwise(cuts)]
        above = np.zeros(bounds.shape, dtype=np.int64)
        for part, some in zip(parts, looked, strict=True):
            if some.stop > some.start:
                above[:, part] = _count_above(values[some], bounds[:, part])
        close = above[1] > above[0]
        near: dict[int, NDArray[np.int64]] = {}
        limit = np.inf if scores.dtype == np.float64 else _RESCORED_SHARE * scores.size
        for at in np.unique(np.searchsorted(ends, np.flatnonzero(close), side="right")).tolist():
            near[at] = _within(values[looked[at]], bounds[:, parts[at]][:, close[parts[at]]])
            limit -= len(near[at])
            if limit < 0:
                return False
        for at, part in enumerate(parts):
            self._ahead[first + at] += above[0, part]
        for at, found in near.items():
            columns = reaching[looked[at]][found] - at * scores.shape[1]
            exact = self._test.scorer.exact(self._test.rows.rows[first + at], chunk.block.rows[columns])
            ahead = _count_exact(exact, chunk.start + columns, own[at], self._test.matches[first + at])
            self._ahead[first + at] += ahead - _count_above(values[looked[at]][found], bounds[0, parts[at]])
        return True

    def result(self) -> MatchRanks:
        """The ranks, once all chunks have been taken."""
        ranks = [ahead + np.arange(1, len(ahead) + 1) for ahead in self._ahead]
        found = np.array([len(each) > 0 for each in ranks], dtype=bool)
        indices = self._test.indices
        kept = tuple(each for each in ranks if len(each))
        return MatchRanks(indices[found], kept, indices[~found], self._test.gallery_size)


def _bounds(
    scores: Sequence[NDArray[np.float64]], errors: NDArray[np.float64], kind: np.dtype[np.floating]
) -> NDArray[np.floating]:
    """For all matches (2, M): above which product scores surely stand before each, and up to which surely behind.

    Args:
        scores: For each query the exact scores of its matches.
        errors: For each query how far a product score is from the exact one at most.
        kind: Of product scores.
    """
    lengths = [len(each) for each in scores]
    exact, error = np.concatenate([np.empty(0), *scores]), np.repeat(errors, lengths)
    both = np.empty((2, len(exact)), dtype=kind)
    np.nextafter((exact + error).astype(kind), kind.type(np.inf), out=both[0])
    np.nextafter((exact - error).astype(kind), kind.type(-np.inf), out=both[1])
    return both


def _within(values: NDArray[np.floating], bounds: NDArray[np.floating]) -> NDArray[np.int64]:
    """Positions of the values too near to some match to tell which stands before the other; `bounds` as `_bounds`."""
    is_near = np.zeros(len(values), dtype=bool)
    for high, low in bounds.T:
        is_near |= (values > low) & (values <= high)
    return np.flatnonzero(is_near)


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
    """For each threshold the number of values greater than it, of the thresholds' shape."""
    # Vector units sort some thousand values in less time than it takes to compare them with each threshold.
    return len(values) - np.searchsorted(np.sort(values), thresholds, side="right")
