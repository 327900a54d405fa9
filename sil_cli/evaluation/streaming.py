"""One pass over all scores of a test: the gallery streams past the queries, and listeners take what they need.

Memory beyond the embeddings doesn't grow with the gallery, and the matrix product is made once for all listeners.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from sil_cli.evaluation.pairs import PairRules, check_sides
from sil_cli.retrieval.scoring import make_scorer
from sil_cli.runtime import SilentReporter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sil_cli.evaluation.pairs import EmbeddingSet
    from sil_cli.retrieval.scoring import Metric, Operand, Scorer
    from sil_cli.runtime import Reporter

CHUNK_BYTES = 2**27  # of scores held at a time, and of gallery rows


@dataclass(frozen=True)
class RetrievalTest:
    """A test that is ready to be run. What has one value a query is of the Q queries that aren't junk.

    Attributes:
        query: All queries.
        gallery: The gallery.
        scorer: Of the metric.
        junk: Gallery positions that count for nobody, ascending.
        gallery_size: Gallery images without junk.
        indices: Shape (Q,), which of the queries these are.
        rows: Their operands.
        matches: For each its valid matches, best first: by descending exact score, ties in gallery order.
        match_scores: For each the exact scores of those.
        excluded: For each the gallery positions that show no different person, ascending: its identity's images and
            itself.
    """

    query: EmbeddingSet
    gallery: EmbeddingSet
    scorer: Scorer
    junk: NDArray[np.int64]
    gallery_size: int
    indices: NDArray[np.int64]
    rows: Operand
    matches: list[NDArray[np.int64]]
    match_scores: list[NDArray[np.float64]]
    excluded: list[NDArray[np.int64]]


@dataclass(frozen=True)
class Chunk:
    """Scores of some queries with a block of the gallery.

    Attributes:
        scores: Shape (C, B), from a matrix product; -inf where the gallery image is junk, or no different person.
        errors: Shape (C,), how far a query's scores are from the exact ones at most.
        queries: The C queries' operands.
        block: The B gallery images' operands.
        first: The first query's place among the test's Q.
        start: The block's position in the gallery.
    """

    scores: NDArray[np.floating]
    errors: NDArray[np.float64]
    queries: Operand
    block: Operand
    first: int
    start: int


class Listener(Protocol):
    """Something that is measured on all scores."""

    def take(self, chunk: Chunk) -> bool:
        """Look at a chunk. False: these scores are too coarse, float64 ones are asked for; nothing was taken."""


def make_test(query: EmbeddingSet, gallery: EmbeddingSet, *, metric: Metric = "cosine") -> RetrievalTest:
    """Find the matches of every query and their exact scores; which pairs count is said by `PairRules`.

    Args:
        query: The queries; junk ones are ignored.
        gallery: The gallery, of the same dimension and precision.
        metric: What is near: by cosine similarity, or by Euclidean distance of the embeddings as they are.

    Raises:
        DataError: A side is empty, the sides don't fit together, or an embedding can't be used.
    """
    check_sides(query, gallery)
    scorer = make_scorer(metric, query.embeddings, gallery.embeddings)
    rules = PairRules(query, gallery)
    rows = scorer.operand(query.embeddings[rules.queries])
    matches, scores = [], []
    for place, index in enumerate(rules.queries.tolist()):
        found = rules.matches(index)
        exact = scorer.exact(rows.rows[place], scorer.operand(gallery.embeddings[found]).rows)
        order = np.lexsort((found, -exact))
        matches.append(found[order])
        scores.append(exact[order])
    excluded = [rules.not_strangers(index) for index in rules.queries.tolist()]
    return RetrievalTest(
        query, gallery, scorer, rules.junk, rules.gallery_size, rules.queries, rows, matches, scores, excluded
    )


def run_test(
    test: RetrievalTest,
    listeners: Sequence[Listener],
    *,
    chunk_bytes: int = CHUNK_BYTES,
    reporter: Reporter | None = None,
) -> None:
    """Show every score to every listener.

    Args:
        test: The test.
        listeners: Those that may ask for float64 first.
        chunk_bytes: Memory for scores, and for gallery rows.
        reporter: Hears of the progress.
    """
    gallery, wide = test.gallery.embeddings, False
    length = max(1, chunk_bytes // (gallery.shape[1] * gallery.itemsize))
    with (reporter or SilentReporter()).task("Ranking", total=len(test.rows) * len(gallery), unit="pairs") as task:
        for start in range(0, len(gallery), length):
            block = test.scorer.operand(gallery[start : start + length])
            block = block.widened() if wide else block
            size = max(1, chunk_bytes // (len(block) * block.rows.itemsize))
            for first in range(0, len(test.rows), size):
                chunk = _chunk(test, first, size, block, start)
                if not all(listener.take(chunk) for listener in listeners):
                    # Embeddings that crowd one block crowd the others too: once wide, always wide.
                    wide, block = True, block.widened()
                    chunk = _chunk(test, first, size, block, start)
                    for listener in listeners:
                        listener.take(chunk)
                task.advance(chunk.scores.size)


def _chunk(test: RetrievalTest, first: int, size: int, block: Operand, start: int) -> Chunk:
    queries = test.rows.part(slice(first, first + size))
    if block.rows.dtype == np.float64:
        queries = queries.widened()
    scores, errors = test.scorer.product(queries, block)
    scores[:, within_block(test.junk, start, len(block))] = -np.inf
    for row, excluded in zip(scores, test.excluded[first : first + size], strict=True):
        row[within_block(excluded, start, len(block))] = -np.inf
    return Chunk(scores, errors, queries, block, first, start)


def within_block(positions: NDArray[np.int64], start: int, length: int) -> NDArray[np.int64]:
    """Of ascending positions those in a block, counted from its start."""
    first, last = np.searchsorted(positions, (start, start + length))
    return positions[first:last] - start
