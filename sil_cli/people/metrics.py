"""How good a grouping into people is, where labels say who is who.

BCubed (Bagga and Baldwin, "Entity-based cross-document coreferencing using the vector space model", COLING-ACL 1998; in
the form of Amigó et al., "A comparison of extrinsic clustering evaluation metrics based on formal constraints",
Information Retrieval, 2009): an entry's precision is the share of its group that shows its person, its recall the share
of its person's entries that are in its group; both are averaged over all entries. Pairwise: precision and recall of the
pairs of entries that a grouping puts together. F is the harmonic mean of precision and recall.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sil_cli.evaluation.metrics import Share
from sil_cli.results import Result

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence


class GroupingScores(Result):
    """How groups agree with people.

    Attributes:
        entries: How many were compared.
        people: Of these entries.
        groups: Of these entries.
        bcubed_precision, bcubed_recall, bcubed_f: BCubed.
        pairwise_precision, pairwise_recall, pairwise_f: Of pairs; 0 where there is no pair to be right or found.
    """

    entries: int
    people: int
    groups: int
    bcubed_precision: Share
    bcubed_recall: Share
    bcubed_f: Share
    pairwise_precision: Share
    pairwise_recall: Share
    pairwise_f: Share


def score_grouping(groups: Sequence[Hashable], people: Sequence[Hashable]) -> GroupingScores | None:
    """Compare groups with people.

    Args:
        groups: Of each entry the group that it was put in.
        people: Of each entry the person whom it shows.

    Returns:
        None where there is no entry.
    """
    if not len(people):
        return None
    group, person = _numbers(groups), _numbers(people)
    cells, counts = np.unique(np.stack([group, person]), axis=1, return_counts=True)
    of_group, of_person = np.bincount(group), np.bincount(person)
    squares = counts.astype(np.float64) ** 2
    precision = float((squares / of_group[cells[0]]).sum()) / len(group)
    recall = float((squares / of_person[cells[1]]).sum()) / len(group)
    both = _pairs(counts)
    pair_precision = both / max(_pairs(of_group), 1.0)
    pair_recall = both / max(_pairs(of_person), 1.0)
    return GroupingScores(
        entries=len(group),
        people=len(of_person),
        groups=len(of_group),
        bcubed_precision=min(precision, 1.0),
        bcubed_recall=min(recall, 1.0),
        bcubed_f=_f(precision, recall),
        pairwise_precision=pair_precision,
        pairwise_recall=pair_recall,
        pairwise_f=_f(pair_precision, pair_recall),
    )


def _numbers(names: Sequence[Hashable]) -> np.ndarray:
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([numbers[name] for name in names], dtype=np.int64)


def _pairs(counts: np.ndarray) -> float:
    return float((counts * (counts - 1) // 2).sum())


def _f(precision: float, recall: float) -> float:
    return min(2 * precision * recall / (precision + recall), 1.0) if precision + recall else 0.0
