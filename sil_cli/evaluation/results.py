"""What `sil evaluate` returns, prints with `--json`, and leaves in files: `results.json`, `queries.jsonl` and more."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field, ValidationError

from sil_cli.data.manifest import first_problem
from sil_cli.errors import DataError, one_line
from sil_cli.evaluation.calibration import CalibrationCheck
from sil_cli.evaluation.chance import ChanceCheck
from sil_cli.evaluation.metrics import Share
from sil_cli.evaluation.score import Scores
from sil_cli.files import MOST_LINES, read_bytes, read_json, write_json, write_text
from sil_cli.models.record import ModelCard
from sil_cli.results import Result

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sil_cli.evaluation.metrics import QueryScores
    from sil_cli.evaluation.open_set import Identification, PairScores
    from sil_cli.evaluation.pairs import EmbeddingSet

RESULTS_FILE = "results.json"
QUERIES_FILE = "queries.jsonl"
VERIFICATION_FILE = "verification.json"
SPLITS_FILE = "splits.json"
AGAIN = "Run `sil evaluate` again with this version."
_HISTOGRAM_BINS = 512


class Tested(Result):
    """What was tested on what: the head of `results.json`.

    Attributes:
        model: The run folder, or the file of embeddings.
        fused: Further models whose similarities were averaged with its.
        fingerprint: The model's; None where only its embeddings are known.
        manifest_sha256: The target's; None for a file of embeddings.
        test_set: SHA-256 over labels and names of both sides.
    """

    format: Literal["sil-results"] = "sil-results"
    version: Literal[1] = 1
    model: Path
    fused: tuple[Path, ...] = ()
    fingerprint: str | None
    target: str
    manifest_sha256: str | None
    test_set: str


class EvaluateResult(Scores, Tested):
    """The outcome of `sil evaluate`; rates are in 0..1.

    Attributes:
        card: Where the model came from; None for one that was trained here, and for a file of embeddings.
        trained_on_target: The model has seen the target's training split, so this is no test of generalisation;
            None where that is unknown.
        conditions: Under which the numbers hold.
        calibration: How the model's thresholds hold here; None where it has none.
        expected_false_matches: How far expected false matches held; None where the gallery is too small to learn them
            from, and for other scores than cosines.
        results: The file with this document; None where it could not be written, as on a full disk.
        per_query: A file with one line a query; None likewise.
    """

    card: ModelCard | None = None
    trained_on_target: bool | None
    conditions: dict[str, str]
    calibration: CalibrationCheck | None
    expected_false_matches: ChanceCheck | None = None
    results: Path | None
    per_query: Path | None


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


class MeanRate(Result):
    """A rate over splits, or over the seeds of a benchmark, in 0..1.

    Attributes:
        mean: Over them.
        deviation: Sample standard deviation (n − 1); None where there is one.
    """

    mean: Share
    deviation: float | None = Field(ge=0.0)

    @classmethod
    def of(cls, values: Sequence[float]) -> MeanRate:
        """That of some rates."""
        return cls(mean=statistics.fmean(values), deviation=statistics.stdev(values) if len(values) > 1 else None)


class TargetScores(Result):
    """One target's scores, the mean over its splits.

    Attributes:
        splits: Each split's own result.
    """

    target: str
    mAP: MeanRate  # noqa: N815 - the field's name for it
    cmc: dict[int, MeanRate]
    mINP: MeanRate  # noqa: N815
    splits: list[EvaluateResult]
    results: Path | None

    @classmethod
    def of(cls, splits: list[EvaluateResult]) -> TargetScores:
        """The means over the results of a target's splits."""
        first = splits[0]
        place = first.results if all(split.results for split in splits) else None
        return cls(
            target=first.target,
            mAP=MeanRate.of([split.mAP for split in splits]),
            cmc={rank: MeanRate.of([split.cmc[rank] for split in splits]) for rank in first.cmc},
            mINP=MeanRate.of([split.mINP for split in splits]),
            splits=splits,
            results=place.parent.parent / SPLITS_FILE if place and len(splits) > 1 else place,
        )


class TargetsResult(Result):
    """The outcome of `sil evaluate` on more than one data set.

    Attributes:
        conditions: Under which the numbers hold; the same for all.
    """

    model: Path
    fingerprint: str
    targets: list[TargetScores]
    conditions: dict[str, str]


def write_queries(path: Path, scores: QueryScores, query: EmbeddingSet) -> None:
    """Write one line a query, those without a match among them."""
    write_text(path, "".join(line.model_dump_json() + "\n" for line in _query_lines(scores, query)))


def write_verification(path: Path, pairs: PairScores, identification: Identification) -> None:
    """Write the curves of verification and identification, and histograms of the scores of both kinds of pairs."""
    edges = pairs.edges(_HISTOGRAM_BINS)
    same, different = pairs.histograms(edges)
    curves = {
        "format": "sil-verification",
        "version": 1,
        "roc": [{"false_accept_rate": false, "true_accept_rate": true} for false, true in pairs.curve()],
        "identification": {
            "searched": identification.searched,
            "curve": [{"fpir": false, "fnir": missed} for false, missed in identification.curve()],
        },
        "score_edges": edges.tolist(),
        "same_pairs": same.tolist(),
        "different_pairs": different.tolist(),
    }
    write_json(path, curves)


def read_results(path: Path) -> EvaluateResult:
    """Read a `results.json`.

    Raises:
        DataError: It is missing, damaged or of another version.
    """
    raw = read_json(path, what="results of `sil evaluate`", fix=AGAIN)
    version = raw.get("version") if isinstance(raw, dict) else None
    if version != 1:
        raise DataError(f"{path} holds results of another version ({version or 'before the first'}).", AGAIN)
    try:
        return EvaluateResult.model_validate(raw)
    except ValidationError as error:
        raise DataError(f"{path} holds no results: {first_problem(error)}.", AGAIN) from error


def read_queries(path: Path) -> list[QueryLine]:
    """Read a `queries.jsonl`.

    Raises:
        DataError: It is missing or damaged.
    """
    try:
        content = read_bytes(path, most=MOST_LINES)
    except OSError as error:
        raise DataError(f"{path} can't be read: {one_line(error)}.", AGAIN) from error
    lines = []
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            lines.append(QueryLine.model_validate_json(line))
        except ValidationError as error:
            raise DataError(f"{path}, line {number}: {first_problem(error)}.", AGAIN) from error
    return lines


def _query_lines(scores: QueryScores, query: EmbeddingSet) -> Iterator[QueryLine]:
    places = {int(index): place for place, index in enumerate(scores.queries)}
    for index in np.union1d(scores.queries, scores.dropped).tolist():
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
