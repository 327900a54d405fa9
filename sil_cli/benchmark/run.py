"""`sil benchmark`: prepare, train and evaluate every case of a protocol, and set the table beside the published one."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from sil_cli.benchmark.results import BenchmarkResult, Difference, MethodScores, RunScores, score_table
from sil_cli.data.manifest import load_dataset
from sil_cli.defaults import is_finished, split_folders
from sil_cli.errors import InterruptedWorkError, UsageError, did_you_mean
from sil_cli.evaluation.evaluate import evaluate_target
from sil_cli.evaluation.intervals import mean_interval
from sil_cli.evaluation.results import MeanRate, TargetScores
from sil_cli.files import read_bytes, write_json, write_text
from sil_cli.models.record import read_record
from sil_cli.preparation.prepare_protocol import plan_of, prepare_protocol
from sil_cli.runs.checkpoint import checkpoints
from sil_cli.runs.run_folder import FACTS_FILE, read_facts
from sil_cli.settings import known_keys, resolve
from sil_cli.training.run_settings import (
    SECTIONS,
    kept_settings,
    refuse_other_data,
    refuse_other_settings,
    settings_to_begin,
)
from sil_cli.training.train import train

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from sil_cli.data.plan import ProtocolPlan
    from sil_cli.data.protocol import Protocol
    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings

SCORES_FILE = "scores.json"
RECIPE_METHOD = "recipe"
"""What the one method is called where none is named: the recipe's own settings."""

RESAMPLES = 10_000
"""Of the pairs of a target and a seed, for the interval of a difference."""


@dataclass(frozen=True)
class Job:
    """One training of a benchmark, and what it is tested on.

    Attributes:
        run: Its run folder.
        changes: The method's settings.
    """

    method: str
    case: str
    seed: int
    run: Path
    protocol: Protocol
    changes: Mapping[str, Any]


def benchmark(settings: Settings, reporter: Reporter) -> BenchmarkResult:
    """Run a protocol; what is finished already is taken as it stands, so that a second call goes on.

    Args:
        settings: What was given. The run folder, the sources and the seed of each training are the benchmark's own.
        reporter: Shows progress.

    Raises:
        UsageError: The protocol, a case or a method is unknown.
        SilError: A step of it failed, with what to do.
    """
    name = settings.data.protocol
    if name is None:
        raise UsageError("No protocol is named.", "For example `sil benchmark generated`, or `sil benchmark p3 ROOT`.")
    plan, cases = plan_of(name, settings.data)
    methods = chosen_methods(plan, settings.benchmark.methods)
    prepare_protocol(settings, reporter)
    folder = settings.benchmark.out / name.removesuffix(".toml").rpartition("/")[2]
    jobs = [
        Job(method, case, seed, folder / method / case / f"seed-{seed}", plan.protocol(case), changes)
        for seed in settings.benchmark.seeds
        for case in cases
        for method, changes in methods.items()
    ]
    runs = []
    try:
        for number, job in enumerate(jobs, start=1):
            reporter.note(f"Run {number} of {len(jobs)}: {job.method}, {job.case} left out, seed {job.seed}.")
            runs.append(_run(job, settings, reporter))
    except (InterruptedWorkError, KeyboardInterrupt):
        raise InterruptedWorkError(
            f"Stopped in run {len(runs) + 1} of {len(jobs)}; what is done is kept in {folder}.",
            "Run the same command again to continue.",
        ) from None
    return _finish(folder, plan, runs, reporter)


def chosen_methods(plan: ProtocolPlan, wanted: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The settings of each method to compare, in the order in which they are named.

    Raises:
        UsageError: One is unknown.
    """
    text = (resources.files("sil_cli") / "comparison" / "methods.toml").read_text(encoding="utf-8")
    known: dict[str, dict[str, Any]] = tomllib.loads(text) | plan.methods
    names = list(wanted or plan.methods)
    for name in names:
        if name not in known:
            raise UsageError(f"There is no method '{name}'.", did_you_mean(name, known))
    return {name: known[name] for name in names} or {RECIPE_METHOD: {}}


def _run(job: Job, settings: Settings, reporter: Reporter) -> RunScores:
    """Train and test one job, as far as that is not done yet."""
    data = settings.data.folder
    _train(job, [data / source for source in job.protocol.sources], settings, reporter)
    for path in checkpoints(job.run):  # of a run that has finished: with hundreds of runs they would fill the disk
        path.unlink(missing_ok=True)
    manifests = {target: _manifests(data / target) for target in job.protocol.targets}
    evaluated = settings.evaluate.model_dump(mode="json", exclude={"model", "target"})
    key = {
        "fingerprint": read_record(job.run).fingerprint,
        "manifests": manifests,
        "evaluate": evaluated,
        "rerank": settings.rerank.model_dump(mode="json") if settings.evaluate.rerank else None,
        "inference": settings.inference.model_dump(mode="json"),
    }
    known = _known(job.run / SCORES_FILE, key)
    if known is not None:
        return known
    changed = settings.evaluate.model_copy(update={"model": job.run})
    model = settings.model_copy(update={"evaluate": changed}).with_users_own(["evaluate.model"])
    targets = [evaluate_target(model, data / target, reporter) for target in job.protocol.targets]
    scores = RunScores(method=job.method, case=job.case, seed=job.seed, run=job.run, key=key, targets=targets)
    write_json(job.run / SCORES_FILE, scores.model_dump(mode="json"))
    return scores


def _train(job: Job, sources: list[Path], settings: Settings, reporter: Reporter) -> None:
    """Train a job's model, or go on with it, unless it has finished; never take another run for it."""
    own = {"train": {"run": job.run, "sources": sources, "seed": job.seed}}
    users_own = [*settings.users_own, "train.run"]
    layers = {"what was given": settings.given, f"the method {job.method}": dict(job.changes), "the benchmark": own}
    wanted = resolve(layers, users_own=users_own)
    if not (job.run / FACTS_FILE).is_file():
        train(wanted, reporter, protocol=job.protocol)
        return
    datasets = [load_dataset(source) for source in sources]
    now, _ = settings_to_begin(wanted, datasets, job.protocol)
    # Of the sources the manifests are compared, of the recipe the settings.
    keys = {key for key in known_keys() if key not in ("train.sources", "train.recipe")}
    fix = "Set it back to continue these runs, or name another folder with --out DIR."
    refuse_other_settings(now, kept_settings(job.run), job.run, keys=keys, fix=fix)
    refuse_other_data(datasets, read_facts(job.run), job.run)
    if not is_finished(job.run):
        others = {section: values for section, values in settings.given.items() if section not in SECTIONS}
        layers = {"what was given": others, "the benchmark": {"train": {"run": job.run, "resume": True}}}
        named = (*(["device"] if settings.is_users_own("device") else []), "train.run", "train.resume")
        outside = [key for key in users_own if key.partition(".")[0] not in SECTIONS]
        train(resolve(layers, users_own=[*outside, "train.run"]), reporter, named=named)


def _manifests(target: Path) -> list[str]:
    return [load_dataset(folder).info.manifest_sha256 for folder in split_folders(target) or [target]]


def _known(path: Path, key: dict[str, Any]) -> RunScores | None:
    """The scores of an earlier call, if they are of the same model, data and conditions."""
    try:
        scores = RunScores.model_validate_json(read_bytes(path))
    except (OSError, ValidationError):
        return None
    return scores if scores.key == key else None


def _finish(folder: Path, plan: ProtocolPlan, runs: list[RunScores], reporter: Reporter) -> BenchmarkResult:
    """Average, compare and write the tables."""
    targets = list(dict.fromkeys(target.target for run in runs for target in run.targets))
    methods = [_method_scores(name, runs) for name in dict.fromkeys(run.method for run in runs)]
    table = score_table(plan, targets, methods, runs)
    files = {"csv": table.as_csv(), "md": table.as_markdown(), "tex": table.as_latex()}
    for suffix, text in files.items():
        write_text(folder / f"table.{suffix}", text)
    result = BenchmarkResult(
        protocol=plan.name,
        folder=folder,
        targets=targets,
        methods=methods,
        differences=_differences(runs),
        runs=runs,
        tables=[folder / f"table.{suffix}" for suffix in files],
        results=folder / "results.json",
    )
    write_json(result.results, result.model_dump(mode="json"))
    tested = [(target.target, split) for run in runs for target in run.targets for split in target.splits]
    for text in dict.fromkeys(f"{name}: {each}" for name, split in tested for each in split.warnings):
        reporter.warn(text)
    if any(split.trained_on_target for _, split in tested):
        reporter.warn("A model was trained on its target: these numbers do not show generalisation.")
    return result


def _method_scores(method: str, runs: Sequence[RunScores]) -> MethodScores:
    """Means over the seeds, by target and over all targets."""
    own = [run for run in runs if run.method == method]
    by_target: dict[str, list[TargetScores]] = {}
    for run in own:
        for target in run.targets:
            by_target.setdefault(target.target, []).append(target)
    seeds = list(dict.fromkeys(run.seed for run in own))
    per_seed = [[target for run in own if run.seed == seed for target in run.targets] for seed in seeds]
    return MethodScores(
        method=method,
        seeds=seeds,
        mAP={name: MeanRate.of([each.mAP.mean for each in scores]) for name, scores in by_target.items()},
        rank1={name: MeanRate.of([each.cmc[1].mean for each in scores]) for name, scores in by_target.items()},
        mean_mAP=MeanRate.of([sum(each.mAP.mean for each in scores) / len(scores) for scores in per_seed]),
        mean_rank1=MeanRate.of([sum(each.cmc[1].mean for each in scores) / len(scores) for scores in per_seed]),
    )


def _differences(runs: Sequence[RunScores]) -> list[Difference]:
    """Every method against the first, paired by target and seed."""
    names = list(dict.fromkeys(run.method for run in runs))
    values: dict[str, dict[tuple[int, str], tuple[float, float]]] = {name: {} for name in names}
    for run in runs:
        for target in run.targets:
            values[run.method][run.seed, target.target] = (target.mAP.mean, target.cmc[1].mean)
    baseline = names[0]
    differences = []
    for name in names[1:]:
        pairs = sorted(values[name].keys() & values[baseline].keys())
        for at, metric in enumerate(("mAP", "rank1")):
            gains = np.array([values[name][pair][at] - values[baseline][pair][at] for pair in pairs])
            interval = mean_interval(gains, corrected=False, resamples=RESAMPLES)
            differences.append(
                Difference(
                    method=name,
                    baseline=baseline,
                    metric=metric,
                    mean=float(gains.mean()),
                    low=interval.low,
                    high=interval.high,
                    pairs=len(gains),
                )
            )
    return differences
