"""What `sil evaluate`, `sil compare` and `sil calibrate` return: the documents that `--json` prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from sil_cli.results import Result

Share = Annotated[float, Field(ge=0.0, le=1.0)]
RateName = Literal["1e-2", "1e-3", "1e-4"]


class Interval(Result):
    """Ends of a 95 % confidence interval."""

    low: float
    high: float


class OpenSetResult(Result):
    """Verification, and identification of queries some of whom are not in the gallery.

    Attributes:
        same_pairs: Query × gallery pairs of one person, as evaluation compares them.
        different_pairs: Pairs of different people.
        tar_at_far: Share of same pairs accepted, by the share of different pairs accepted; None where the pairs
            are too few for the rate.
        known: Queries whose person is in the gallery, in the identification test.
        strangers: Queries whose person was taken out of the gallery for it.
        dir_at_far: Share of known queries found first and accepted, by the share of strangers accepted.
    """

    same_pairs: int
    different_pairs: int
    tar_at_far: dict[RateName, Share | None]
    known: int
    strangers: int
    dir_at_far: dict[RateName, Share | None]


class ObservedRates(Result):
    """What a calibrated threshold comes to on the target."""

    threshold: float
    false_accept_rate: Share
    true_accept_rate: Share


class CalibrationCheck(Result):
    """How the model's calibration holds on the target.

    Attributes:
        made_on: The labelled images that thresholds were measured on.
        made_on_target: The target is among them, so this is no test.
    """

    made_on: str
    made_on_target: bool
    match: ObservedRates
    possible: ObservedRates


class EvaluateResult(Result):
    """The outcome of `sil evaluate`; rates are in 0..1.

    Attributes:
        model: The run folder, or the file of embeddings.
        fused: Further models whose similarities were averaged with its.
        fingerprint: The model's; None where only its embeddings are known.
        manifest_sha256: The target's; None for a file of embeddings.
        test_set: SHA-256 over labels and names of both sides.
        gallery: Number of gallery images, junk left out.
        dropped_queries: Queries without a valid match, left out of the means; named in `per_query`.
        intervals: Of mAP, Rank-1 and mINP; bootstrap over queries.
        trained_on_target: The model has seen the target's training split, so this is no test of generalisation;
            None where that is unknown.
        conditions: Under which the numbers hold.
        open_set: Verification and open-set identification.
        calibration: How the model's thresholds hold here; None where it has none.
        per_query: A file with one line a query.
        mAP: Mean average precision.
        cmc: By k, the share of queries with a true match among the first k (Rank-k).
        mINP: Mean inverse negative penalty: how soon the last true match comes.
        results: The file with this document.
    """

    format: Literal["sil-results"] = "sil-results"
    version: Literal[1] = 1
    model: Path
    fused: tuple[Path, ...] = ()
    fingerprint: str | None
    target: str
    manifest_sha256: str | None
    test_set: str
    queries: int
    gallery: int
    dropped_queries: int
    mAP: Share  # noqa: N815 - the field's name for it
    cmc: dict[int, float]
    mINP: Share  # noqa: N815
    intervals: dict[str, Interval]
    trained_on_target: bool | None
    conditions: dict[str, str]
    open_set: OpenSetResult
    calibration: CalibrationCheck | None
    results: Path
    per_query: Path


class QueryLine(Result):
    """A line of `queries.jsonl`; the scores are None for a query that has no valid match.

    Attributes:
        query: Its index among the queries.
        path: Its image, where known.
        first_match: Rank of the first true match, from 1.
        matches: Valid true matches in the gallery.
    """

    query: int
    path: str | None
    identity: str
    camera: str | None
    average_precision: float | None
    inverse_negative_penalty: float | None
    first_match: int | None
    matches: int


class ComparedMetric(Result):
    """One metric of two models.

    Attributes:
        difference: Second less first.
        interval: Of the difference; paired bootstrap over queries.
        p: Of a paired permutation test, two-sided.
    """

    first: float
    second: float
    difference: float
    interval: Interval
    p: float


class ChangedQuery(Result):
    """A query and its average precision with each model."""

    query: int
    path: str | None
    identity: str
    camera: str | None
    first: float
    second: float


class CompareResult(Result):
    """The outcome of `sil compare`.

    Attributes:
        first: The first model.
        second: The second one.
        different_conditions: Conditions in which the two differ: first's, second's.
        metrics: mAP, Rank-1 and mINP.
        better: Queries with a higher average precision in the second.
        worse: Queries with a lower one.
        equal: All others.
        changed_most: The queries that gained and that lost most.
    """

    first: Path
    second: Path
    target: str
    queries: int
    different_conditions: dict[str, tuple[str | None, str | None]]
    metrics: dict[str, ComparedMetric]
    better: int
    worse: int
    equal: int
    changed_most: list[ChangedQuery]


class CalibrateResult(Result):
    """The outcome of `sil calibrate`; what the file itself says, and where it is.

    Attributes:
        thresholds: By false accept rate, the score from which on so few pairs of different people are accepted.
        true_accept_rates: By false accept rate, the share of pairs of one person that are accepted.
        match: A score from here on is a match.
        possible: A score from here on is a possible one.
    """

    model: Path
    calibration: Path
    made_on: str
    same_pairs: int
    different_pairs: int
    thresholds: dict[str, float]
    true_accept_rates: dict[str, float]
    match: float
    possible: float
