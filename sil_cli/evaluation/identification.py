"""Open-set identification: finding who is in the gallery, and saying "nobody" of who isn't.

A seeded share of the query identities is taken out of the gallery. Their queries are strangers, and should be turned
away; the others should find their person first. The best score of each query is exact.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.evaluation.pairs import PairRules, check_sides
from sil_cli.evaluation.ranking import CHUNK_BYTES, gallery_blocks, within_block
from sil_cli.retrieval.scoring import make_scorer
from sil_cli.runtime import SilentReporter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sil_cli.evaluation.pairs import EmbeddingSet
    from sil_cli.retrieval.scoring import Metric, Operand, Scorer
    from sil_cli.runtime import Reporter

STRANGERS_SHARE = 0.5


@dataclass(frozen=True)
class Identification:
    """The best score of each query against the gallery without the strangers.

    Attributes:
        known: Shape (K,), best scores of the queries whose person is in the gallery.
        correct: Shape (K,), whether that best is their person.
        strangers: Shape (S,), best scores of the queries whose person was taken out.
    """

    known: NDArray[np.float64]
    correct: NDArray[np.bool_]
    strangers: NDArray[np.float64]

    def rate(self, false_accept_rate: float) -> float | None:
        """The detection-and-identification rate at rank 1.

        That is the share of known queries that find their person first, with a score above the threshold at which at
        most `false_accept_rate` of the strangers are taken for somebody. None where that is less than one stranger.
        """
        allowed = int(false_accept_rate * len(self.strangers) * (1 + 1e-12))
        if allowed < 1 or not len(self.known):
            return None
        if allowed >= len(self.strangers):
            return float(self.correct.mean())
        barred = np.sort(self.strangers)[::-1][allowed]  # the best stranger that must be turned away
        return float((self.correct & (self.known > barred)).mean())


def choose_strangers(query: EmbeddingSet, *, share: float = STRANGERS_SHARE, seed: int = 0) -> frozenset[object]:
    """Which query identities are taken out of the gallery: a seeded share of them, in the order of their names."""
    names = sorted({each for each, junk in zip(query.identities, query.junk_flags(), strict=True) if not junk}, key=str)
    chosen = np.random.default_rng(seed).permutation(len(names))[: round(share * len(names))]
    return frozenset(names[index] for index in chosen)


def identify(
    query: EmbeddingSet,
    gallery: EmbeddingSet,
    strangers: frozenset[object],
    *,
    metric: Metric = "cosine",
    chunk_bytes: int = CHUNK_BYTES,
    reporter: Reporter | None = None,
) -> Identification:
    """Find each query's best among the gallery images that count for it and show no stranger.

    Queries that have no valid match although their person is no stranger are left out. Ties go to the first in
    gallery order.

    Raises:
        DataError: As `rank_matches`.
    """
    check_sides(query, gallery)
    scorer = make_scorer(metric, query.embeddings, gallery.embeddings)
    of_stranger = np.array([each in strangers for each in gallery.identities], dtype=bool)
    rules = PairRules(query, replace(gallery, junk=gallery.junk_flags() | of_stranger))
    is_stranger = np.array([query.identities[index] in strangers for index in rules.queries.tolist()], dtype=bool)
    matches = [rules.matches(index) for index in rules.queries.tolist()]
    kept = np.flatnonzero(is_stranger | np.array([len(each) > 0 for each in matches], dtype=bool))
    indices = rules.queries[kept]
    queries = scorer.operand(query.embeddings[indices])
    ignored = [
        np.setdiff1d(rules.not_strangers(index), matches[at], assume_unique=True)
        for at, index in zip(kept.tolist(), indices.tolist(), strict=True)
    ]
    best = _Best(scorer, queries)
    with (reporter or SilentReporter()).task("Identifying", total=len(kept) * len(gallery), unit="pairs") as task:
        for start, block in gallery_blocks(gallery, scorer, chunk_bytes):
            away = within_block(rules.junk, start, len(block))
            size = max(1, chunk_bytes // (len(block) * block.rows.itemsize))
            for first in range(0, len(kept), size):
                scores, errors = scorer.product(queries.part(slice(first, first + size)), block)
                scores[:, away] = -np.inf
                for at, (row, error) in enumerate(zip(scores, errors.tolist(), strict=True), start=first):
                    row[within_block(ignored[at], start, len(block))] = -np.inf
                    best.improve(at, row, error, block, start)
                task.advance(scores.size)
    found, unknown = best.places >= 0, is_stranger[kept]
    correct = np.array([place in matches[at] for at, place in zip(kept.tolist(), best.places, strict=True)], dtype=bool)
    known = found & ~unknown
    return Identification(best.scores[known], correct[known], best.scores[found & unknown])


class _Best:
    """The best gallery image of each query so far: its exact score, and its position, -1 where there is none."""

    def __init__(self, scorer: Scorer, queries: Operand) -> None:
        self._scorer, self._queries = scorer, queries
        self.scores = np.full(len(queries), -np.inf)
        self.places = np.full(len(queries), -1)

    def improve(self, at: int, row: NDArray[np.floating], error: float, block: Operand, start: int) -> None:
        """Look at one query's product scores (B,) of a block of the gallery, -inf where an image doesn't count."""
        top = float(row.max())
        if top == -np.inf or top + error < self.scores[at]:
            return
        near = np.flatnonzero(row >= np.nextafter(row.dtype.type(top - 2 * error), row.dtype.type(-np.inf)))
        exact = self._scorer.exact(self._queries.rows[at], block.rows[near])
        first = int(exact.argmax())
        if exact[first] > self.scores[at]:
            self.scores[at], self.places[at] = exact[first], start + near[first]
