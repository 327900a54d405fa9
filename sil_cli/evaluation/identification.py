"""Open-set identification: finding who is in the gallery, and saying "nobody" of who isn't.

A seeded share of the query identities is taken out of the gallery. Their queries are strangers, and should be turned
away; the others should find their person first. The best score of each query is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.evaluation.pairs import labels
from sil_cli.evaluation.streaming import CHUNK_BYTES, make_test, run_test, within_block

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sil_cli.evaluation.pairs import EmbeddingSet
    from sil_cli.evaluation.streaming import Chunk, RetrievalTest
    from sil_cli.runtime import Reporter
    from sil_cli.similarity.scoring import Metric

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
    test = make_test(query, gallery, metric=metric)
    identifier = Identifier(test, strangers)
    run_test(test, [identifier], chunk_bytes=chunk_bytes, reporter=reporter)
    return identifier.result()


class Identifier:
    """A listener that keeps each query's best image of a different person; matches are known without listening."""

    def __init__(self, test: RetrievalTest, strangers: frozenset[object]) -> None:
        self._test = test
        of_stranger = (each in strangers for each in labels(test.gallery.identities))
        self._taken_out = np.flatnonzero(np.fromiter(of_stranger, dtype=bool, count=len(test.gallery)))
        self._is_stranger = np.array([test.query.identities[index] in strangers for index in test.indices], dtype=bool)
        self._scores = np.full(len(test.rows), -np.inf)
        self._places = np.full(len(test.rows), -1)

    def take(self, chunk: Chunk) -> bool:
        """Look for better ones in a chunk."""
        penalties = np.zeros(len(chunk.block), dtype=chunk.scores.dtype)
        penalties[within_block(self._taken_out, chunk.start, len(chunk.block))] = -np.inf
        scores = chunk.scores + penalties
        places = scores.argmax(axis=1)
        tops = scores[np.arange(len(scores)), places]
        least = np.nextafter((tops - 2 * chunk.errors).astype(scores.dtype), scores.dtype.type(-np.inf))
        near = scores >= least[:, None]
        reachable = np.flatnonzero((tops > -np.inf) & (tops + chunk.errors >= self._scores[chunk.first :][: len(tops)]))
        for at in reachable.tolist():
            # Most often none is near the best one, and looking for others would take longer than counting them.
            alone = np.count_nonzero(near[at]) == 1
            columns = places[at : at + 1] if alone else np.flatnonzero(near[at])
            exact = self._test.scorer.exact(chunk.queries.rows[at], chunk.block.rows[columns])
            best, place = int(exact.argmax()), chunk.first + at
            if exact[best] > self._scores[place]:
                self._scores[place], self._places[place] = exact[best], chunk.start + columns[best]
        return True

    def result(self) -> Identification:
        """Who was found, once all chunks have been taken."""
        known, correct = [], []
        for place in np.flatnonzero(~self._is_stranger).tolist():
            if len(self._test.matches[place]):
                match = (self._test.match_scores[place][0], -self._test.matches[place][0])
                other = (self._scores[place], -self._places[place])
                known.append(max(match, other)[0])
                correct.append(match > other)
        unknown = self._scores[self._is_stranger & (self._places >= 0)]
        return Identification(np.array(known), np.array(correct, dtype=bool), unknown)
