"""`sil compare`: two models on the same test, query by query, from their saved results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from sil_cli.defaults import is_finished
from sil_cli.errors import DataError, UsageError, did_you_mean, quoted
from sil_cli.evaluation.intervals import Interval, mean_interval, permutation_p
from sil_cli.evaluation.results import (
    AGAIN,
    QUERIES_FILE,
    RESULTS_FILE,
    EvaluateResult,
    QueryLine,
    read_queries,
    read_results,
)
from sil_cli.files import require_reachable
from sil_cli.results import Result

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sil_cli.settings import Settings

_ROUNDING = 1e-9  # between a mean and the same mean summed in another order


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
        warnings: What makes the numbers of either doubtful, as `sil evaluate` said.
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
    warnings: list[str] = Field(default_factory=list)


@dataclass(frozen=True)
class _Saved:
    result: EvaluateResult
    lines: list[QueryLine]

    def values(self) -> dict[str, NDArray[np.float64]]:
        """Each metric's value for each query that has a match."""
        scored = [line for line in self.lines if line.matches]
        return {
            "mAP": np.array([line.average_precision for line in scored], dtype=np.float64),
            "Rank-1": np.array([line.first_match == 1 for line in scored], dtype=np.float64),
            "mINP": np.array([line.inverse_negative_penalty for line in scored], dtype=np.float64),
        }


def compare(settings: Settings, first: Path, second: Path) -> CompareResult:
    """Compare the second model with the first on one test.

    Args:
        settings: `compare.target` and `compare.changed` are used.
        first: A run folder, a folder with results, or a results file.
        second: Likewise.

    Raises:
        SilError: Results are missing, damaged, of another version or of another test.
    """
    there = [_results_of(path) for path in (first, second)]
    target = settings.compare.target or _common_target(first, second, *there)
    for path, results in zip((first, second), there, strict=True):
        if target not in results:
            raise UsageError(f"{path} was not evaluated on {target}.", did_you_mean(target, results))
    one, other = (_load(results[target]) for results in there)
    if not _same_test(one.result, other.result):
        raise DataError(
            f"{one.result.results} and {other.result.results} are not of the same test: their queries or galleries "
            f"differ ({one.result.queries} and {other.result.queries} queries, {one.result.gallery} and "
            f"{other.result.gallery} gallery images).",
            "Evaluate both models on the same prepared data set, then compare again.",
        )
    return _compared(one, other, settings.compare.changed)


def _same_test(one: EvaluateResult, other: EvaluateResult) -> bool:
    """Labels and names are equal, and so are the manifests where both are known."""
    manifests = {one.manifest_sha256, other.manifest_sha256} - {None}
    return one.test_set == other.test_set and len(manifests) < 2


def _compared(one: _Saved, other: _Saved, changed: int) -> CompareResult:
    values, others = one.values(), other.values()
    metrics = {name: _metric(values[name], others[name]) for name in values}
    gains = others["mAP"] - values["mAP"]
    order = np.argsort(-gains, kind="stable")
    most = [at for at in order[:changed] if gains[at] > 0] + [at for at in order[::-1][:changed] if gains[at] < 0]
    scored = [line for line in one.lines if line.matches]
    conditions = [saved.result.conditions for saved in (one, other)]
    return CompareResult(
        first=one.result.model,
        second=other.result.model,
        target=one.result.target,
        queries=len(scored),
        different_conditions={
            name: (conditions[0].get(name), conditions[1].get(name))
            for name in dict.fromkeys([*conditions[0], *conditions[1]])
            if conditions[0].get(name) != conditions[1].get(name)
        },
        metrics=metrics,
        warnings=list(dict.fromkeys([*one.result.warnings, *other.result.warnings])),
        better=int((gains > 0).sum()),
        worse=int((gains < 0).sum()),
        equal=int((gains == 0).sum()),
        changed_most=[
            ChangedQuery(
                **scored[at].model_dump(include={"query", "path", "identity", "camera"}),
                first=float(values["mAP"][at]),
                second=float(others["mAP"][at]),
            )
            for at in most
        ],
    )


def _metric(values: NDArray[np.float64], others: NDArray[np.float64]) -> ComparedMetric:
    return ComparedMetric(
        first=float(values.mean()),
        second=float(others.mean()),
        difference=float((others - values).mean()),
        interval=mean_interval(others - values),
        p=permutation_p(others - values),
    )


def _results_of(path: Path) -> dict[str, Path]:
    """The results files at a path, by target: of a run folder, of a folder with results, or the file itself."""
    require_reachable(path)
    if not path.exists():
        raise UsageError(
            f"There is no file or folder {path}.", "Name a run folder, a folder with results, or a results.json."
        )
    if path.suffix == ".npz":
        raise UsageError(
            f"{path} holds embeddings, no results.", f"Run `sil evaluate --embeddings {quoted(path)}` first."
        )
    if path.is_file():
        return {read_results(path).target: path}
    if (path / RESULTS_FILE).is_file():
        return {read_results(path / RESULTS_FILE).target: path / RESULTS_FILE}
    found = {file.parent.name: file for file in sorted(path.glob(f"evaluation/*/{RESULTS_FILE}"))}
    if not found:
        require_reachable(path / "evaluation" / RESULTS_FILE)
        run_it, other = (
            f"Run `sil evaluate --model {quoted(path)}` first.",
            "Name a folder that `sil evaluate` wrote, or a run.",
        )
        raise UsageError(f"There are no results in {path}.", run_it if is_finished(path) else other)
    return found


def _common_target(first: Path, second: Path, one: dict[str, Path], other: dict[str, Path]) -> str:
    alone = len(one) == len(other) == 1 and not one.keys() & other.keys()
    if alone and _same_test(read_results(*one.values()), read_results(*other.values())):
        # Names may differ where the test is the same, as of embeddings from a file; the labels decide.
        other |= dict(zip(one, other.values(), strict=True))
    common = sorted(one.keys() & other.keys())
    if not common:
        raise UsageError(
            f"{first} was evaluated on {', '.join(one)}, but {second} on {', '.join(other)}.",
            "Evaluate both on the same target with `sil evaluate --model RUN --target DIR`.",
        )
    if len(common) > 1:
        raise UsageError(f"Both were evaluated on several targets: {', '.join(common)}.", "Choose one with --target.")
    return common[0]


def _load(path: Path) -> _Saved:
    result, lines_path = read_results(path), path.parent / QUERIES_FILE
    lines = read_queries(lines_path)
    scored = [line.average_precision for line in lines if line.average_precision is not None]
    if (len(scored), len(lines) - len(scored)) != (result.queries, result.dropped_queries):
        raise DataError(f"{lines_path} does not belong to {path}: it has {len(scored)} queries.", AGAIN)
    if abs(np.mean(scored) - result.mAP) > _ROUNDING:  # an evaluation was stopped between the two files
        raise DataError(f"{lines_path} does not belong to {path}: its mAP is {np.mean(scored):.6f}.", AGAIN)
    return _Saved(result, lines)
