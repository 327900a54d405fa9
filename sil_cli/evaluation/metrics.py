"""mAP, CMC and mINP: scores of each query from the ranks of its matches, and their means apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.errors import DataError
from sil_cli.evaluation.ranking import EmbeddingSet, MatchRanks, rank_matches

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from sil_cli.runtime import Reporter
    from sil_cli.similarity.scoring import Metric

__all__ = ["EmbeddingSet", "QueryScores", "RetrievalScores", "evaluate", "mean_scores", "score_queries"]

CMC_RANKS = (1, 5, 10)


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


@dataclass(frozen=True)
class RetrievalScores:
    """Means over the queries that have a match.

    Attributes:
        mAP: Mean average precision, in 0..1.
        cmc: For each rank k the share of queries whose first match stands at k or before, in 0..1.
        mINP: Mean inverse negative penalty, in 0..1.
        queries: How many queries the means are over.
        gallery: Gallery images without junk.
        dropped_queries: Indices of the queries left out because they have no valid match.
    """

    mAP: float  # noqa: N815 - the field's name for it
    cmc: Mapping[int, float]
    mINP: float  # noqa: N815
    queries: int
    gallery: int
    dropped_queries: tuple[int, ...]

    def __post_init__(self) -> None:
        shares = {"mAP": self.mAP, "mINP": self.mINP} | {f"cmc[{k}]": share for k, share in self.cmc.items()}
        for name, value in shares.items():
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} must lie within 0..1: {value}")
        curve = [share for _, share in sorted(self.cmc.items())]
        if curve != sorted(curve) or any(k < 1 for k in self.cmc):
            raise ValueError(f"CMC can't fall, and its ranks begin at 1: {dict(self.cmc)}")
        if self.queries < 1 or self.gallery < 1:
            raise ValueError(f"scores need queries and a gallery: {self.queries}, {self.gallery}")


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
        dropped_queries=tuple(scores.dropped.tolist()),
    )


def evaluate(
    query: EmbeddingSet,
    gallery: EmbeddingSet,
    *,
    metric: Metric = "cosine",
    cmc_ranks: Sequence[int] = CMC_RANKS,
    reporter: Reporter | None = None,
) -> RetrievalScores:
    """Rank, score and average in one call; the rules are those of `rank_matches`.

    Raises:
        DataError: As `rank_matches`, or no query has a match.
    """
    ranks = rank_matches(query, gallery, metric=metric, reporter=reporter)
    return mean_scores(score_queries(ranks), cmc_ranks=cmc_ranks)
