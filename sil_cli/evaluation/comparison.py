"""Which of two methods is better, and how sure that is: means over seeds and paired differences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

RESAMPLES = 10_000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class PairedDifference:
    """How much higher one method scores than another on the same targets and seeds.

    Attributes:
        mean: Of the differences, in the unit of the scores.
        low: Lower end of the 95% percentile bootstrap interval of the mean.
        high: Its upper end. Both are the mean where there is one pair only: an interval takes two.
        pairs: Differences that were compared.
    """

    mean: float
    low: float
    high: float
    pairs: int


def paired_difference(scores: Sequence[float], baseline: Sequence[float], *, seed: int = 0) -> PairedDifference:
    """Compare paired scores; pairs (a target and a seed each) are drawn again with replacement.

    Args:
        scores: One for each target and seed.
        baseline: The baseline's, in the same order.
        seed: Draws the resamples.

    Raises:
        ValueError: The two are empty or of different length.
    """
    if len(scores) != len(baseline) or not len(scores):
        raise ValueError(f"{len(scores)} scores can't be paired with {len(baseline)}")
    differences = np.asarray(scores, dtype=np.float64) - np.asarray(baseline, dtype=np.float64)
    chosen = np.random.default_rng(seed).integers(0, len(differences), size=(RESAMPLES, len(differences)))
    means = differences[chosen].mean(axis=1)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return PairedDifference(float(differences.mean()), float(low), float(high), len(differences))
