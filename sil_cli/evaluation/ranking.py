"""At which rank each query finds its true matches, exactly, without sorting the gallery or holding all its scores.

The number of true matches of a query is small, so a match's rank is found by counting: one more than the valid gallery
images that score higher. The gallery streams past in blocks. Scores come from a matrix product in the embeddings' own
precision; wherever one is too near a match's exact score to be told apart by it, the pair is scored again in float64
(`sil_cli.similarity.scorers`). Therefore:

- the order is that of the exact scores, whatever the blocks, the BLAS library or the number of threads;
- equal embeddings tie exactly, and ties stand in gallery order;
- memory beyond the embeddings doesn't grow with the gallery.

float64 embeddings make the bound rigorous; for float32 it rests on how matrix kernels sum (`product_margin`). Where
many scores are too near, as with embeddings that tell nobody apart, the product is made in float64 instead, so that
scoring again never takes over.

Re-ranked distances are ranked by the same rules. As in the original, all queries and all gallery images are then each
other's neighbours, whatever their cameras, and no identity is looked at: the test is taken as a whole, so a query's
ranks depend on the other queries. Junk images take no part.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.evaluation.pairs import PairRules, check_sides
from sil_cli.evaluation.streaming import CHUNK_BYTES, RetrievalTest, make_chunk, run_test
from sil_cli.runtime import SilentReporter
from sil_cli.similarity.distance import unit_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sil_cli.evaluation.pairs import EmbeddingSet
    from sil_cli.evaluation.streaming import Chunk, RetrievalTest
    from sil_cli.runtime import Reporter
    from sil_cli.settings import RerankSettings
    from sil_cli.similarity.rerank import KReciprocalDistances
    from sil_cli.similarity.scorers import Metric

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
        lengths = np.array([len(ranks) for ranks in self.ranks], dtype=np.int64)
        flat = np.concatenate([np.empty(0, dtype=np.int64), *self.ranks])
        falls = np.diff(flat, prepend=0) <= 0
        falls[(np.cumsum(lengths) - lengths)[lengths > 0]] = False
        if not lengths.all() or falls.any() or (flat < 1).any() or (flat > self.gallery).any():
            raise ValueError(f"ranks must ascend strictly within 1..{self.gallery}: {self.ranks}")


def rank_matches(
    query: EmbeddingSet,
    gallery: EmbeddingSet,
    *,
    metric: Metric = "cosine",
    chunk_bytes: int = CHUNK_BYTES,
    reporter: Reporter | None = None,
) -> MatchRanks:
    """Find the ranks of all true matches; `PairRules` says which pairs count. Junk queries are ignored.

    Args:
        query: The queries.
        gallery: The gallery, of the same dimension and precision.
        metric: What is near: by cosine similarity, or by Euclidean distance of the embeddings as they are.
        chunk_bytes: Memory for scores, and for gallery rows; the result doesn't depend on it.
        reporter: Hears of the progress.

    Raises:
        DataError: A side is empty, the sides don't fit together, or an embedding can't be used.
    """
    test = RetrievalTest(query, gallery, metric=metric)
    ranker = Ranker(test)
    run_test(test, [ranker], chunk_bytes=chunk_bytes, reporter=reporter)
    return ranker.result()


class Ranker:
    """A listener that counts the different people who stand before each match."""

    def __init__(self, test: RetrievalTest) -> None:
        self._test = test
        self._ends = np.cumsum([0, *(len(each) for each in test.matches)])  # of each query's matches in the next two
        self._scores = np.concatenate([np.empty(0), *test.match_scores])
        self._ahead = np.zeros(len(self._scores), dtype=np.int64)

    def take(self, chunk: Chunk) -> None:
        """Count, by a float64 product where too many pairs of a chunk would have to be scored again."""
        first, scores = chunk.first, chunk.scores
        ends = self._ends[first : first + len(scores) + 1]
        own = slice(ends[0], ends[-1])
        bounds = _bounds(self._scores[own], np.repeat(chunk.errors, np.diff(ends)), scores.dtype)
        ends = ends - ends[0]
        parts = [slice(*each) for each in pairwise(ends.tolist())]
        looked, reaching = _reaching(scores, bounds, ends)
        values = scores.reshape(-1)[reaching]
        above = np.zeros(bounds.shape, dtype=np.int64)
        for part, some in zip(parts, looked, strict=True):
            if some.stop > some.start:
                above[:, part] = _count_above(values[some], bounds[:, part])
        close = above[1] > above[0]
        near: dict[int, NDArray[np.int64]] = {}
        limit = np.inf if scores.dtype == np.float64 else _RESCORED_SHARE * scores.size
        for at in np.unique(np.searchsorted(ends[1:], np.flatnonzero(close), side="right")).tolist():
            near[at] = _within(values[looked[at]], bounds[:, parts[at]][:, close[parts[at]]])
            limit -= len(near[at])
            if limit < 0:
                which = slice(first, first + len(scores))
                self.take(make_chunk(self._test, which, chunk.block.widened, chunk.start))
                return
        for at, found in near.items():
            columns = reaching[looked[at]][found] - at * scores.shape[1]
            above[0, parts[at]] -= _count_above(values[looked[at]][found], bounds[0, parts[at]])
            above[0, parts[at]] += self._count_exact(chunk, first + at, columns)
        self._ahead[own] += above[0]

    def _count_exact(self, chunk: Chunk, place: int, columns: NDArray[np.int64]) -> NDArray[np.int64]:
        """For each match of a query how many of some images of a block stand before it, by their exact scores."""
        scores, matches = self._test.match_scores[place], self._test.matches[place]
        exact = self._test.scorer.exact(self._test.rows.rows[place], chunk.block.rows[columns])
        above = _count_above(exact, scores)
        for match in np.flatnonzero(np.isin(scores, exact)):
            above[match] += np.count_nonzero((exact == scores[match]) & (chunk.start + columns < matches[match]))
        return above

    def result(self) -> MatchRanks:
        """The ranks, once all chunks have been taken."""
        lengths = np.diff(self._ends)
        ranks = self._ahead + np.arange(1, len(self._ahead) + 1) - np.repeat(self._ends[:-1], lengths)
        found, indices = lengths > 0, self._test.rules.queries
        kept = tuple(np.split(ranks, self._ends[1:][found][:-1])) if found.any() else ()
        return MatchRanks(indices[found], kept, indices[~found], self._test.rules.gallery_size)


def _bounds(
    exact: NDArray[np.float64], errors: NDArray[np.float64], kind: np.dtype[np.floating]
) -> NDArray[np.floating]:
    """For all matches (2, M): above which product scores surely stand before each, and up to which surely behind.

    Args:
        exact: Shape (M,), the exact scores of the matches.
        errors: Shape (M,), how far a product score of the match's query is from the exact one at most.
        kind: Of product scores.
    """
    both = np.empty((2, len(exact)), dtype=kind)
    np.nextafter((exact + errors).astype(kind), kind.type(np.inf), out=both[0])
    np.nextafter((exact - errors).astype(kind), kind.type(-np.inf), out=both[1])
    return both


def _reaching(
    scores: NDArray[np.floating], bounds: NDArray[np.floating], ends: NDArray[np.int64]
) -> tuple[list[slice], NDArray[np.int64]]:
    """Which scores aren't surely behind all matches of their query: whose they are, and their places in all scores.

    Args:
        scores: Shape (C, B).
        bounds: Of all matches of the C queries, as `_bounds`.
        ends: Shape (C + 1,), where the matches of each query begin and end in `bounds`.
    """
    last = np.full(len(scores), np.inf, dtype=scores.dtype)  # a query without a match looks at nothing
    matched = np.flatnonzero(np.diff(ends))
    last[matched] = bounds[1, ends[matched + 1] - 1]
    places = np.flatnonzero(scores > last[:, None])
    cuts = np.searchsorted(places, np.arange(len(scores) + 1) * scores.shape[1]).tolist()
    return [slice(*each) for each in pairwise(cuts)], places


def _within(values: NDArray[np.floating], bounds: NDArray[np.floating]) -> NDArray[np.int64]:
    """Positions of the values too near to some match to tell which stands before the other; `bounds` as `_bounds`."""
    is_near = np.zeros(len(values), dtype=bool)
    for high, low in bounds.T:
        is_near |= (values > low) & (values <= high)
    return np.flatnonzero(is_near)


def _count_above(values: NDArray[np.floating], thresholds: NDArray[np.floating]) -> NDArray[np.int64]:
    """For each threshold the number of values greater than it, of the thresholds' shape."""
    # Vector units sort some thousand values in less time than it takes to compare them with each threshold.
    return len(values) - np.searchsorted(np.sort(values), thresholds, side="right")


def rank_reranked(
    query: EmbeddingSet,
    gallery: EmbeddingSet,
    options: RerankSettings,
    *,
    chunk_bytes: int = CHUNK_BYTES,
    reporter: Reporter | None = None,
) -> MatchRanks:
    """Find the ranks of all true matches by the final distance of `KReciprocalDistances`, ties in gallery order.

    Args:
        query: The queries.
        gallery: The gallery, of the same dimension and precision.
        options: Of re-ranking.
        chunk_bytes: Memory for the distances of some queries; the result doesn't depend on it.
        reporter: Hears of the progress.

    Raises:
        DataError: A side is empty, the sides don't fit together, or an embedding can't be used.
    """
    from sil_cli.similarity.rerank import KReciprocalDistances  # SciPy takes its time, and few ask for it

    check_sides(query, gallery)
    reporter = reporter or SilentReporter()
    rules = PairRules(query, gallery)
    found = {index: rules.matches(index) for index in rules.queries.tolist()}
    scored = np.array([index for index, matches in found.items() if len(matches)], dtype=np.int64)
    dropped = np.array([index for index, matches in found.items() if not len(matches)], dtype=np.int64)
    if not len(scored):
        return MatchRanks(scored, (), dropped, rules.gallery_size)
    images = np.flatnonzero(~gallery.junk_flags())
    units = np.concatenate(
        [
            unit_rows(query.embeddings[rules.queries], what="query"),
            unit_rows(gallery.embeddings[images], what="gallery"),
        ]
    )
    distances = KReciprocalDistances(units, len(rules.queries), options, reporter=reporter)
    ranks = []
    size = max(1, chunk_bytes // (len(images) * units.itemsize))
    with reporter.task("Ranking", total=len(scored), unit="queries") as task:
        for start in range(0, len(scored), size):
            chunk = scored[start : start + size]
            places = np.searchsorted(rules.queries, chunk)
            for index, place, row in zip(chunk.tolist(), places.tolist(), distances.rows(places), strict=True):
                matches = np.searchsorted(images, found[index])
                impostors = row.astype(np.float64)
                impostors[np.searchsorted(images, rules.not_impostors(index))] = np.inf
                ranks.append(_ranks_by_distance(impostors, matches, place, distances))
            task.advance(len(chunk))
    return MatchRanks(scored, tuple(ranks), dropped, rules.gallery_size)


def _ranks_by_distance(
    impostors: NDArray[np.float64], matches: NDArray[np.int64], query: int, distances: KReciprocalDistances
) -> NDArray[np.int64]:
    """Ranks of one query's `matches`, ascending.

    Args:
        impostors: Shape (G,), distances of all images, infinite where one shows no other person; changed.
        matches: Positions of the matches.
        query: The query's row in `distances`.
        distances: Says again, exactly, what is too near to tell.
    """
    own = distances.exact(query, matches)
    order = np.lexsort((matches, own))
    matches, own = matches[order], own[order]
    near = _near(impostors, own, distances.margin(query))
    impostors[near] = distances.exact(query, near)
    ahead_of_last = np.sort(impostors[impostors <= own[-1]])
    ahead = np.searchsorted(ahead_of_last, own, side="left")
    for match in np.flatnonzero(np.searchsorted(ahead_of_last, own, side="right") > ahead):
        ahead[match] += np.count_nonzero(impostors[: matches[match]] == own[match])
    return ahead + np.arange(1, len(own) + 1)


def _near(values: NDArray[np.float64], ordered: NDArray[np.float64], margin: float) -> NDArray[np.int64]:
    """Positions of the values within `margin` of any of some ascending numbers."""
    place = np.searchsorted(ordered, values)
    below, above = ordered[np.maximum(place - 1, 0)], ordered[np.minimum(place, len(ordered) - 1)]
    return np.flatnonzero(np.minimum(np.abs(values - below), np.abs(values - above)) <= margin)
