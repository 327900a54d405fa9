"""mAP, CMC and mINP from the ranks of all matches: of each query, their means, and curves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from sil_cli.errors import DataError
from sil_cli.results import Result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sil_cli.evaluation.ranking import MatchRanks

Share = Annotated[float, Field(ge=0.0, le=1.0)]
CMC_RANKS = (1, 5, 10)
CMC_UP_TO = 50
RECALL_STEPS = 100  # recalls 0, 0.01, ..., 1


@dataclass(frozen=True)
class QueryScores:
    """The scores of each query that has a match; all arrays have one value a query.

    Attributes:
        queries: Indices into the queries that were given, ascending.
        average_precision: Mean of the precision at each true match, non-interpolated, in (0, 1].
        first_match: Rank of the first true match, from 1.
        inverse_negative_penalty: Number of matches over the rank of the last one, in (0, 1].
        matches: Number of valid matches in the gallery.
        dropped: Indices of the queries left out because they have no valid match.
        gallery: Gallery images without junk.
    """

    queries: NDArray[np.int64]
    average_precision: NDArray[np.float64]
    first_match: NDArray[np.int64]
    inverse_negative_penalty: NDArray[np.float64]
    matches: NDArray[np.int64]
    dropped: NDArray[np.int64]
    gallery: int

    def __post_init__(self) -> None:
        for name in ("average_precision", "first_match", "inverse_negative_penalty", "matches"):
            values = getattr(self, name)
            if values.shape != (len(self.queries),):
                raise ValueError(f"{name} has shape {values.shape} for {len(self.queries)} queries")
        for name in ("average_precision", "inverse_negative_penalty"):
            values = getattr(self, name)
            if not ((values > 0) & (values <= 1)).all():
                raise ValueError(f"{name} must lie within 0..1: {values}")
        if not ((self.first_match >= 1) & (self.first_match <= self.gallery)).all():
            raise ValueError(f"first_match must lie within 1..{self.gallery}: {self.first_match}")
        if np.intersect1d(self.queries, self.dropped).size:
            raise ValueError("a query can't be both scored and dropped")

    def by_metric(self) -> dict[str, NDArray[np.float64]]:
        """What each mean is over: for mAP, Rank-1 and mINP a value a query."""
        return {
            "mAP": self.average_precision,
            "Rank-1": (self.first_match == 1).astype(np.float64),
            "mINP": self.inverse_negative_penalty,
        }


class RetrievalScores(Result):
    """Means over the queries that have a match; rates are in 0..1.

    Attributes:
        queries: How many queries the means are over.
        gallery: Number of gallery images, junk left out.
        dropped_queries: Queries without a valid match, left out of the means, and named in `queries.jsonl`.
        mAP: Mean average precision.
        cmc: By k, the share of queries with a true match among the first k (Rank-k).
        mINP: Mean inverse negative penalty: how soon the last true match comes.
    """

    queries: int = Field(ge=1)
    gallery: int = Field(ge=1)
    dropped_queries: int = Field(ge=0)
    mAP: Share  # noqa: N815 - the field's name for it
    cmc: dict[int, Share]
    mINP: Share  # noqa: N815

    @model_validator(mode="after")
    def _rises(self) -> Self:
        curve = [share for _, share in sorted(self.cmc.items())]
        if curve != sorted(curve) or any(k < 1 for k in self.cmc):
            raise ValueError(f"CMC can't fall, and its ranks begin at 1: {self.cmc}")
        return self


def score_queries(ranks: MatchRanks) -> QueryScores:
    """Average precision, first match and inverse negative penalty of each query.

    mINP is that of AGW: Ye et al., "Deep Learning for Person Re-identification: A Survey and Outlook", IEEE
    TPAMI 2021, equations 16 and 17.
    """
    matches = np.array([len(one) for one in ranks.ranks], dtype=np.int64)
    flat = np.concatenate([np.empty(0, dtype=np.int64), *ranks.ranks])
    starts = np.cumsum(matches) - matches
    precision = (np.arange(1, len(flat) + 1) - np.repeat(starts, matches)) / flat
    return QueryScores(
        queries=ranks.queries,
        average_precision=np.add.reduceat(precision, starts) / matches if len(flat) else precision,
        first_match=flat[starts],
        inverse_negative_penalty=matches / flat[starts + matches - 1],
        matches=matches,
        dropped=ranks.dropped,
        gallery=ranks.gallery,
    )


def mean_scores(scores: QueryScores, *, cmc_ranks: Sequence[int] = CMC_RANKS) -> RetrievalScores:
    """The means over all queries that have a match.

    Raises:
        DataError: No query has a match.
    """
    if not len(scores.queries) and not len(scores.dropped):
        raise DataError("All queries are junk, which evaluation ignores.", "Check which images are marked as junk.")
    if not len(scores.queries):
        raise DataError(
            f"None of the {len(scores.dropped)} queries has a valid match in the gallery.",
            "Check that both sides name identities alike, and that a person is seen by a second camera.",
        )
    return RetrievalScores(
        mAP=float(scores.average_precision.mean()),
        cmc={k: float((scores.first_match <= k).mean()) for k in cmc_ranks},
        mINP=float(scores.inverse_negative_penalty.mean()),
        queries=len(scores.queries),
        gallery=scores.gallery,
        dropped_queries=len(scores.dropped),
    )


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
