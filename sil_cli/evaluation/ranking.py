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

from sil_cli.evaluation.pairs import EmbeddingSet, PairRules, check_sides
from sil_cli.retrieval.scoring import Metric, Operand, Scorer, make_scorer
from sil_cli.runtime import SilentReporter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from sil_cli.runtime import Reporter

__all__ = ["EmbeddingSet", "MatchRanks", "rank_matches"]

CHUNK_BYTES = 2**27  # of scores held at a time, and of gallery rows
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
    check_sides(query, gallery)
    scorer = make_scorer(metric, query.embeddings, gallery.embeddings)
    rules = PairRules(query, gallery)
    found = {index: rules.matches(index) for index in rules.queries.tolist()}
    scored = np.array([index for index, matches in found.items() if len(matches)], dtype=np.int64)
    dropped = np.array([index for index, matches in found.items() if not len(matches)], dtype=np.int64)
    queries = scorer.operand(query.embeddings[scored])
    searches = list(_searches(scored, found, queries, gallery, rules, scorer))
    counter = _Counter(scorer)
    with (reporter or SilentReporter()).task("Ranking", total=len(scored) * len(gallery), unit="pairs") as task:
        for start, block in gallery_blocks(gallery, scorer, chunk_bytes):
            junk = within_block(rules.junk, start, len(block))
            size = max(1, chunk_bytes // (len(block) * block.rows.itemsize))
            for first in range(0, len(scored), size):
                chunk = slice(first, first + size)
                counter.count(searches[chunk], queries.part(chunk), block, start, junk)
                task.advance(len(searches[chunk]) * len(block))
    return MatchRanks(scored, tuple(each.ranks() for each in searches), dropped, rules.gallery_size)


def gallery_blocks(gallery: EmbeddingSet, scorer: Scorer, chunk_bytes: int) -> Iterator[tuple[int, Operand]]:
    """The gallery's rows as operands, in blocks of about `chunk_bytes`, each with the position of its first row."""
    rows = gallery.embeddings
    size = max(1, chunk_bytes // (rows.shape[1] * rows.itemsize))
    for start in range(0, len(rows), size):
        yield start, scorer.operand(rows[start : start + size])


@dataclass(frozen=True)
class _Search:
    """One query on its way through the gallery.

    Attributes:
        matches: Gallery positions of its matches, best first: by descending exact score, ties in gallery order.
        scores: Their exact scores.
        ahead: For each of them how many gallery images that are no matches stand before it; grows block by block.
        excluded: Gallery positions that aren't counted: matches, and what is ignored besides junk. Ascending.
    """

    matches: NDArray[np.int64]
    scores: NDArray[np.float64]
    ahead: NDArray[np.int64]
    excluded: NDArray[np.int64]

    def ranks(self) -> NDArray[np.int64]:
        return self.ahead + np.arange(1, len(self.ahead) + 1)


def _searches(
    scored: NDArray[np.int64],
    found: dict[int, NDArray[np.int64]],
    queries: Operand,
    gallery: EmbeddingSet,
    rules: PairRules,
    scorer: Scorer,
) -> Iterator[_Search]:
    for row, index in enumerate(scored.tolist()):
        matches = found[index]
        scores = scorer.exact(queries.rows[row], scorer.operand(gallery.embeddings[matches]).rows)
        order = np.lexsort((matches, -scores))
        ahead = np.zeros(len(matches), dtype=np.int64)
        yield _Search(matches[order], scores[order], ahead, rules.not_strangers(index))


class _Counter:
    """Counts, block by block, the strangers that stand before each match."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._wide = False

    def count(
        self, searches: list[_Search], queries: Operand, block: Operand, start: int, junk: NDArray[np.int64]
    ) -> None:
        """Add one block of the gallery, which begins at position `start`, to the counts of a chunk of queries."""
        if not self._wide:
            # Embeddings that crowd one block crowd the others too: once wide, always wide.
            self._wide = not self._try(searches, queries, block, start, junk, _RESCORED_SHARE)
        if self._wide:
            self._try(searches, queries.widened(), block.widened(), start, junk, np.inf)

    def _try(
        self,
        searches: list[_Search],
        queries: Operand,
        block: Operand,
        start: int,
        junk: NDArray[np.int64],
        limit: float,
    ) -> bool:
        """Count, unless more than the share `limit` of the pairs would have to be scored again."""
        scores, errors = self._scorer.product(queries, block)
        scores[:, junk] = -np.inf
        counts, to_rescore = [], 0
        for search, row, error in zip(searches, scores, errors.tolist(), strict=True):
            row[within_block(search.excluded, start, len(block))] = -np.inf
            sure, near = _count_sure(row, search.scores, error)
            counts.append((sure, near))
            to_rescore += len(near)
            if to_rescore > limit * scores.size and scores.dtype != np.float64:
                return False
        for position, (search, (sure, near)) in enumerate(zip(searches, counts, strict=True)):
            search.ahead[:] += sure
            if len(near):
                exact = self._scorer.exact(queries.rows[position], block.rows[near])
                search.ahead[:] += _count_exact(exact, start + near, search)
        return True


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


def _count_exact(exact: NDArray[np.float64], positions: NDArray[np.int64], search: _Search) -> NDArray[np.int64]:
    """For each match how many of the images at gallery `positions` stand before it, by their exact scores."""
    above = _count_above(exact, search.scores)
    for match in np.flatnonzero(np.isin(search.scores, exact)):
        above[match] += np.count_nonzero((exact == search.scores[match]) & (positions < search.matches[match]))
    return above


def _count_above(values: NDArray[np.floating], thresholds: NDArray[np.floating]) -> NDArray[np.int64]:
    """For each threshold the number of values greater than it."""
    if len(values) > _SORTED_UP_TO * len(thresholds):
        return np.array([np.count_nonzero(values > one) for one in thresholds], dtype=np.int64)
    return len(values) - np.searchsorted(np.sort(values), thresholds, side="right")


def within_block(positions: NDArray[np.int64], start: int, length: int) -> NDArray[np.int64]:
    """Of ascending positions those in a block, counted from its start."""
    first, last = np.searchsorted(positions, (start, start + length))
    return positions[first:last] - start
