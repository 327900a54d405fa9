"""From two sides of a test to all that is said of them: means, intervals and open-set rates."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from sil_cli.data.labels import label_warnings
from sil_cli.errors import DataError
from sil_cli.evaluation.intervals import Interval, mean_interval
from sil_cli.evaluation.metrics import QueryScores, RetrievalScores, mean_scores, score_queries
from sil_cli.evaluation.open_set import (
    Identification,
    Identifier,
    OpenSetResult,
    PairScores,
    Verifier,
    choose_impostors,
    open_set_result,
)
from sil_cli.evaluation.pairs import check_sides
from sil_cli.evaluation.ranking import MatchRanks, Ranker, rank_reranked
from sil_cli.evaluation.streaming import Listener, RetrievalTest, run_test
from sil_cli.runtime import SilentReporter, map_threads
from sil_cli.settings import RerankSettings

if TYPE_CHECKING:
    from sil_cli.evaluation.pairs import EmbeddingSet
    from sil_cli.runtime import Reporter
    from sil_cli.similarity.scorers import Metric


_ROUNDING = 1e-5  # of the largest value of an embedding


class Scores(RetrievalScores):
    """All that is measured on one test.

    Attributes:
        intervals: Of mAP, Rank-1 and mINP; bootstrap over queries.
        open_set: Verification and open-set identification.
        warnings: What makes these numbers doubtful: labels written differently on the two sides, copies of queries.
    """

    intervals: dict[str, Interval]
    open_set: OpenSetResult
    warnings: list[str] = Field(default_factory=list)


@dataclass(frozen=True)
class Measurement:
    """The scores of a test, and what they were made of.

    Attributes:
        scores: All numbers.
        ranks: Of the true matches.
        queries: Scores of each query.
        pairs: Scores of all pairs.
        identification: Best scores of queries half of whose people were taken out.
    """

    scores: Scores
    ranks: MatchRanks
    queries: QueryScores
    pairs: PairScores
    identification: Identification


def score(
    query: EmbeddingSet,
    gallery: EmbeddingSet,
    *,
    metric: Metric = "cosine",
    rerank: RerankSettings | bool = False,
    reporter: Reporter | None = None,
) -> Scores:
    """Score embeddings by the field's rules, as `sil evaluate` does.

    A gallery image with the query's identity and camera is ignored for that query, as are junk images and the query
    itself (equal keys). Distractors stay, and stand in the way. A query without a valid match is left out and counted.
    Ranks are exact; ties stand in gallery order.

    Args:
        query: The queries.
        gallery: The gallery, of the same dimension and precision.
        metric: What is near: by cosine similarity, or by Euclidean distance of the embeddings as they are.
        rerank: Rank by k-reciprocal re-ranking, by its authors' settings (True) or others; it takes the cosine.
            Open-set rates are those of the metric all the same.
        reporter: Hears of the progress, and of what makes the numbers doubtful; without one, that is a `UserWarning`.

    Returns:
        mAP, CMC and mINP, their 95 % intervals, and the rates of verification and open-set identification.

    Raises:
        DataError: A side is empty, the sides don't fit together, an embedding can't be used, or no query has a match.
    """
    options = RerankSettings() if rerank is True else rerank or None
    scores = measure(query, gallery, metric=metric, rerank=options, reporter=reporter or SilentReporter()).scores
    for text in scores.warnings if reporter is None else ():
        warnings.warn(text, stacklevel=2)
    return scores


def measure(
    query: EmbeddingSet, gallery: EmbeddingSet, *, metric: Metric, rerank: RerankSettings | None, reporter: Reporter
) -> Measurement:
    """As `score`, with what the scores are made of."""
    check_sides(query, gallery)
    doubts = label_warnings(query.labelled, gallery.labelled)
    for text in doubts:  # before any figure is made, which may then fail
        reporter.warn(text)
    reranked = None if rerank is None else rank_reranked(query, gallery, rerank, reporter=reporter)
    test = RetrievalTest(query, gallery, metric=metric)
    copies = _copies(test)
    if copies is not None:
        reporter.warn(copies)
        doubts.append(copies)
    ranker, verifier, identifier = Ranker(test), Verifier(test), Identifier(test, choose_impostors(query))
    listeners: list[Listener] = [verifier, identifier]
    run_test(test, [ranker, *listeners] if reranked is None else listeners, reporter=reporter)
    ranks = reranked or ranker.result()
    queries, pairs, identification = score_queries(ranks), verifier.result(), identifier.result()
    try:
        means = mean_scores(queries)
    except DataError as error:
        raise DataError(error.what, doubts[0] if doubts else error.fix) from None
    values = queries.by_metric()
    intervals = map_threads(mean_interval, list(values.values()))
    scores = Scores(
        **dict(means),
        intervals=dict(zip(values, intervals, strict=True)),
        open_set=open_set_result(pairs, identification),
        warnings=doubts,
    )
    return Measurement(scores, ranks, queries, pairs, identification)


def _copies(test: RetrievalTest) -> str | None:
    """What is to be said where queries stand in the gallery under another name, and count as their own matches.

    A copy has the query's embedding, up to what batches of another size round otherwise. A model that gives different
    people one embedding says nothing about copies.
    """
    found, rows = [], []
    for index, matches in zip(test.rules.queries.tolist(), test.matches, strict=True):
        row = np.asarray(test.query.embeddings[index])
        limit = _ROUNDING * float(np.abs(row).max())
        if len(matches) and np.abs(row - test.gallery.embeddings[matches[0]]).max() <= limit:
            found.append((index, int(matches[0])))
            rows.append(row / (limit / _ROUNDING or 1.0))
    people = {test.query.identities[index] for index, _ in found}
    if not found or len(np.unique(np.round(rows, 3), axis=0)) < len(people):
        return None
    one, other = found[0]
    query = f"query {one}" if test.query.keys is None else test.query.keys[one]
    image = f"gallery image {other}" if test.gallery.keys is None else test.gallery.keys[other]
    return (
        f"{len(found):,} of {len(test.rows):,} queries have a copy in the gallery that counts as a match ({query} and "
        f"{image}{' and others' if len(found) > 1 else ''}): each finds it first, which flatters the figures. Leave "
        "these images out of one side."
    )


def fingerprint_of_test(query: EmbeddingSet, gallery: EmbeddingSet) -> str:
    """SHA-256 over the labels and names of both sides, in order."""
    digest = hashlib.sha256()
    for side in (query, gallery):
        for values in (side.identities, side.cameras, side.junk_flags(), side.keys):
            digest.update(b"\1")
            for start in range(0, 0 if values is None else len(values), 2**16):
                part = values[start : start + 2**16]  # type: ignore[index]  # None has no parts
                listed = part.tolist() if isinstance(part, np.ndarray) else part
                digest.update("".join(f"{'' if each is None else each}\0" for each in listed).encode())
    return digest.hexdigest()
