"""`sil evaluate` on several targets, or on a target in several random splits: means with standard deviations."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from sil_cli.data.manifest import load_dataset
from sil_cli.defaults import model_folder, split_folders, target_folders
from sil_cli.errors import UsageError
from sil_cli.evaluation.embed_sides import images_of_tests, share_images
from sil_cli.evaluation.evaluate import TEST_SET, both_splits, evaluate
from sil_cli.evaluation.evaluation_results import EvaluateResult
from sil_cli.evaluation.inference_options import load_models, refuse_contradictions
from sil_cli.files import write_json
from sil_cli.results import Result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sil_cli.evaluation.embed_sides import SharedImages
    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings

SPLITS_FILE = "splits.json"


class Spread(Result):
    """A rate over splits, or over the seeds of a benchmark, in 0..1.

    Attributes:
        mean: Over them.
        deviation: Sample standard deviation (n − 1); None where there is one.
    """

    mean: float = Field(ge=0.0, le=1.0)
    deviation: float | None = Field(ge=0.0)


class TargetScores(Result):
    """One target's scores, the mean over its splits.

    Attributes:
        splits: Each split's own result.
    """

    target: str
    mAP: Spread  # noqa: N815 - the field's name for it
    cmc: dict[int, Spread]
    mINP: Spread  # noqa: N815
    splits: list[EvaluateResult]
    results: Path


class TargetsResult(Result):
    """The outcome of `sil evaluate` on more than one data set.

    Attributes:
        conditions: Under which the numbers hold; the same for all.
    """

    model: Path
    fingerprint: str
    targets: list[TargetScores]
    conditions: dict[str, str]


def evaluate_targets(settings: Settings, reporter: Reporter) -> EvaluateResult | TargetsResult:
    """Score a model on what is to be tested: one data set, the splits of one, or several of either.

    Raises:
        SilError: There is no model or target, or they can't be used.
    """
    if settings.evaluate.embeddings is not None:
        return evaluate(settings, reporter)
    model_folder(settings.evaluate.model, settings.train.runs)  # without a model there is nothing to look for
    targets = target_folders(settings.evaluate.target, settings.data.folder)
    if len(targets) == 1 and not split_folders(targets[0]):
        return evaluate(_on(settings, targets[0]), reporter)
    if settings.evaluate.save_embeddings is not None:
        raise UsageError("--save-embeddings writes one file, and there are several tests.", "Name one with --target.")
    scored = [score_target(settings, target, reporter) for target in targets]
    first = scored[0].splits[0]
    conditions = {name: value for name, value in first.conditions.items() if name != TEST_SET}  # each has its own
    return TargetsResult(model=first.model, fingerprint=first.fingerprint, targets=scored, conditions=conditions)


def score_target(settings: Settings, target: Path, reporter: Reporter) -> TargetScores:
    """Score the model that the settings name on a data set, or on each of its splits, embedding each image once.

    Raises:
        SilError: There is no model or target, or they can't be used.
    """
    splits = split_folders(target) or [target]
    shared = _share(splits, settings, reporter) if len(splits) > 1 else None
    results = []
    for number, folder in enumerate(splits, start=1):
        if len(splits) > 1:
            reporter.note(f"{target.name}: split {number} of {len(splits)}.")
        out = settings.evaluate.out
        below = Path(target.name) / (folder.name if len(splits) > 1 else "")
        results.append(evaluate(_on(settings, folder, out / below if out else None), reporter, shared=shared))
    scores = _scores(results)
    if len(results) > 1:
        write_json(scores.results, scores.model_dump(mode="json"))
    return scores


def _share(splits: Sequence[Path], settings: Settings, reporter: Reporter) -> SharedImages:
    refuse_contradictions(settings.evaluate)
    datasets = [load_dataset(folder) for folder in splits]
    for dataset in datasets:
        both_splits(dataset)  # what can't be tested is refused before anything is embedded
    files = images_of_tests(datasets)
    folder = model_folder(settings.evaluate.model, settings.train.runs)
    models = load_models([folder, *settings.evaluate.fused], settings, reporter, images=len(files))
    return share_images(models, files, settings.evaluate, reporter)


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation (n − 1)."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Spread(mean=statistics.fmean(values), deviation=deviation)


def _on(settings: Settings, target: Path, out: Path | None = None) -> Settings:
    changes = {"target": target, "out": out or settings.evaluate.out}
    return settings.model_copy(update={"evaluate": settings.evaluate.model_copy(update=changes)})


def _scores(results: list[EvaluateResult]) -> TargetScores:
    first = results[0]
    several = len(results) > 1
    return TargetScores(
        target=first.target,
        mAP=spread([result.mAP for result in results]),
        cmc={rank: spread([result.cmc[rank] for result in results]) for rank in first.cmc},
        mINP=spread([result.mINP for result in results]),
        splits=results,
        results=first.results.parent.parent / SPLITS_FILE if several else first.results,
    )
