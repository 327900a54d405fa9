"""What a few answers say of a gallery's decisions: which pairs to ask about, and intervals of the rates.

A pair is two entries of different visits, as one of them finds the other; which of the two searches is drawn by their
ids, so that each pair counts once. Asked about are pairs *within reach*, where up to four times as many false matches
are expected as a possible match may have: beyond, hardly one in a hundred is of one person, and no affordable number of
answers says how many are. Five strata by the number expected lie around the two thresholds. From each, pairs are drawn
with one probability, by systematic sampling of a list in the order of cameras and of entries, which spreads them over
both (Cochran, "Sampling Techniques", 3rd edition, 1977, chapters 5 and 8). More are drawn where pairs are many and the
share of one person is unsure (Neyman's allocation, ibid.; that share is guessed from how many pairs there are more than
expected by chance).

Answers are weighed by the inverse of the probability with which their pair was drawn (Horvitz and Thompson, "A
generalization of sampling without replacement from a finite universe", JASA, 1952), within the strata as they are
today: the gallery may have changed since. The share of one person in a stratum has Jeffreys' Beta interval (Brown, Cai
and DasGupta, "Interval estimation for a binomial proportion", Statistical Science, 2001) of the effective number of
answers (Kish, "Survey Sampling", 1965); draws from all strata together make the intervals of the rates. How often these
hold the truth is measured in docs/decisions.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from sil_cli.evaluation.calibration import Decision
from sil_cli.results import Result

if TYPE_CHECKING:
    from numpy.typing import NDArray

ENOUGH = 50
"""Answers from which on rates are told."""

_REACH = 4.0  # times the number expected of a possible match
_LEAST_SHARE = 0.1  # of the questions, for each stratum

_DRAWS, _SAMPLES = 10_000, 500
_STRATA = 5


class Estimate(Result):
    """A rate or a number, and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


class DecisionRates(Result):
    """How a decision holds, by the answers.

    Attributes:
        decision: `match`, or `possible` with all that is better.
        expected: Up to so many expected false matches it is made.
        right: The share of pairs with it that show one person.
        true_accept_rate: The share with it of the pairs of one person that are within reach.
        false_accept_rate: The share with it of the pairs of two people.
        nominal: That share as expected by chance.
        false_matches: With it, entries of other people that a query of all entries finds, on average.
    """

    decision: Decision
    expected: float
    right: Estimate
    true_accept_rate: Estimate
    false_accept_rate: Estimate
    nominal: float
    false_matches: Estimate


class AcceptRates(Result):
    """What the answers say.

    Attributes:
        answers: Those that rates rest on: of pairs that were drawn, saying yes or no.
        same: How many of them say that it is one person.
        reach: Pairs with up to so many expected false matches are asked about.
        decisions: The rates; empty for fewer than 50 answers.
    """

    answers: int
    same: int
    reach: float
    decisions: list[DecisionRates] = Field(default_factory=list)


@dataclass(frozen=True)
class PairFrame:
    """The pairs that may be asked about: those within reach, of entries that stand for queries.

    Attributes:
        first: (P,) ids of the entries that search.
        second: (P,) ids of those that they find.
        expected: (P,) with how many false matches expected.
        cameras: (P,) equal for pairs of equal cameras.
        queries: How many entries stand for queries.
        share: The part of the gallery that these are, (0, 1].
        others: How many entries of other visits each of them searches, on average.
        entries: How many entries the number expected is of.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    expected: NDArray[np.float64]
    cameras: NDArray[np.int64]
    queries: int
    share: float
    others: float
    entries: int


@dataclass(frozen=True)
class Answers:
    """Answers about pairs that were drawn, A of them.

    Attributes:
        expected: (A,) how many false matches are expected of each pair today.
        same: (A,) whether it is one person.
        weights: (A,) the inverse of the probability with which the pair was drawn.
        draws: (A,) equal for pairs that were drawn together.
    """

    expected: NDArray[np.float64]
    same: NDArray[np.bool_]
    weights: NDArray[np.float64]
    draws: NDArray[np.int64]


def reach_of(possible: float) -> float:
    """Up to how many expected false matches a pair is asked about."""
    return _REACH * possible


def searches(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the first entry of each pair of ids is the one that searches: a fair coin that always falls alike."""
    low, high = np.minimum(one, other).astype(np.uint64), np.maximum(one, other).astype(np.uint64)
    mixed = low * np.uint64(0x9E3779B97F4A7C15) + high * np.uint64(0xC2B2AE3D27D4EB4F)  # overflow is meant
    mixed ^= mixed >> np.uint64(29)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    return np.asarray((mixed >> np.uint64(63) == 1) == (one <= other))


def strata_of(expected: NDArray[np.float64], match: float, possible: float) -> NDArray[np.int64]:
    """The stratum of each number expected, 0 to 4, or 5 beyond reach.

    Args:
        expected: (P,).
        match: Up to so many it is a match, the upper end of stratum 1.
        possible: Up to so many a possible one, the upper end of stratum 3.
    """
    return np.searchsorted(_edges(match, possible), expected, side="left").astype(np.int64)


def _edges(match: float, possible: float) -> list[float]:
    return [match / 10, match, float(np.sqrt(match * possible)), possible, reach_of(possible)]


def draw_pairs(
    frame: PairFrame, free: NDArray[np.bool_], count: int, *, match: float, possible: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Draw pairs to ask about.

    Args:
        frame: P pairs.
        free: (P,) those that may be drawn; others were answered already.
        count: How many; all that are free where there are fewer.
        match: Up to so many false matches expected it is a match.
        possible: Likewise.
        seed: Same seed, same pairs.

    Returns:
        Positions in the frame in random order, and the probability with which each was drawn.
    """
    rng = np.random.default_rng(seed)
    strata = strata_of(frame.expected, match, possible)
    available = np.bincount(strata[free], minlength=_STRATA)[:_STRATA]
    wanted = _allocation(frame, strata, available, min(count, int(available.sum())), match, possible)
    order_of = {one: place for place, one in enumerate(rng.permutation(np.unique(frame.first)).tolist())}
    turns = np.array([order_of[one] for one in frame.first.tolist()], dtype=np.int64)
    chosen, probabilities = [], []
    for stratum, (n, of) in enumerate(zip(wanted.tolist(), available.tolist(), strict=True)):
        if not n:
            continue
        rows = np.flatnonzero(free & (strata == stratum))
        rows = rows[np.lexsort((turns[rows], frame.cameras[rows]))]
        chosen.append(rows[np.floor((np.arange(n) + rng.random()) * of / n).astype(np.int64)])
        probabilities.append(np.full(n, frame.share * n / of))
    if not chosen:
        return np.empty(0, dtype=np.int64), np.empty(0)
    mixed = rng.permutation(sum(len(each) for each in chosen))
    return np.concatenate(chosen)[mixed], np.concatenate(probabilities)[mixed]


def _allocation(
    frame: PairFrame, strata: NDArray[np.int64], available: NDArray[np.int64], count: int, match: float, possible: float
) -> NDArray[np.int64]:
    """How many pairs to draw from each stratum, `count` in all."""
    total = np.bincount(strata, minlength=_STRATA)[:_STRATA]
    spans = np.diff([0.0, *_edges(match, possible)])
    by_chance = spans / frame.entries * frame.others * frame.queries / 2
    same = np.clip(1 - by_chance / np.maximum(total, 1), 0.02, 0.9)
    wish = total * np.sqrt(same * (1 - same))
    wish = np.where(available > 0, _LEAST_SHARE + (1 - _LEAST_SHARE * _STRATA) * wish / max(wish.sum(), 1e-9), 0.0)
    wanted = np.zeros(_STRATA, dtype=np.int64)
    while wanted.sum() < count:  # one by one to whom most is owed
        owed = np.where(wanted < available, wish / (wanted + 0.5), -1.0)
        wanted[int(owed.argmax())] += 1
    return wanted


def accept_rates(
    frame: PairFrame,
    known: NDArray[np.int8],
    answers: Answers,
    *,
    match: float,
    possible: float,
    seed: int = 0,
) -> AcceptRates:
    """The rates at both decisions.

    Args:
        frame: P pairs, as the gallery is today.
        known: (P,) 1 where somebody said that it is one person, 0 where two, −1 where nobody knows.
        answers: Those about pairs that were drawn.
        match: Up to so many false matches expected it is a match.
        possible: Likewise.
        seed: Of the draws.
    """
    within = strata_of(answers.expected, match, possible) < _STRATA
    told = AcceptRates(answers=int(within.sum()), same=int(answers.same[within].sum()), reach=reach_of(possible))
    if told.answers < ENOUGH:
        return told
    strata = strata_of(frame.expected, match, possible)
    yes, no = (np.bincount(strata[known == each], minlength=_STRATA)[:_STRATA] for each in (1, 0))
    rng = np.random.default_rng(seed)
    total = _sizes(frame, strata, rng)  # (draws, strata), as are those that follow
    same = yes + rng.binomial(np.maximum(total - yes - no, 0), _shares(answers, match, possible, rng))
    different = np.maximum(total - same, 0)
    searched = frame.queries / frame.share * frame.others / 2  # pairs, those beyond reach among them
    decisions = []
    for name, upto, most in (("match", 2, match), ("possible", 4, possible)):
        accepted, wrong = same[:, :upto].sum(axis=1), different[:, :upto].sum(axis=1)
        decisions.append(
            DecisionRates(
                decision="match" if name == "match" else "possible",
                expected=most,
                right=_estimate(accepted, accepted + wrong),
                true_accept_rate=_estimate(accepted, same.sum(axis=1)),
                false_accept_rate=_estimate(wrong, searched - same.sum(axis=1)),
                nominal=most / frame.entries,
                false_matches=_estimate(frame.entries * wrong, searched - same.sum(axis=1)),
            )
        )
    return told.model_copy(update={"decisions": decisions})


def _sizes(frame: PairFrame, strata: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draws of how many pairs of the gallery there are in each stratum, (draws, strata).

    The frame's queries are a sample of its entries: a bootstrap of these, narrowed as they are most of them or all.
    """
    names, rows = np.unique(frame.first, return_inverse=True)
    counts = np.zeros((max(frame.queries, len(names)), _STRATA), dtype=np.int64)
    np.add.at(counts, (rows, strata), 1)
    total = counts.sum(axis=0)
    if frame.share < 1:
        times = rng.multinomial(len(counts), np.full(len(counts), 1 / len(counts)), size=_SAMPLES)
        total = total + (times @ counts - total) * np.sqrt(1 - frame.share)
        total = np.repeat(total, _DRAWS // _SAMPLES, axis=0)
    whole = np.rint(np.maximum(total, 0.0) / frame.share).astype(np.int64)
    return np.broadcast_to(whole, (_DRAWS, _STRATA))


def _shares(answers: Answers, match: float, possible: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Draws of the share of one person in each stratum, (draws, strata)."""
    strata = strata_of(answers.expected, match, possible)
    shares = np.empty((_DRAWS, _STRATA))
    for stratum in range(_STRATA):
        yes, count = 0.0, 0.0
        for draw in np.unique(answers.draws):
            some = (strata == stratum) & (answers.draws == draw)
            if some.any():
                weights = answers.weights[some]
                effective = weights.sum() ** 2 / (weights**2).sum()
                yes += effective * weights[answers.same[some]].sum() / weights.sum()
                count += effective
        shares[:, stratum] = rng.beta(yes + 0.5, max(count - yes, 0.0) + 0.5, _DRAWS)
    return shares


def _estimate(part: NDArray[np.number], whole: NDArray[np.number]) -> Estimate:
    with np.errstate(invalid="ignore", divide="ignore"):
        values = np.where(whole > 0, part / np.maximum(whole, 1e-300), np.nan)
    values = values[np.isfinite(values)]
    if not len(values):
        return Estimate(value=0.0, low=0.0, high=0.0)
    low, middle, high = (float(each) for each in np.quantile(values, (0.025, 0.5, 0.975)))
    return Estimate(value=middle, low=low, high=high)
