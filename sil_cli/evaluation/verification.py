"""Verification: whether two pictures show one person, over all pairs that a test compares.

Thresholds are read off histograms so fine that what they cost is known: a threshold is the lower edge of a bin, 2⁻²⁰ of
the range of scores wide (2e-6 for cosines), chosen so that the false accept rate is never above the one asked for.
Pairs of one person have exact scores. Those of different people come from the matrix product, so one of them may stand
in a neighbouring bin if its score lies within the product's rounding of an edge (for float32 about 1e-7, at most 2e-5).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import floor
from typing import TYPE_CHECKING, Self

import numpy as np

from sil_cli.evaluation.counting import BinCounter
from sil_cli.evaluation.streaming import CHUNK_BYTES, make_test, run_test

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sil_cli.evaluation.pairs import EmbeddingSet
    from sil_cli.evaluation.streaming import Chunk, RetrievalTest
    from sil_cli.runtime import Reporter
    from sil_cli.similarity.scoring import Metric

FALSE_ACCEPT_RATES = {"1e-2": 1e-2, "1e-3": 1e-3, "1e-4": 1e-4}
BINS = 2**20
_SCORES_AT_A_TIME = 2**16  # few enough to stay in a core's cache


@dataclass(frozen=True)
class PairScores:
    """How many valid pairs have which score.

    Attributes:
        low: Lower edge of the first bin; everything below it counts there too.
        width: Of a bin.
        same: Shape (BINS,), pairs of one person.
        different: Shape (BINS,), pairs of different people.
    """

    low: float
    width: float
    same: NDArray[np.int64]
    different: NDArray[np.int64]

    @property
    def same_pairs(self) -> int:
        """Number of pairs of one person."""
        return int(self._same_reaching[-1])

    @property
    def different_pairs(self) -> int:
        """Number of pairs of different people."""
        return int(self._different_reaching[-1])

    def __add__(self, other: Self) -> PairScores:
        """Both together; they must have the same bins."""
        if (self.low, self.width) != (other.low, other.width):
            raise ValueError("pair scores of different ranges can't be added")
        return PairScores(self.low, self.width, self.same + other.same, self.different + other.different)

    def threshold(self, false_accept_rate: float, *, at_least: int = 1) -> float | None:
        """The lowest edge that at most this share of different pairs reaches.

        None where that share is fewer than `at_least` of the pairs: so few say nothing of such a rate.
        """
        if false_accept_rate * self.different_pairs < at_least:
            return None
        most = floor(false_accept_rate * self.different_pairs)
        highest = int(np.searchsorted(self._different_reaching, most, side="right"))  # so many bins are above it
        return self.low + self.width * float(BINS - highest)

    def accepted(self, threshold: float) -> tuple[float, float]:
        """Shares of (different, same) pairs whose score reaches a threshold: false and true accept rate.

        Of the bin that the threshold falls into, none is counted unless the threshold is its lower edge.
        """
        first = int(np.clip(np.ceil((threshold - self.low) / self.width - 1e-6), 0, BINS))
        return tuple(  # type: ignore[return-value]  # of two
            float((reaching[BINS - first - 1] if first < BINS else 0) / max(1, reaching[-1]))
            for reaching in (self._different_reaching, self._same_reaching)
        )

    def coarse(self, bins: int) -> tuple[list[float], list[int], list[int]]:
        """Edges (bins + 1), same and different pairs (bins), for pictures; `bins` is a power of two."""
        step = BINS // bins
        edges = (self.low + self.width * step * np.arange(bins + 1)).tolist()
        same, different = (counts.reshape(bins, step).sum(axis=1).tolist() for counts in (self.same, self.different))
        return edges, same, different

    def curve(self, points: int = 200) -> list[tuple[float, float]]:
        """The verification ROC: (false accept rate, true accept rate), the rates spaced evenly in their logarithm."""
        finest = 1 / max(1, self.different_pairs)
        rates = np.unique(np.append(np.geomspace(min(finest, 0.5), 1, points), list(FALSE_ACCEPT_RATES.values())))
        reaching: dict[float, float] = {}
        for rate in rates[rates >= finest].tolist():
            threshold = self.threshold(rate)
            if threshold is not None:
                false, true = self.accepted(threshold)
                reaching[false] = max(true, reaching.get(false, 0.0))
        return sorted(reaching.items())

    # Summed up once: a curve asks for two hundred thresholds, of a million bins.
    @cached_property
    def _same_reaching(self) -> NDArray[np.int64]:
        """Shape (BINS,), pairs of one person in the highest bin, in the two highest, and so on."""
        return np.cumsum(self.same[::-1])

    @cached_property
    def _different_reaching(self) -> NDArray[np.int64]:
        """The same of pairs of different people."""
        return np.cumsum(self.different[::-1])


def score_pairs(
    query: EmbeddingSet,
    gallery: EmbeddingSet,
    *,
    metric: Metric = "cosine",
    chunk_bytes: int = CHUNK_BYTES,
    reporter: Reporter | None = None,
) -> PairScores:
    """Count the scores of all query × gallery pairs that evaluation compares (`PairRules`).

    A pair of one person is one across cameras, where they are known. Pairs of different people count from one camera
    too, as they stand in the way of a search. Euclidean scores are negative squared distances.

    Raises:
        DataError: As `rank_matches`.
    """
    test = make_test(query, gallery, metric=metric)
    verifier = Verifier(test)
    run_test(test, [verifier], chunk_bytes=chunk_bytes, reporter=reporter)
    return verifier.result()


class Verifier:
    """A listener that counts pairs by their scores."""

    def __init__(self, test: RetrievalTest) -> None:
        low, high = test.scorer.limits
        self._width = (high - low) / (BINS - 1)
        self._low = low - self._width / 2  # round scores, as of duplicates, then lie amid a bin
        self._same = BinCounter(BINS)
        self._add(self._same, np.concatenate([np.empty(0), *test.match_scores]))
        self._different = BinCounter(BINS)
        self._left_out = len(test.rows) * len(test.junk) + sum(len(each) for each in test.excluded)

    def take(self, chunk: Chunk) -> bool:
        """Count a chunk's pairs."""
        self._add(self._different, chunk.scores.reshape(-1))
        return True

    def result(self) -> PairScores:
        """The counts, once all chunks have been taken."""
        different = self._different.counts()
        different[0] -= self._left_out  # -inf: what doesn't count fell into the first bin
        return PairScores(self._low, self._width, self._same.counts(), different)

    def _add(self, counter: BinCounter, scores: NDArray[np.floating]) -> None:
        for start in range(0, len(scores), _SCORES_AT_A_TIME):
            places = scores[start : start + _SCORES_AT_A_TIME] * scores.dtype.type(1 / self._width)
            places -= scores.dtype.type(self._low / self._width)
            counter.add(np.clip(places, 0, BINS - 1, out=places))
