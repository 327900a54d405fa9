"""Two tests that don't assume that the person is in the gallery: verification and open-set identification.

**Verification** asks of all pairs that a test compares whether they show one person. Thresholds are read off histograms
so fine that what they cost is known: a threshold is the lower edge of a bin, 2⁻²⁰ of the range of scores wide (2e-6 for
cosines), chosen so that the false accept rate is never above the one asked for. Pairs of one person have exact scores.
Those of different people come from the matrix product, so one of them may stand in a neighbouring bin if its score lies
within the product's rounding of an edge (for float32 about 1e-7, at most 2e-5).

**Identification** takes a seeded share of the query identities out of the gallery. Their queries are impostors, and
should be turned away; the others should find their person first. The best score of each query is exact. Both error
rates are named as NIST's Face Recognition Vendor Test does (Grother, Ngan and Hanaoka, "Part 2: Identification",
NISTIR 8271, 2019): FPIR, the share of impostors for whom somebody is found, and FNIR, the share of the others whose
person is not. They hold at the size of the gallery that was searched.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cached_property
from math import floor
from typing import TYPE_CHECKING, Any, Literal, Self

import faiss
import numpy as np
from pydantic import Field

from sil_cli.evaluation.metrics import Share
from sil_cli.evaluation.pairs import labels
from sil_cli.evaluation.streaming import CHUNK_BYTES, RetrievalTest, run_test, within_block
from sil_cli.results import Result

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sil_cli.evaluation.pairs import EmbeddingSet
    from sil_cli.evaluation.streaming import Chunk, RetrievalTest
    from sil_cli.runtime import Reporter
    from sil_cli.similarity.scorers import Metric

_faiss: Any = faiss  # it makes much of itself while it is imported, which type checkers don't see
RateName = Literal["1e-2", "1e-3", "1e-4"]
FALSE_ACCEPT_RATES: dict[RateName, float] = {"1e-2": 1e-2, "1e-3": 1e-3, "1e-4": 1e-4}
FALSE_POSITIVE_RATES = {"1e-1": 1e-1, "1e-2": 1e-2, "1e-3": 1e-3}
"""FPIR at which FNIR is told; a test has far fewer impostors than pairs."""
BINS = 2**20
IMPOSTORS_SHARE = 0.5
_CURVE_POINTS = 200
_SCORES_AT_A_TIME = 2**16  # few enough to stay in a core's cache
_HELD = 2**22  # numbers kept before they are counted: so many that a table of a million bins costs little


class OpenSetResult(Result):
    """Verification, and identification of queries some of whom are not in the gallery.

    Attributes:
        same_pairs: Query × gallery pairs of one person, as evaluation compares them.
        different_pairs: Pairs of different people.
        tar_at_far: Share of same pairs accepted, by the share of different pairs accepted; None where the pairs
            are too few for the rate.
        known: Queries whose person is in the gallery, in the identification test.
        strangers: Queries whose person was taken out of the gallery for it.
        dir_at_far: Share of known queries found first and accepted, by the share of strangers accepted.
        searched: Gallery images that identification searched: without junk, and without the strangers' own.
        fnir_at_fpir: Share of known queries not found first and accepted (1 − DIR), by the share of strangers accepted.
    """

    same_pairs: int
    different_pairs: int
    tar_at_far: dict[RateName, Share | None]
    known: int
    strangers: int
    dir_at_far: dict[RateName, Share | None]
    searched: int | None = None
    fnir_at_fpir: dict[str, Share | None] = Field(default_factory=dict)


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

    def true_accept_rate(self, false_accept_rate: float) -> float | None:
        """The share of same pairs that pass where at most this share of different ones does; None: too few pairs."""
        threshold = self.threshold(false_accept_rate) if self.same_pairs else None
        return None if threshold is None else self.accepted(threshold)[1]

    def accepted(self, threshold: float) -> tuple[float, float]:
        """Shares of (different, same) pairs whose score reaches a threshold: false and true accept rate.

        Of the bin that the threshold falls into, none is counted unless the threshold is its lower edge.
        """
        first = int(np.clip(np.ceil((threshold - self.low) / self.width - 1e-6), 0, BINS))

        def share(reaching: NDArray[np.int64]) -> float:
            return float((reaching[BINS - first - 1] if first < BINS else 0) / max(1, reaching[-1]))

        return share(self._different_reaching), share(self._same_reaching)

    def edges(self, bins: int) -> NDArray[np.float64]:
        """Shape (bins + 1,), edges of wider bins for pictures; `bins` is a power of two."""
        return np.asarray(self.low + self.width * (BINS // bins) * np.arange(bins + 1), dtype=np.float64)

    def histograms(self, edges: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Same and different pairs by wider bins with ascending edges; the outer bins take what lies beyond."""
        middles = self.low + self.width * (np.arange(BINS) + 0.5)
        places = np.clip(np.searchsorted(edges, middles, side="right") - 1, 0, len(edges) - 2)
        same, different = (np.bincount(places, counts, len(edges) - 1) for counts in (self.same, self.different))
        return same.astype(np.int64), different.astype(np.int64)

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
    test = RetrievalTest(query, gallery, metric=metric)
    verifier = Verifier(test)
    run_test(test, [verifier], chunk_bytes=chunk_bytes, reporter=reporter)
    return verifier.result()


class Verifier:
    """A listener that counts pairs by their scores.

    Args:
        test: Whose pairs.
        queries: How many of the test's queries count, from the first; by default all of them.
    """

    def __init__(self, test: RetrievalTest, *, queries: int | None = None) -> None:
        low, high = test.scorer.limits
        self._width = (high - low) / (BINS - 1)
        self._low = low - self._width / 2  # round scores, as of duplicates, then lie amid a bin
        self._queries = len(test.rows) if queries is None else queries
        self._same = BinCounter(BINS)
        self._add(self._same, np.concatenate([np.empty(0), *test.match_scores[: self._queries]]))
        self._different = BinCounter(BINS)
        self._left_out = self._queries * len(test.rules.junk) + sum(
            len(each) for each in test.excluded[: self._queries]
        )

    def take(self, chunk: Chunk) -> None:
        """Count a chunk's pairs."""
        self._add(self._different, chunk.scores[: max(0, self._queries - chunk.first)].reshape(-1))

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


class BinCounter:
    """How many numbers fall into each bin; any thread may add.

    FAISS counts 32-bit numbers without looking for their range first, in a third of the time of NumPy's bincount
    (1.9 against 5.2 ns a number in 2²⁰ bins), and lets other threads run meanwhile.

    Args:
        bins: How many there are.
    """

    def __init__(self, bins: int) -> None:
        self._counts = np.zeros(bins, dtype=np.int64)
        self._parts: list[NDArray[np.int32]] = []
        self._held = 0
        self._lock = threading.Lock()

    def add(self, numbers: NDArray[np.number]) -> None:
        """Count numbers (N,) from 0 to below `bins`; fractions are cut off."""
        part = numbers.astype(np.int32)
        with self._lock:
            self._parts.append(part)
            self._held += len(part)
            if self._held < _HELD:
                return
            parts, self._parts, self._held = self._parts, [], 0
        self._count(parts)

    def counts(self) -> NDArray[np.int64]:
        """Shape (bins,), of all numbers so far; while no thread adds."""
        parts, self._parts, self._held = self._parts, [], 0
        self._count(parts)
        return self._counts

    def _count(self, parts: list[NDArray[np.int32]]) -> None:
        numbers = np.concatenate([np.empty(0, dtype=np.int32), *parts])
        found = np.empty(len(self._counts), dtype=np.int32)
        beyond = _faiss.ivec_hist(len(numbers), _faiss.swig_ptr(numbers), len(found), _faiss.swig_ptr(found))
        if beyond:
            raise ValueError(f"{beyond} numbers lie outside 0..{len(found) - 1}")
        with self._lock:
            self._counts += found


@dataclass(frozen=True)
class Identification:
    """The best score of each query against the gallery without the impostors.

    Attributes:
        known: Shape (K,), best scores of the queries whose person is in the gallery.
        correct: Shape (K,), whether that best is their person.
        impostors: Shape (S,), best scores of the queries whose person was taken out.
        searched: Gallery images without junk and impostors.
    """

    known: NDArray[np.float64]
    correct: NDArray[np.bool_]
    impostors: NDArray[np.float64]
    searched: int

    def rate(self, false_accept_rate: float) -> float | None:
        """The detection-and-identification rate at rank 1.

        That is the share of known queries that find their person first, with a score above the threshold at which at
        most `false_accept_rate` of the impostors are taken for somebody. None where that is less than one impostor.
        """
        allowed = int(false_accept_rate * len(self.impostors) * (1 + 1e-12))
        if allowed < 1 or not len(self.known):
            return None
        if allowed >= len(self.impostors):
            return float(self.correct.mean())
        barred = np.sort(self.impostors)[::-1][allowed]  # the best impostor that must be turned away
        return float((self.correct & (self.known > barred)).mean())

    def curve(self, points: int = _CURVE_POINTS) -> list[tuple[float, float]]:
        """(FPIR, FNIR) at rank 1, from one impostor accepted to all of them, spaced evenly in the rate's logarithm."""
        count = len(self.impostors)
        if not count or not len(self.known):
            return []
        accepted = np.unique(np.geomspace(1, count, points).round().astype(np.int64))
        found = [self.rate(int(each) / count) for each in accepted]
        return [(int(n) / count, 1 - each) for n, each in zip(accepted, found, strict=True) if each is not None]


def choose_impostors(query: EmbeddingSet, *, share: float = IMPOSTORS_SHARE, seed: int = 0) -> frozenset[object]:
    """Which query identities are taken out of the gallery: a seeded share of them, in the order of their names."""
    names = sorted({each for each, junk in zip(query.identities, query.junk_flags(), strict=True) if not junk}, key=str)
    chosen = np.random.default_rng(seed).permutation(len(names))[: round(share * len(names))]
    return frozenset(names[index] for index in chosen)


class Identifier:
    """A listener that keeps each query's best image of a different person; matches are known without listening.

    Queries that have no valid match although their person is no impostor are left out. Ties go to the first in
    gallery order.

    Args:
        test: Whose queries.
        impostors: The identities that are taken out of the gallery.
    """

    def __init__(self, test: RetrievalTest, impostors: frozenset[object]) -> None:
        self._test = test
        of_impostor = (each in impostors for each in labels(test.gallery.identities))
        self._taken_out = np.flatnonzero(np.fromiter(of_impostor, dtype=bool, count=len(test.gallery)))
        self._is_impostor = np.array(
            [test.query.identities[index] in impostors for index in test.rules.queries.tolist()], dtype=bool
        )
        self._scores = np.full(len(test.rows), -np.inf)
        self._places = np.full(len(test.rows), -1)

    def take(self, chunk: Chunk) -> None:
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

    def result(self) -> Identification:
        """Who was found, once all chunks have been taken."""
        known, correct = [], []
        for place in np.flatnonzero(~self._is_impostor).tolist():
            if len(self._test.matches[place]):
                match = (self._test.match_scores[place][0], -self._test.matches[place][0])
                other = (self._scores[place], -self._places[place])
                known.append(max(match, other)[0])
                correct.append(match > other)
        unknown = self._scores[self._is_impostor & (self._places >= 0)]
        searched = self._test.rules.gallery_size - len(np.setdiff1d(self._taken_out, self._test.rules.junk))
        return Identification(np.array(known), np.array(correct, dtype=bool), unknown, searched)


def open_set_result(pairs: PairScores, identification: Identification) -> OpenSetResult:
    """Both tests at the usual false accept rates."""
    return OpenSetResult(
        same_pairs=pairs.same_pairs,
        different_pairs=pairs.different_pairs,
        tar_at_far={name: pairs.true_accept_rate(rate) for name, rate in FALSE_ACCEPT_RATES.items()},
        known=len(identification.known),
        strangers=len(identification.impostors),
        dir_at_far={name: identification.rate(rate) for name, rate in FALSE_ACCEPT_RATES.items()},
        searched=identification.searched,
        fnir_at_fpir={
            name: None if (found := identification.rate(rate)) is None else 1 - found
            for name, rate in FALSE_POSITIVE_RATES.items()
        },
    )
