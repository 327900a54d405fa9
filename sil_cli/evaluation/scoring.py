"""From two sides of a test to all that is said of them: means, intervals, open-set rates, and the files beside."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.evaluation.bootstrap import bootstrap_mean
from sil_cli.evaluation.evaluation_results import (
    CalibrationCheck,
    Interval,
    ObservedRates,
    OpenSetResult,
    QueryLine,
)
from sil_cli.evaluation.identification import Identifier, choose_strangers
from sil_cli.evaluation.metrics import QueryScores, RetrievalScores, mean_scores, score_queries
from sil_cli.evaluation.ranking import MatchRanks, Ranker
from sil_cli.evaluation.streaming import Listener, make_test, run_test
from sil_cli.evaluation.verification import FALSE_ACCEPT_RATES, PairScores, Verifier
from sil_cli.files import write_json, write_text
from sil_cli.runtime import map_threads

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sil_cli.evaluation.calibration import Calibration
    from sil_cli.evaluation.pairs import EmbeddingSet
    from sil_cli.runtime import Reporter
    from sil_cli.similarity.scoring import Metric

RESULTS_FILE = "results.json"
QUERIES_FILE = "queries.jsonl"
VERIFICATION_FILE = "verification.json"
_HISTOGRAM_BINS = 512


@dataclass(frozen=True)
class Scored:
    """Everything that was measured on one test.

    Attributes:
        ranks: Of the true matches.
        queries: Scores of each query.
        means: Their means.
        intervals: Of mAP, Rank-1 and mINP.
        pairs: Scores of all pairs.
        open_set: Rates for queries who may not be in the gallery.
    """

    ranks: MatchRanks
    queries: QueryScores
    means: RetrievalScores
    intervals: dict[str, Interval]
    pairs: PairScores
    open_set: OpenSetResult


def score_sides(
    query: EmbeddingSet,
    gallery: EmbeddingSet,
    *,
    metric: Metric,
    reporter: Reporter,
    ranks: MatchRanks | None = None,
) -> Scored:
    """Measure everything on one test.

    Args:
        query: One side.
        gallery: The other.
        metric: What is near.
        reporter: Shows progress.
        ranks: Of the true matches, where they were ranked otherwise than by the metric (re-ranked); pairs and
            open-set rates are those of the metric all the same.

    Raises:
        DataError: The embeddings can't be used, or no query has a match.
    """
    test = make_test(query, gallery, metric=metric)
    ranker, verifier, identifier = Ranker(test), Verifier(test), Identifier(test, choose_strangers(query))
    listeners: list[Listener] = [verifier, identifier]
    if ranks is None:
        listeners.insert(0, ranker)
    run_test(test, listeners, reporter=reporter)
    ranks = ranker.result() if ranks is None else ranks
    scores = score_queries(ranks)
    means, pairs, found = mean_scores(scores), verifier.result(), identifier.result()
    open_set = OpenSetResult(
        same_pairs=pairs.same_pairs,
        different_pairs=pairs.different_pairs,
        tar_at_far={name: _true_accept_rate(pairs, rate) for name, rate in FALSE_ACCEPT_RATES.items()},
        known=len(found.known),
        strangers=len(found.strangers),
        dir_at_far={name: found.rate(rate) for name, rate in FALSE_ACCEPT_RATES.items()},
    )
    return Scored(ranks, scores, means, _intervals(scores), pairs, open_set)


def check_calibration(
    calibration: Calibration | None, pairs: PairScores, *, manifest: str | None
) -> CalibrationCheck | None:
    """What the rates of a model's thresholds come to on a test of the data set with this manifest."""
    if calibration is None:
        return None

    def observe(threshold: float) -> ObservedRates:
        false, true = pairs.accepted(threshold)
        return ObservedRates(threshold=threshold, false_accept_rate=false, true_accept_rate=true)

    return CalibrationCheck(
        made_on=calibration.made_on,
        made_on_target=manifest in calibration.manifests,
        match=observe(calibration.match),
        possible=observe(calibration.possible),
    )


def write_per_query(folder: Path, scored: Scored, query: EmbeddingSet) -> None:
    """Write one line a query, and the curves that pictures are drawn from."""
    lines = "".join(line.model_dump_json() + "\n" for line in _query_lines(scored.queries, query))
    write_text(folder / QUERIES_FILE, lines)
    edges, same, different = scored.pairs.coarse(_HISTOGRAM_BINS)
    curves = {
        "format": "sil-verification",
        "version": 1,
        "roc": [{"false_accept_rate": false, "true_accept_rate": true} for false, true in scored.pairs.curve()],
        "score_edges": edges,
        "same_pairs": same,
        "different_pairs": different,
    }
    write_json(folder / VERIFICATION_FILE, curves)


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


def _true_accept_rate(pairs: PairScores, false_accept_rate: float) -> float | None:
    threshold = pairs.threshold(false_accept_rate) if pairs.same_pairs else None
    return None if threshold is None else pairs.accepted(threshold)[1]


def _intervals(scores: QueryScores) -> dict[str, Interval]:
    values = {
        "mAP": scores.average_precision,
        "Rank-1": (scores.first_match == 1).astype(np.float64),
        "mINP": scores.inverse_negative_penalty,
    }
    found = map_threads(bootstrap_mean, list(values.values()))
    return {name: Interval(low=each.low, high=each.high) for name, each in zip(values, found, strict=True)}


def _query_lines(scores: QueryScores, query: EmbeddingSet) -> Iterator[QueryLine]:
    places = {int(index): place for place, index in enumerate(scores.queries)}
    for index in sorted([*places, *scores.dropped.tolist()]):
        place = places.get(index)
        camera = query.cameras[index]
        yield QueryLine(
            query=index,
            path=None if query.keys is None else str(query.keys[index]),
            identity=str(query.identities[index]),
            camera=None if camera is None else str(camera),
            average_precision=None if place is None else float(scores.average_precision[place]),
            inverse_negative_penalty=None if place is None else float(scores.inverse_negative_penalty[place]),
            first_match=None if place is None else int(scores.first_match[place]),
            matches=0 if place is None else int(scores.matches[place]),
        )
