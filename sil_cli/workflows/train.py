"""`sil train`: from prepared sources to a finished run folder."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sil_cli.data.protocol import Protocol, read_protocol
from sil_cli.errors import DataError, ModelError, SilError, UsageError
from sil_cli.files import one_line, remove_leftovers, write_bytes
from sil_cli.launch import ALONE, Launch
from sil_cli.locks import writer_lock
from sil_cli.models.embedder import save_model
from sil_cli.models.record import read_record
from sil_cli.runtime import stop_at_safe_point
from sil_cli.settings import load_settings, merge, read_recipe, read_toml
from sil_cli.training.checkpoint import checkpoints, load_checkpoint
from sil_cli.training.git_state import git_state
from sil_cli.training.run_folder import (
    FACTS_FILE,
    SETTINGS_FILE,
    RunFacts,
    SourceFacts,
    current_versions,
    read_facts,
    write_facts,
    write_metrics,
    write_settings,
)
from sil_cli.training.tensorboard import TensorBoardLog, require_tensorboard
from sil_cli.workflows.calibrate import calibrate_after_training
from sil_cli.workflows.company import Company, agree_on, as_first, begun_by_this_launch, meet
from sil_cli.workflows.compose_training import compose, load_sources, warn_of_targets
from sil_cli.workflows.locate import (
    is_finished,
    left_out_beside,
    new_run_folder,
    numbered_runs,
    source_folders,
)
from sil_cli.workflows.results import TrainResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from sil_cli.data.manifest import Dataset
    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings
    from sil_cli.training.checkpoint import TrainingState
    from sil_cli.training.loop import Training

FREE_WHEN_RESUMING = {
    "train": ("resume", "run", "runs", "tensorboard", "keep_checkpoints", "divergence"),
}
"""Settings that do not change what a run comes to."""

GENERATED_RECIPE, PHOTOGRAPHS_RECIPE = "generated", "paper"


def train(
    flags: dict[str, Any],
    config: Path | None,
    reporter: Reporter,
    protocol: Protocol | None = None,
    launch: Launch = ALONE,
) -> TrainResult:
    """Train a model, or go on with an unfinished run.

    The recipe lies below the other origins of settings, and which one it is may depend on the data, so this
    workflow resolves the settings itself.

    Args:
        flags: Nested values that the command line gave.
        config: The settings file, or None for `sil.toml`.
        reporter: Shows progress.
        protocol: What pins settings above the recipe; None: the one in the data folder, unless sources are named.
        launch: The processes that share the training, where torchrun started several. All of them return the same;
            a restart of theirs goes on with the run that they began.

    Raises:
        SilError: Anything that keeps it from finishing, with what to do.
    """
    settings = load_settings(flags=flags, config=config)
    company = meet(settings, launch, reporter)
    reporter = company.reporter
    begun = company.decide(lambda: str(_begun(settings, company) or ""))
    if begun:
        return _resume(Path(begun), settings, flags, config, company)
    protocol = protocol or (None if settings.train.sources else read_protocol(settings.data.folder))
    datasets = load_sources(source_folders(settings.train.sources, settings.data.folder))
    pinned = protocol.layer if protocol else {}
    recipe = settings.train.recipe or pinned.get("train", {}).get("recipe") or choose_recipe(datasets)
    settings = load_settings(flags=flags, config=config, recipe=merge(read_recipe(recipe), pinned))
    agree_on(company, settings, datasets)
    if company.ranks.is_first:
        _refuse_to_write_over(settings.train.run)
    if settings.train.tensorboard:
        require_tensorboard()
    warn_of_targets(datasets, reporter)
    training = compose(settings, datasets, reporter, fresh=True, ranks=company.ranks, device=company.device)
    run = Path(company.decide(lambda: str(settings.train.run or new_run_folder(settings.train.runs, _label(settings)))))
    with _only_writer(run, company):
        if company.ranks.is_first:
            write_settings(run, _kept_settings(settings, datasets, recipe))
            write_facts(run, _facts(settings, recipe, datasets, training, company.launch))
        training.share_state()
        training.start(reporter)
        return _finish(run, training, settings, company)


def _refuse_to_write_over(run: Path | None) -> None:
    if run is not None and (run / FACTS_FILE).exists():
        raise UsageError(
            f"{run} already holds a run.", f"Go on with `sil train --resume --run {run}`, or name another."
        )


def _begun(settings: Settings, company: Company) -> Path | None:
    """The run to go on with, where one is to be gone on with."""
    if settings.train.resume:
        return settings.train.run or _newest_unfinished(settings.train.runs)
    return begun_by_this_launch(company, settings)


def choose_recipe(datasets: list[Dataset]) -> str:
    """The small recipe when every source is generated, the paper's when there is a photograph among them."""
    return GENERATED_RECIPE if all(dataset.info.generated for dataset in datasets) else PHOTOGRAPHS_RECIPE


def _label(settings: Settings) -> str:
    """What a run folder is called after its number."""
    if settings.train.method == "supervised":
        return "supervised"
    if not settings.train.second_pass:
        return "fb" if settings.style.name == "none" else f"fb-{settings.style.name}"
    return settings.style.name


def _resume(run: Path, settings: Settings, flags: dict[str, Any], config: Path | None, company: Company) -> TrainResult:
    reporter = company.reporter
    if not (run / FACTS_FILE).is_file():
        raise UsageError(f"{run} holds no run to resume.", "Name a run folder with --run, or train without --resume.")
    facts = read_facts(run)
    if is_finished(run):
        reporter.note(f"{run} has finished already; nothing is left to do.")
        return _result(run, facts)
    stored = read_toml(run / SETTINGS_FILE)
    refuse_other_settings(flags, settings, stored, run)
    free: dict[str, Any] = {key: flags[key] for key in ("device", "data") if key in flags}
    given = flags.get("train", {})
    free["train"] = {key: given[key] for key in FREE_WHEN_RESUMING["train"] if key in given}
    settings = load_settings(flags=merge(stored, free), config=config)
    if settings.train.tensorboard:
        require_tensorboard()
    datasets = load_sources(list(settings.train.sources))
    refuse_other_data(datasets, facts, run)
    agree_on(company, settings, datasets)
    _warn_of_other_versions(facts, run, reporter)
    with _only_writer(run, company):
        has_begun = bool(company.decide(lambda: "yes" if checkpoints(run) else ""))
        state = _last_state(run, reporter) if company.ranks.is_first and has_begun else None
        training = compose(
            settings, datasets, reporter, fresh=not has_begun, ranks=company.ranks, device=company.device
        )
        if state is not None:
            training.restore(state)
        training.share_state()
        if has_begun:
            reporter.note(f"Going on with {run} after iteration {training.iteration} of {training.total_iterations}.")
        else:
            training.start(reporter)
        return _finish(run, training, settings, company)


def _last_state(run: Path, reporter: Reporter) -> TrainingState:
    remove_leftovers(run)
    return load_checkpoint(run, reporter)


def _warn_of_other_versions(facts: RunFacts, run: Path, reporter: Reporter) -> None:
    now = current_versions()
    other = [f"{name} {then} (now {now.get(name)})" for name, then in facts.versions.items() if now.get(name) != then]
    if other:
        reporter.warn(f"{run} began with {', '.join(other)}: its numbers may differ from those of one unbroken run.")


@contextlib.contextmanager
def _only_writer(run: Path, company: Company) -> Iterator[None]:
    """Lock the run's folder, in the first process; each of several keeps its log there."""
    run.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        if company.ranks.is_first:
            held = writer_lock(
                run, while_held="Wait until it is done.", elsewhere="Choose another folder with --run DIR."
            )
            stack.enter_context(held)
        if company.log is not None:
            stack.enter_context(company.log.opened(run))
        yield


def _newest_unfinished(runs: Path) -> Path:
    unfinished = [run for run in numbered_runs(runs) if not is_finished(run) and (run / FACTS_FILE).is_file()]
    if not unfinished:
        raise UsageError(f"There is no unfinished run in {runs}.", "Name one with --run, or train without --resume.")
    return unfinished[-1]


def refuse_other_settings(given: Mapping[str, Any], settings: Settings, stored: Mapping[str, Any], run: Path) -> None:
    """Refuse to take a run for what it is not.

    Args:
        given: Nested values that the command line gave; no others are looked at.
        settings: What they were resolved to.
        stored: The settings that the run began with.
        run: Its folder.

    Raises:
        UsageError: A setting of the model, the style or the training has another value than the run began with.
    """
    for section in ("model", "style", "train", "supervised"):
        for key in given.get(section, {}):
            value = _plain(getattr(getattr(settings, section), key))
            then = _plain(stored.get(section, {}).get(key))
            if key not in FREE_WHEN_RESUMING.get(section, ()) and value != then:
                raise UsageError(
                    f"{run} began with {section}.{key} = {then}, not {value}.",
                    "Leave that out to go on as it began, or train anew without --resume.",
                )


def refuse_other_data(datasets: Sequence[Dataset], facts: RunFacts, run: Path) -> None:
    """Refuse to go on with sources that have changed.

    Raises:
        DataError: A source's manifest is not the one that the run began with.
    """
    for dataset, then in zip(datasets, facts.sources, strict=True):
        if dataset.info.manifest_sha256 != then.manifest_sha256:
            raise DataError(
                f"{dataset.folder} is not the data that {run} began with (its manifest has changed).",
                "Prepare it as it was, or train anew in another folder.",
            )


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def _kept_settings(settings: Settings, datasets: list[Dataset], recipe: str) -> dict[str, Any]:
    kept = settings.model_dump(mode="json", include={"device", "model", "style", "train", "supervised"})
    kept["train"] |= {"sources": [str(dataset.folder) for dataset in datasets], "recipe": recipe}
    for key in ("resume", "run"):
        del kept["train"][key]
    return kept


def _facts(settings: Settings, recipe: str, datasets: list[Dataset], training: Training, launch: Launch) -> RunFacts:
    return RunFacts(
        recipe=recipe,
        method=settings.train.method,
        sources=[
            SourceFacts(
                name=dataset.name,
                folder=str(dataset.folder),
                manifest_sha256=dataset.info.manifest_sha256,
                images=len(source.rows),
                identities=source.identities,
            )
            for dataset, source in zip(datasets, training.sources, strict=True)
        ],
        source_splits=settings.train.source_splits,
        protocol=settings.train.protocol,
        style=settings.style.name,
        seed=settings.train.seed,
        epochs=settings.train.epochs,
        iterations=training.total_iterations,
        device=str(training.device),
        precision=str(training.options.half or "float32").removeprefix("torch."),
        versions=current_versions(),
        git=git_state(Path.cwd()),
        processes=launch.count,
        launch=launch.name or None,
        weights="trained" if training.averaged is None else "averaged",
    )


def _finish(run: Path, training: Training, settings: Settings, company: Company) -> TrainResult:
    reporter = company.reporter
    tensorboard = settings.train.tensorboard and company.ranks.is_first
    with _metrics_writer(run, training, tensorboard=tensorboard) as write, stop_at_safe_point() as stop:
        try:
            training.run(run, reporter, stop, write)
        except OSError as error:
            raise SilError(
                f"{run} can't be written: {one_line(error)}.",
                f"Make room there, or see to its permissions, and go on with `sil train --resume --run {run}`.",
            ) from error
    return as_first(company, TrainResult, lambda: _keep(run, training, settings, reporter))


def _keep(run: Path, training: Training, settings: Settings, reporter: Reporter) -> TrainResult:
    """Write the finished model and what is known of it."""
    epoch, state = training.selected_state()
    training.embedder.load_state_dict(state)
    facts = read_facts(run).model_copy(
        update={
            "loss": training.history[-1]["loss"],
            "images_per_second": round(training.images_per_second, 1),
            "selected": f"held-out: epoch {epoch}" if training.options.select_held_out else "last",
        }
    )
    # The model's record is what makes a run finished, so it is written after the facts are complete.
    write_facts(run, facts)
    save_model(run, training.embedder)
    if settings.train.calibrate:
        calibrate_after_training(settings, run, reporter)
    _draw_curves(run, training.history, reporter)
    return _result(run, facts)


@contextlib.contextmanager
def _metrics_writer(
    run: Path, training: Training, *, tensorboard: bool
) -> Iterator[Callable[[list[dict[str, float]]], None]]:
    """Yield what writes the history after every epoch, beginning with what a checkpoint brought."""
    log = TensorBoardLog(run) if tensorboard else None

    def write(history: list[dict[str, float]]) -> None:
        write_metrics(run, history)
        if log is not None:
            log.write(history)

    try:
        if training.history and training.ranks.is_first:
            write(training.history)
        yield write
    finally:
        if log is not None:
            log.close()


def _draw_curves(run: Path, history: list[dict[str, float]], reporter: Reporter) -> None:
    """Draw `curves.png`; the run is whole without it, so whatever goes wrong with it is only told."""
    try:
        from sil_cli.reporting.curves import CURVES_FILE, curves_png

        write_bytes(run / CURVES_FILE, curves_png(history))
    except Exception as error:
        reporter.warn(f"{run} has no picture of its curves: {one_line(error)}.")


def _result(run: Path, facts: RunFacts) -> TrainResult:
    if facts.loss is None or facts.images_per_second is None or facts.selected is None:
        raise ModelError(
            f"{run / FACTS_FILE} says that the run has not finished.", "Resume it with `sil train --resume`."
        )
    return TrainResult(
        run=run,
        checkpoint=run / "model.safetensors",
        sources=[source.name for source in facts.sources],
        method=facts.method,
        style=facts.style,
        recipe=facts.recipe,
        epochs=facts.epochs,
        iterations=facts.iterations,
        loss=facts.loss,
        images_per_second=facts.images_per_second,
        selected=facts.selected,
        weights=facts.weights,
        fingerprint=read_record(run).fingerprint,
        target=left_out_beside([Path(source.folder) for source in facts.sources]),
    )
