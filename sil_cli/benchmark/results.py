"""What `sil benchmark` returns and keeps: the scores of each run, their means, and how methods differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from sil_cli.evaluation.results import MeanRate, TargetScores
from sil_cli.results import Result


class RunScores(Result):
    """One trained model's scores on the targets of its case.

    Attributes:
        key: What they hold for: the model's fingerprint, the targets' manifests, how it was evaluated.
    """

    method: str
    case: str
    seed: int
    run: Path
    key: dict[str, Any]
    targets: list[TargetScores]


class MethodScores(Result):
    """A method's scores, in 0..1: means over the seeds, with deviations where there are several.

    Attributes:
        mAP: By target.
        rank1: By target.
        mean_mAP: Mean over the targets.
        mean_rank1: Mean over the targets.
    """

    method: str
    seeds: list[int]
    mAP: dict[str, MeanRate]  # noqa: N815 - the field's name for it
    rank1: dict[str, MeanRate]
    mean_mAP: MeanRate  # noqa: N815
    mean_rank1: MeanRate


class Difference(Result):
    """How much higher a method scores than the first one, in 0..1, paired by target and seed.

    Attributes:
        low: Lower end of the mean's 95% bootstrap interval.
        high: Its upper end.
    """

    method: str
    baseline: str
    metric: Literal["mAP", "rank1"]
    mean: float
    low: float
    high: float
    pairs: int


class BenchmarkResult(Result):
    """The outcome of `sil benchmark`.

    Attributes:
        tables: The table as CSV, Markdown and LaTeX, published numbers below the measured ones.
        methods: Means of each method.
        differences: Of each method to the first one.
        runs: The scores of every trained model.
        results: The file with this document.
    """

    protocol: str
    folder: Path
    targets: list[str]
    methods: list[MethodScores]
    differences: list[Difference]
    runs: list[RunScores]
    tables: list[Path]
    results: Path
