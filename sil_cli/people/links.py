"""Which entries of a gallery may show one person: a link for each such pair, weighed by expected false matches.

A score alone says little, so each is turned into a chance: how often an entry of somebody else scores as high
(`evaluation/chance.py`). Times the number of entries that makes E, the false matches expected among them, and a link
weighs ln(e₀ / E): nothing where e₀ false matches are expected, and more the fewer. E is the geometric mean of both
entries' sides.

Cameras differ in light and colour, and two images of one camera are alike for that alone. So each camera's mean is
taken off its embeddings first, as a batch norm of its own would (Zhuang et al., "Rethinking the Distribution Gap of
Person Re-identification with Camera-based Batch Normalization", ECCV 2020).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy.special import ndtr

from sil_cli.evaluation.chance import SAMPLE, Reference, learn_chance
from sil_cli.gallery.local.approximate import ApproximateIndex, graph_factory
from sil_cli.similarity.distance import scale_to_unit
from sil_cli.similarity.neighbours import BlockDistances, nearest_neighbours

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from sil_cli.evaluation.calibration import ChanceTail
    from sil_cli.runtime import Reporter

NEIGHBOURS = 40
"""Entries that are looked at of each, its nearest ones."""
LEAST_NOTHING, MOST_NOTHING = 1.0, 30.0
"""Between these lies the number of expected false matches (e₀) from which on a link weighs nothing."""
COMMONEST = 0.0256
"""The chance from which on a link weighs nothing in any gallery."""

_QUARTILE = 0.6745  # the third quartile of a normal distribution, in its deviations: z = 1
_LIKELY = 3e-3
_PER_MATE = 10.0  # e₀ for each mate of an entry: where there are few, most links are chance
_ASKED = 128
_CROWD, _SMALL_CROWD = 8, 3  # see `_is_crowd`
_SMALL = 60  # entries below which nothing is made of them
_HEAVIEST = 20.0  # weight of a link: two copies of one image prove no more than that
_OWN_MEAN = 20  # entries of a camera that has a mean of its own
_EXACT_UP_TO = 20_000  # entries that are all compared with each other: a matter of seconds
_EFFORT = 192  # efSearch; finds 99 % of 40 neighbours among 100,000 generated embeddings
_ROWS = 1024
_PAIRS = 2**16


@dataclass(frozen=True)
class Links:
    """Pairs of entries that may show one person, each once.

    Attributes:
        count: Entries, N.
        first, second: (L,) rows of the entries, first < second.
        weights: (L,) > 0; see the head of this module.
        cut: (N,) of each entry whether it has as many links as are looked for, so that there may be more.
        most: How many links are looked for, for each entry.
        nothing: Expected false matches at which a link weighs nothing.
    """

    count: int
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    weights: NDArray[np.float64]
    cut: NDArray[np.bool_]
    most: int
    nothing: float

    def expected(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """The false matches expected at these weights."""
        return self.nothing * np.exp(-weights)


class Likeness(Protocol):
    """Says how often somebody else is as alike."""

    vectors: NDArray[np.float32]
    nothing: float

    def chances(
        self, rows: NDArray[np.int64], others: NDArray[np.int64], scores: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """The chance that an entry of somebody else scores as high: of each pair (L,), from the side of `rows`."""


class NormalTail:
    """The chance of each z if scores of other people are normally distributed, as of whatever gallery."""

    def above(self, z: NDArray[np.floating]) -> NDArray[np.float64]:
        """As `ChanceTail.above`."""
        chances: NDArray[np.float64] = ndtr(-_QUARTILE * np.asarray(z, dtype=np.float64))
        return chances


class LikenessByChance:
    """What comes up by chance among a gallery's own entries, cameras' means taken off.

    Attributes:
        vectors: (N, D) of unit length, without their cameras' means.
        tail: The chance of each z.
        nothing: Expected false matches from which on a link weighs nothing.
    """

    def __init__(
        self,
        vectors: NDArray[np.float32],
        cameras: NDArray[np.str_],
        reference: Reference,
        reporter: Reporter,
    ) -> None:
        self.vectors = vectors
        self.tail: ChanceTail | NormalTail = NormalTail()
        self.nothing = COMMONEST * len(vectors)
        names, self._cameras = np.unique(cameras, return_inverse=True)
        # z is linear in the score: what it is at 0 and at 1 says all.
        self._at_zero, self._slope = np.empty((2, len(vectors), len(names)), dtype=np.float32)
        ends = np.repeat([0.0, 1.0], len(names))
        with reporter.task("Measuring likenesses", len(vectors), "entries") as task:
            for start in range(0, len(vectors), _ROWS):
                rows = vectors[start : start + _ROWS]
                measured = np.array(reference.measure(rows, [ends] * len(rows), [[*names.tolist()] * 2] * len(rows)))
                zero, one = measured[:, : len(names)], measured[:, len(names) :]
                self._at_zero[start : start + len(rows)], self._slope[start : start + len(rows)] = zero, one - zero
                task.advance(len(rows))

    def z_of(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """How high all entries score for some, the mean of both sides; (B, N), NaN where that can't be told."""
        scores = self.vectors[rows] @ self.vectors.T
        here = self._at_zero[rows][:, self._cameras] + scores * self._slope[rows][:, self._cameras]
        of = self._cameras[rows][:, None]
        there = self._at_zero[np.arange(len(self.vectors)), of] + scores * self._slope[np.arange(len(self.vectors)), of]
        return ((here + there) / 2).astype(np.float64)

    def chances(
        self, rows: NDArray[np.int64], others: NDArray[np.int64], scores: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """As `Likeness.chances`; an entry that scores alike against nearly all others is like nobody."""
        z = self._at_zero[rows, self._cameras[others]] + scores * self._slope[rows, self._cameras[others]]
        return np.nan_to_num(self.tail.above(z), nan=1.0)


class LikenessByThresholds:
    """False accept rates measured on labelled people, where a gallery is too small to say what comes up by chance.

    The logarithm of the rate is interpolated between the measured ones, and continued beyond them.

    Attributes:
        vectors: (N, D) of unit length, as they are.
        nothing: Expected false matches from which on a link weighs nothing: those at a rate of 3 in 1,000.
    """

    def __init__(self, vectors: NDArray[np.float32], thresholds: Mapping[str, float]) -> None:
        self.vectors = vectors
        self.nothing = min(_LIKELY * len(vectors), MOST_NOTHING)
        points = sorted((score, math.log(float(rate))) for rate, score in thresholds.items())
        self._scores = np.array([score for score, _ in points])
        self._logs = np.array([log for _, log in points])

    def chances(
        self, rows: NDArray[np.int64], others: NDArray[np.int64], scores: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """As `Likeness.chances`."""
        del rows, others
        slopes = np.diff(self._logs) / np.maximum(np.diff(self._scores), 1e-6)
        steps = np.searchsorted(self._scores, scores).clip(1, len(slopes)) - 1
        logs = self._logs[steps] + slopes[steps] * (scores - self._scores[steps])
        chances: NDArray[np.float64] = np.exp(np.minimum(logs, 0.0))
        return chances


def learn_likeness(
    vectors: NDArray[np.float32],
    cameras: NDArray[np.str_],
    instants: NDArray[np.float64],
    thresholds: Mapping[str, float] | None,
    reporter: Reporter,
) -> Likeness | None:
    """What says how alike two entries of a gallery are.

    Args:
        vectors: (N, D) of unit length.
        cameras: (N,) names, of different networks different ones; "" where unknown.
        instants: (N,) seconds; NaN where unknown.
        thresholds: Scores by false accept rate ("1e-2") that the model's calibration measured; None for no calibration.
        reporter: Hears of the progress.

    Returns:
        None where the gallery is too small, and the model isn't calibrated at two rates at least.
    """
    count = len(vectors)
    centred = without_camera_means(vectors, cameras)
    sample = np.random.default_rng(0).permutation(count)[:SAMPLE]
    reference = Reference(centred[sample], cameras[sample])
    chance = learn_chance(reference, instants[sample], fingerprint="", entries=max(count, 1))
    if chance is None and thresholds is not None and len(thresholds) > 1:
        return LikenessByThresholds(vectors, thresholds)
    if count < _SMALL:
        return None
    likeness = LikenessByChance(centred, cameras, reference, reporter)
    if _is_crowd(likeness, sample, least=_SMALL_CROWD if chance is None else _CROWD):
        return likeness
    if chance is None:
        return None
    likeness.tail = chance.tail
    likeness.nothing = min(max(_PER_MATE * chance.mates, LEAST_NOTHING), MOST_NOTHING, likeness.nothing)
    return likeness


def _is_crowd(likeness: LikenessByChance, sample: NDArray[np.int64], *, least: int) -> bool:
    """Whether most entries are far more alike to some others than chance explains: a few people, many times each.

    What comes up by chance can't be counted then, because those who come up are no chance. Whether it is so is seen by
    the median of how many others each entry is so alike to that a normal distribution expects one at most.
    """
    some = sample[:_ASKED]
    z = likeness.z_of(some)
    expected = len(likeness.vectors) * ndtr(-_QUARTILE * z)
    expected[np.arange(len(some)), some] = np.inf
    return bool(np.median((expected < 1).sum(axis=1)) >= least)


def without_camera_means(vectors: NDArray[np.float32], cameras: NDArray[np.str_]) -> NDArray[np.float32]:
    """Embeddings less the mean of their camera's, of unit length; cameras of few entries share a mean."""
    names, of, counts = np.unique(cameras, return_inverse=True, return_counts=True)
    own = (counts >= _OWN_MEAN) & (names != "")
    centred = vectors.copy()
    groups = [of == number for number in np.flatnonzero(own)]
    for group in [*groups, ~own[of]]:
        if np.count_nonzero(group) > 1:
            centred[group] -= centred[group].mean(axis=0, dtype=np.float64).astype(np.float32)
    lengths = np.linalg.norm(centred, axis=1)
    centred[lengths < 1e-6] = vectors[lengths < 1e-6]  # all of a camera are one image
    return scale_to_unit(centred)


def no_links(count: int) -> Links:
    """The links of entries none of which are known to be alike."""
    none = np.empty(0, dtype=np.int64)
    return Links(count, none, none, np.empty(0), np.zeros(count, dtype=np.bool_), NEIGHBOURS, LEAST_NOTHING)


def find_links(likeness: Likeness, reporter: Reporter, *, neighbours: int = NEIGHBOURS) -> Links:
    """The links between each entry and its nearest ones.

    Args:
        likeness: Says how alike two entries are.
        reporter: Hears of the progress.
        neighbours: How many are looked at of each entry, at least 1.
    """
    vectors = likeness.vectors
    count = len(vectors)
    neighbours = min(neighbours, count - 1)
    if neighbours < 1:
        return no_links(count)
    first, second = _near_pairs(vectors, neighbours, reporter)
    scores = np.empty(len(first))
    for start in range(0, len(first), _PAIRS):
        part = slice(start, start + _PAIRS)
        scores[part] = np.einsum("ij,ij->i", vectors[first[part]], vectors[second[part]])
    chances = np.sqrt(likeness.chances(first, second, scores) * likeness.chances(second, first, scores))
    nothing = likeness.nothing
    weights = np.minimum(np.log(nothing / np.maximum(chances * count, 1e-300)), _HEAVIEST)
    kept = weights > 0
    first, second, weights = first[kept], second[kept], weights[kept]
    links = np.bincount(first, minlength=count) + np.bincount(second, minlength=count)
    return Links(count, first, second, weights, links >= neighbours, neighbours, nothing)


def _near_pairs(
    vectors: NDArray[np.float32], neighbours: int, reporter: Reporter
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each pair of rows one of which is among the nearest of the other, once; the lower row first."""
    count = len(vectors)
    if count <= _EXACT_UP_TO:
        near = nearest_neighbours(BlockDistances(vectors), neighbours + 1, reporter=reporter).rows.astype(np.int64)
    else:
        near = _approximately_nearest(vectors, neighbours + 1, reporter)
    rows = np.repeat(np.arange(count), near.shape[1])
    others = near.ravel()
    kept = (others >= 0) & (others != rows)
    low, high = np.minimum(rows, others)[kept], np.maximum(rows, others)[kept]
    pairs = np.unique(low * count + high)
    return pairs // count, pairs % count


def _approximately_nearest(vectors: NDArray[np.float32], neighbours: int, reporter: Reporter) -> NDArray[np.int64]:
    """The rows nearest to each, as far as a graph finds them; −1 where it finds fewer."""
    count = len(vectors)
    sample = vectors[np.random.default_rng(0).permutation(count)[:_EXACT_UP_TO]]
    near = np.empty((count, neighbours), dtype=np.int64)
    with reporter.task("Looking for likenesses", 2 * count, "entries") as task:

        def parts() -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
            for start in range(0, count, _ROWS):
                rows = np.arange(start, min(start + _ROWS, count))
                yield rows, vectors[rows]
                task.advance(len(rows))

        index = ApproximateIndex.build(graph_factory(sample), sample, parts())
        for start in range(0, count, _ROWS):
            rows = slice(start, min(start + _ROWS, count))
            near[rows] = index.search(vectors[rows], neighbours, _EFFORT, None)
            task.advance(len(near[rows]))
    return near
