"""CMC and precision-recall curves from the ranks of all matches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sil_cli.evaluation.ranking import MatchRanks

CMC_UP_TO = 50
RECALL_STEPS = 100  # recalls 0, 0.01, ..., 1


def cmc_curve(ranks: MatchRanks, *, up_to: int = CMC_UP_TO) -> NDArray[np.float64]:
    """For k = 1, 2, ... the share of queries whose first match stands at rank k or before.

    Args:
        ranks: Of at least one query.
        up_to: The last k, or the size of the gallery where that is smaller.

    Returns:
        Shape (k,), ascending, in 0..1.
    """
    first = np.array([one[0] for one in ranks.ranks])
    found = np.bincount(first, minlength=up_to + 1)[1 : min(up_to, ranks.gallery) + 1]
    return np.cumsum(found) / len(first)


def precision_recall_curve(ranks: MatchRanks) -> NDArray[np.float64]:
    """The mean over queries of the interpolated precision at recalls 0, 0.01, ..., 1.

    A query with M matches at ranks r_1 < ... < r_M has precision i/r_i at recall i/M. Its interpolated precision
    at recall t is the highest one at any recall not below t, max{i/r_i : i/M >= t} (Manning, Raghavan and Schütze,
    Introduction to Information Retrieval, section 8.4). The mAP is not interpolated, so the area under this
    curve is a little larger.

    Returns:
        Shape (101,), descending, in 0..1.
    """
    steps = np.arange(RECALL_STEPS + 1)
    total = np.zeros(RECALL_STEPS + 1)
    for one in ranks.ranks:
        count = len(one)
        precision = np.arange(1, count + 1) / one
        best_from = np.maximum.accumulate(precision[::-1])[::-1]
        at = np.maximum(-(-steps * count // RECALL_STEPS), 1)  # the least i with i/M >= t, in whole numbers
        total += best_from[at - 1]
    return total / len(ranks.ranks)
