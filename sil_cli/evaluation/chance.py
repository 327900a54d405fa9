"""How many entries of other people would look as alike by chance, learnt from a gallery's own unlabelled embeddings.

A false accept rate says nothing of a search: at 1 in 1,000 a gallery of 100,000 answers every stranger with a hundred
matches. What counts is an expected number, as in sequence search (the E-value of Altschul et al., "Basic local
alignment search tool", Journal of Molecular Biology, 1990): the entries that were searched times the chance that one of
another person scores as high. The chance is learnt in two steps.

1. A score is measured against what its query scores in general, camera by camera: z = (s − median) / (third quartile −
   median) over a sample of that camera's entries, nearly all of them other people. Speaker recognition normalises by a
   cohort likewise (Auckenthaler et al., "Score normalization for text-independent speaker verification systems",
   Digital Signal Processing, 2000), with mean and deviation where median and quartile stand here: the query's own
   person, who may be in the sample, must not move them.
2. How often z is exceeded is counted over pairs of the sample's entries from different cameras. Pairs of one person are
   among them and soon make up most of the highest, since of m images of a person m − 1 are mates of each, however
   large the gallery is. So counts are believed only down to where some 20 entries are expected by chance, more than
   mates. From there the logarithm of the chance is continued as a parabola, the form of a normal distribution's tail,
   and of an exponential one's. What is counted beyond that continuation where it expects 5 entries is taken for mates
   and left out of all counts, until both agree.

`check_chance` holds what is learnt against labels: how many entries of other people do come to at most so many.

What that rests on and how far it holds is measured in docs/decisions.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from sil_cli.evaluation.calibration import Chance, ChanceTail
from sil_cli.evaluation.intervals import Interval, mean_interval
from sil_cli.evaluation.metrics import Share
from sil_cli.results import Result
from sil_cli.similarity.distance import unit_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sil_cli.evaluation.pairs import EmbeddingSet

SAMPLE = 4096
"""Entries against which scores are measured; all of a smaller gallery's."""
VISIT = 600.0
"""Seconds after which two images are no longer of one visit, where cameras don't tell."""
LEAST = 300
"""Entries of which anything can be learnt; below, the mates of each are too many among what is believed."""

EXPECTED = (0.1, 1.0, 5.0, 10.0)
"""Numbers of expected false matches that are held against what came up; a match and a possible one among them."""
NOMINAL = 1e-3

_CHECKED = 400  # queries whose false matches are counted, where there are labels
_ROWS_AT_ONCE = 2**14
_ASKING = 1024  # of the sample, entries that stand for queries
_FEW = 60  # a camera with fewer entries in the sample is measured together with others like it
_BELIEVED = 20.0  # entries by chance, in the whole gallery, from which on counts are believed
_MATES_AT = 5.0  # entries by chance where what is counted beyond them is taken for mates
_ROUNDS = 8
_COUNTED = 400.0  # pairs that a count must come to
_LEVELS = 30
_COMMON, _SPAN = 0.2, 100.0  # the most frequent level that is fitted, and how far levels reach from the rarest one
_TRIALS = 200
_FLAT = 1e-6


@dataclass(frozen=True)
class Reference:
    """The sample of a gallery against which scores are measured.

    Attributes:
        vectors: (R, D) float32 of unit length.
        cameras: (R,) of each its camera's name; "" where it is unknown.
    """

    vectors: NDArray[np.float32]
    cameras: NDArray[np.str_]

    def measure(
        self, queries: NDArray[np.float32], scores: Sequence[NDArray[np.floating]], cameras: Sequence[Sequence[str]]
    ) -> list[NDArray[np.float64]]:
        """How high each query's scores are for that query and camera.

        Args:
            queries: (Q, D) of unit length.
            scores: For each query the cosines of some entries.
            cameras: Of each of these entries its camera; "" where it is unknown.

        Returns:
            For each query the z of each score; NaN where it scores alike against nearly all entries of that camera.
        """
        groups, names = self._groups()
        medians, spreads = _scales(queries @ self.vectors.T, groups, len(names))
        numbers = {name: number for number, name in enumerate(names)}
        measured = []
        for query, (some, of) in enumerate(zip(scores, cameras, strict=True)):
            which = [numbers.get(camera, 0) for camera in of]
            measured.append((np.asarray(some, np.float64) - medians[query, which]) / spreads[query, which])
        return measured

    def bars(
        self, queries: NDArray[np.float32], z: NDArray[np.float64], seen: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """The cosines from which on an entry lies at z or above, (Q, L, groups); infinite where none can be told.

        Args:
            queries: (Q, D) of unit length.
            z: (Q, L) levels of each query.
            seen: (Q, R) against which entries of the sample each query is measured.
        """
        groups, names = self._groups()
        medians, spreads = _scales(queries @ self.vectors.T, groups, len(names), seen=seen)
        reached = medians[:, None] + z[:, :, None] * spreads[:, None]
        return np.nan_to_num(reached, nan=np.inf)

    def groups_of(self, cameras: NDArray[np.str_]) -> NDArray[np.int64]:
        """The last index into `bars` for entries of these cameras; "" where it is unknown."""
        numbers = {name: number for number, name in enumerate(self._groups()[1])}
        return np.array([numbers.get(camera, 0) for camera in cameras.tolist()], dtype=np.int64)

    def lowest_scores(self, queries: NDArray[np.float32], z: float) -> NDArray[np.float64]:
        """The lowest cosine of each query that is as high as z in any camera, (Q,); −1 where none can be told."""
        groups, names = self._groups()
        medians, spreads = _scales(queries @ self.vectors.T, groups, len(names))
        reached = medians + z * spreads
        return np.where(np.isnan(reached).all(axis=1), -1.0, np.nanmin(np.nan_to_num(reached, nan=np.inf), axis=1))

    def _groups(self) -> tuple[NDArray[np.int64], list[str]]:
        """The group of each entry and the groups' names: 0 are all cameras of few entries; of no such, all entries."""
        names, counts = np.unique(self.cameras, return_counts=True)
        large = [str(name) for name, count in zip(names, counts, strict=True) if count >= _FEW]
        order = ["", *(name for name in large if name)]
        number = {name: index for index, name in enumerate(order)}
        return np.array([number.get(str(camera), 0) for camera in self.cameras], dtype=np.int64), order


class FalseMatches(Result):
    """What came up of entries with at most so many expected false matches; rates over queries.

    Attributes:
        expected: The number expected.
        found: How many such entries of other people each query has on average; as many as expected, if it holds.
        interval: Of that mean; bootstrap over queries.
        fpir: Share of queries that have one of another person, as they do if their own person is not in the gallery.
        fnir: Share of queries with a match none of whose matches is one; None where no query has a match.
    """

    expected: float
    found: float
    interval: Interval
    fpir: Share
    fnir: Share | None


class ChanceCheck(Result):
    """How far expected false matches held, learnt from the gallery without its labels.

    Attributes:
        queries: How many were looked at, a random part where there are more.
        entries: Gallery images of other people, on average; the number expected is that times their chance.
        pairs_from: What told that two entries are of different visits, as in `chance.json`; times are not known here.
        mates: How many entries of one person were taken for such, for each, and left out.
        at: By number expected, ascending.
        false_accept_rate: Share of the entries of other people whose chance is at most 1e-3.
    """

    queries: int
    entries: float
    pairs_from: Literal["cameras", "times", "all"]
    mates: float
    at: list[FalseMatches]
    false_accept_rate: Share


def _scales(
    scores: NDArray[np.floating], groups: NDArray[np.int64], count: int, *, seen: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Median and distance to the third quartile of each row's scores in each group, (Q, count) each.

    Args:
        scores: (Q, R).
        groups: (R,) numbers below `count`; a group with fewer than `_FEW` scores in a row takes all of the row.
        count: Of groups.
        seen: (Q, R) which scores are taken; None: all.
    """
    medians, uppers = np.full((len(scores), count), np.nan), np.full((len(scores), count), np.nan)
    taken = np.ones(scores.shape, dtype=bool) if seen is None else seen
    for group in range(count):
        of_group = groups == group
        columns = np.flatnonzero(of_group) if of_group.sum() >= _FEW else np.arange(len(groups))
        whole = taken[:, columns].all(axis=1)
        if whole.any() and len(columns):
            both = np.quantile(scores[np.ix_(whole, columns)], (0.5, 0.75), axis=1)
            medians[whole, group], uppers[whole, group] = both
        for row in np.flatnonzero(~whole):
            some = scores[row, taken[row] & of_group]
            some = some if len(some) >= _FEW else scores[row, taken[row]]
            if len(some):
                medians[row, group], uppers[row, group] = np.quantile(some, (0.5, 0.75))
    spreads = np.where(uppers - medians > _FLAT, uppers - medians, np.nan)
    return medians, spreads


def learn_chance(
    reference: Reference, instants: NDArray[np.float64], *, fingerprint: str, entries: int
) -> Chance | None:
    """Learn from a random sample of a gallery how often other people look as alike.

    Args:
        reference: The sample; all of a gallery of up to `SAMPLE` entries.
        instants: (R,) when each was taken, in seconds; NaN where that is unknown.
        fingerprint: The gallery's model.
        entries: How many entries the gallery has.

    Returns:
        None where there is nothing to learn from: a small gallery, or one whose entries all look alike.
    """
    if len(reference.vectors) < LEAST:
        return None
    asking = np.random.default_rng(1).permutation(len(reference.vectors))[:_ASKING]
    apart, pairs_from = _apart(reference.cameras, instants, asking)
    groups, names = reference._groups()
    scores = reference.vectors[asking] @ reference.vectors.T
    medians, spreads = _scales(scores, groups, len(names), seen=apart)
    z = (scores - medians[:, groups]) / spreads[:, groups]
    apart &= np.isfinite(z)
    pairs = int(apart.sum())
    rarest = max(_BELIEVED / entries, _COUNTED / max(pairs, 1))
    if rarest > _COMMON / 2:
        return None
    ordered = np.sort(z[apart])
    levels = np.geomspace(min(_COMMON, _SPAN * rarest), rarest, _LEVELS)
    bounds = np.quantile(ordered, 1 - levels)
    if not 0 < bounds[0] < bounds[-1]:
        return None
    tail, mates = _without_mates(ordered, bounds, levels, entries)
    if tail is None:
        return None
    counts = np.stack([((z > bound) & apart).sum(axis=1) for bound in bounds], axis=1)
    return Chance(
        fingerprint=fingerprint,
        entries=entries,
        pairs=pairs,
        pairs_from=pairs_from,
        mates=round(mates, 2),
        tail=tail,
        factor=_factor(tail, bounds, counts, apart.sum(axis=1), mates, entries),
    )


def check_chance(query: EmbeddingSet, gallery: EmbeddingSet, *, seed: int = 0) -> ChanceCheck | None:
    """Learn from the gallery, without its labels, what comes up by chance, and count by them what did.

    Each query searches all images of other people; its own are out of the gallery, and of what scores are measured
    against.

    Args:
        query: The queries, whose labels are used.
        gallery: The gallery, whose labels are used for counting alone; its cameras for learning, too.
        seed: Draws the sample that is learnt from, and the queries where there are more than 400.

    Returns:
        None where nothing can be learnt from the gallery, as from one of fewer than 300 images.
    """
    from sil_cli.evaluation.pairs import PairRules, labels  # queries in a gallery go without

    rules, rng = PairRules(query, gallery), np.random.default_rng(seed)
    cameras = np.array(["" if each is None else str(each) for each in labels(gallery.cameras)], dtype=np.str_)
    sample = np.sort(rng.permutation(np.setdiff1d(np.arange(len(gallery)), rules.junk))[:SAMPLE])
    if not len(sample) or not len(rules.queries):
        return None
    reference = Reference(_units(gallery, sample), cameras[sample])
    unknown = np.full(len(sample), np.nan)
    chance = learn_chance(reference, unknown, fingerprint="", entries=rules.gallery_size)
    if chance is None:
        return None
    asked = np.sort(rng.permutation(rules.queries)[:_CHECKED])
    units = _units(query, asked)
    own = [rules.matches(index) for index in asked.tolist()]
    left_out = [np.union1d(rules.not_impostors(index), rules.junk) for index in asked.tolist()]
    others = len(gallery) - np.array([len(rows) for rows in left_out])
    chances = np.minimum(np.array(EXPECTED) / np.maximum(others, 1)[:, None], 1.0)  # (Q, E)
    z = np.array([[chance.tail.z_of(each) for each in (*line, NOMINAL)] for line in chances.tolist()])
    bars = reference.bars(units, z, ~np.array([np.isin(sample, rows) for rows in left_out]))
    groups = reference.groups_of(cameras)
    found, mine = np.zeros(z.shape, dtype=np.int64), np.zeros(z.shape, dtype=np.int64)
    for start in range(0, len(gallery), _ROWS_AT_ONCE):
        rows = np.arange(start, min(start + _ROWS_AT_ONCE, len(gallery)))
        scores = units @ _units(gallery, rows).T
        for at, line in enumerate(scores):
            reached = line >= bars[at][:, groups[rows]]  # (levels, rows)
            mine[at] += reached[:, np.intersect1d(own[at], rows) - start].sum(axis=1)
            reached[:, np.intersect1d(left_out[at], rows) - start] = False
            found[at] += reached.sum(axis=1)
    has_match = np.array([len(rows) > 0 for rows in own])
    return ChanceCheck(
        queries=len(asked),
        entries=round(float(others.mean()), 1),
        pairs_from=chance.pairs_from,
        mates=chance.mates,
        at=[
            FalseMatches(
                expected=expected,
                found=float(found[:, at].mean()),
                interval=mean_interval(found[:, at].astype(np.float64)),
                fpir=float((found[:, at] > 0).mean()),
                fnir=float((mine[has_match, at] == 0).mean()) if has_match.any() else None,
            )
            for at, expected in enumerate(EXPECTED)
        ],
        false_accept_rate=float(found[:, -1].sum() / max(int(others.sum()), 1)),
    )


def _units(side: EmbeddingSet, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    return unit_rows(side.embeddings[rows].astype(np.float32, copy=False))


def _without_mates(
    ordered: NDArray[np.float64], bounds: NDArray[np.float64], levels: NDArray[np.float64], entries: int
) -> tuple[ChanceTail | None, float]:
    """The tail of the pairs of different people, and how many mates of each entry were counted besides.

    Args:
        ordered: All z, ascending.
        bounds: The z of the levels.
        levels: The shares of all pairs that lie above.
        entries: Of the gallery.
    """
    tail, mates = _fit(bounds, levels), 0.0
    for _ in range(_ROUNDS):
        if tail is None:
            break
        above = 1 - np.searchsorted(ordered, tail.z_of(_MATES_AT / entries)) / len(ordered)
        mates = max(float(above) * entries - _MATES_AT, 0.0)
        tail = _fit(bounds, _less(levels, mates, entries)) or tail
    return tail, mates


def _less(shares: NDArray[np.float64], mates: float, entries: int) -> NDArray[np.float64]:
    """The shares of pairs without those of mates, of which at least a fifth is left."""
    less: NDArray[np.float64] = np.maximum(shares - mates / entries, 0.2 * shares)
    return less


def _apart(
    cameras: NDArray[np.str_], instants: NDArray[np.float64], asking: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], Literal["cameras", "times", "all"]]:
    """Which entries are compared with each that stands for a query, (Q, R)."""
    known = cameras != ""
    others = (cameras[asking, None] != cameras[None]) & known[asking, None] & known[None]
    if others.mean() > 0.1:
        return others, "cameras"
    later = np.abs(instants[asking, None] - instants[None]) >= VISIT  # NaN compares false
    if later.mean() > 0.1:
        return later, "times"
    return asking[:, None] != np.arange(len(cameras))[None], "all"


def _fit(bounds: NDArray[np.float64], chances: NDArray[np.float64]) -> ChanceTail | None:
    """The parabola of the logarithm through these points, by least squares; a straight line where it would turn up."""
    start = float(bounds[0])
    beyond = bounds - start
    found = np.polynomial.polynomial.polyfit(beyond, np.log(np.maximum(chances, 1e-300)), 2)
    if found[2] > 0:
        found = np.append(np.polynomial.polynomial.polyfit(beyond, np.log(np.maximum(chances, 1e-300)), 1), 0.0)
    a, b, c = (float(value) for value in found)
    if not (np.isfinite([a, b, c]).all() and a < np.log(0.5) and b < 0):
        return None
    return ChanceTail(start=start, coefficients=(a, b, c))


def _factor(
    tail: ChanceTail,
    bounds: NDArray[np.float64],
    counts: NDArray[np.int64],
    pairs: NDArray[np.int64],
    mates: float,
    entries: int,
) -> tuple[float, float]:
    """What the number expected comes to in 90 % of bootstrap samples of the rows, where the tail itself gives 1."""
    one = np.array([tail.z_of(1 / entries)])
    rng = np.random.default_rng(2)
    expected = []
    for _ in range(_TRIALS):
        rows = rng.integers(0, len(counts), len(counts))
        again = _fit(bounds, _less(counts[rows].sum(axis=0) / max(int(pairs[rows].sum()), 1), mates, entries))
        if again is not None:
            expected.append(entries * float(again.above(one)[0]))
    low, high = np.quantile(expected, (0.05, 0.95)) if expected else (0.0, float(entries))
    return round(float(low), 3), round(float(high), 3)
