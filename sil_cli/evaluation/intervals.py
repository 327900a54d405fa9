"""How sure a mean is: bootstrap intervals, and a permutation test for paired differences."""

from __future__ import annotations

from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.results import Result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

RESAMPLES = 2000
PERMUTATIONS = 10_000
_VALUES_AT_A_TIME = 2**22


class Interval(Result):
    """Ends of a 95 % confidence interval."""

    low: float
    high: float


def mean_interval(
    values: NDArray[np.floating],
    *,
    corrected: bool = True,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """A bootstrap confidence interval of a mean.

    By default it is bias-corrected and accelerated (BCa; Efron, "Better Bootstrap Confidence Intervals", JASA 1987):
    the percentiles are shifted by the bias z0 and the acceleration a, for a mean the values' skewness over 6·√n.
    Values that are all equal have no spread to resample: the interval is then that one value, however few they are.

    Args:
        values: Shape (n,), n ≥ 1, one value a query (or a target and seed); these are resampled.
        corrected: BCa; otherwise the plain percentiles of the resampled means.
        confidence: Share of such intervals that are to hold the true mean.
        resamples: How many means are drawn.
        seed: Same seed, same interval.
    """
    mean = float(values.mean())
    if np.ptp(values) == 0:
        return Interval(low=mean, high=mean)
    rng = np.random.default_rng(seed)
    means = np.concatenate(
        [
            values[rng.integers(len(values), size=(count, len(values)))].mean(axis=1)
            for count in _portions(resamples, len(values))
        ]
    )
    levels = [(1 - confidence) / 2, (1 + confidence) / 2]
    if not corrected:
        low, high = np.quantile(means, levels)
        return Interval(low=float(low), high=float(high))
    below = (np.count_nonzero(means < mean) + np.count_nonzero(means == mean) / 2) / resamples
    bias = NormalDist().inv_cdf(min(max(below, 0.5 / resamples), 1 - 0.5 / resamples))
    centred = values - mean
    acceleration = float((centred**3).sum() / (6 * (centred**2).sum() ** 1.5))
    low, high = np.quantile(means, [corrected_level(level, bias, acceleration) for level in levels])
    return Interval(low=float(min(low, mean)), high=float(max(high, mean)))


def corrected_level(level: float, bias: float, acceleration: float) -> float:
    """The level of the resampled means that takes the place of a plain percentile's: Φ(z0 + z / (1 - a·z)).

    Args:
        level: Of the plain percentile, between 0 and 1; z is its normal quantile plus z0.
        bias: z0.
        acceleration: a.
    """
    normal = NormalDist()
    shifted = bias + normal.inv_cdf(level)
    return normal.cdf(bias + shifted / (1 - acceleration * shifted))


def permutation_p(differences: NDArray[np.floating], *, permutations: int = PERMUTATIONS, seed: int = 0) -> float:
    """How likely a mean difference this far from 0 is if the two models were exchangeable on each query.

    The signs of the paired differences are drawn at random; two-sided. The observed order counts as one of the
    permutations (Phipson and Smyth, "Permutation P-values Should Never Be Zero", 2010), so the result is at least
    1 / (permutations + 1).

    Args:
        differences: Shape (n,), one paired difference a query.
        permutations: How many sign patterns are drawn.
        seed: Same seed, same value.
    """
    observed = abs(float(differences.sum()))
    rng = np.random.default_rng(seed)
    tolerance = 1e-12 * float(np.abs(differences).sum())  # sums in another order are still equal
    extreme = 0
    for count in _portions(permutations, len(differences)):
        signs = rng.integers(2, size=(count, len(differences)), dtype=np.int8).astype(np.float64) * 2 - 1
        extreme += int(np.count_nonzero(np.abs(signs @ differences) >= observed - tolerance))
    return (extreme + 1) / (permutations + 1)


def _portions(total: int, each: int) -> Iterator[int]:
    size = max(1, _VALUES_AT_A_TIME // each)
    for start in range(0, total, size):
        yield min(size, total - start)
