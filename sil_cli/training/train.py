"""`sil train`: from prepared sources to a finished run folder."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from sil_cli.data.images import pixels_in
from sil_cli.data.manifest import load_dataset
from sil_cli.data.protocol import read_protocol
from sil_cli.defaults import (
    EXPORT_FILE,
    is_finished,
    left_out_beside,
    new_run_folder,
    numbered_runs,
    source_folders,
)
from sil_cli.errors import InterruptedWorkError, ModelError, SilError, UsageError, one_line, quoted
from sil_cli.evaluation.calibrate import calibrate_after_training
from sil_cli.evaluation.calibration import CALIBRATION_FILE
from sil_cli.files import remove_leftovers, require_reachable, write_bytes
from sil_cli.locks import writer_lock
from sil_cli.models.embedder import save_model
from sil_cli.models.engines.export import export_if_possible
from sil_cli.models.record import read_record
from sil_cli.report.gap_advice import advise, gaps_at_a_glance, in_words, read_study
from sil_cli.results import Result
from sil_cli.runs.checkpoint import checkpoints, load_checkpoint
from sil_cli.runs.git_state import git_state
from sil_cli.runs.run_folder import (
    CURVES_FILE,
    FACTS_FILE,
    RunFacts,
    SourceFacts,
    TensorBoardLog,
    current_versions,
    read_facts,
    read_metrics,
    require_tensorboard,
    source_folder,
    write_facts,
    write_metrics,
    write_settings,
)
from sil_cli.runtime import SINGLE_LAUNCH, is_installed, stop_at_safe_point
from sil_cli.training.compose import compose
from sil_cli.training.processes import TrainingProcesses, join_processes
from sil_cli.training.run_settings import (
    refuse_other_data,
    refuse_other_number,
    settings_to_begin,
    settings_to_go_on,
    settings_to_keep,
    sources_to_go_on,
)
from sil_cli.training.sources import load_sources, warn_of_targets

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from sil_cli.data.manifest import Dataset
    from sil_cli.data.protocol import Protocol
    from sil_cli.runs.checkpoint import TrainingState
    from sil_cli.runtime import Launch, Reporter
    from sil_cli.settings import Settings
    from sil_cli.training.loop import Training


class TrainResult(Result):
    """The outcome of `sil train`.

    Attributes:
        method: `interleaved`, or `supervised`.
        weights: `trained`, or `averaged`: the moving average of the weights is what was kept.
        loss: Mean over the last epoch.
        images_per_second: Images with gradients, all sources together.
        selected: Which epoch's model was kept and why ("last", or "held-out: epoch 7").
        target: The data set that the protocol beside the sources leaves out; None where there is none.
        run: The run folder, which other commands take as the model.
        checkpoint: The model's weights.
        style: How new feature statistics were drawn.
        recipe: The settings that lay below all that was given.
        fingerprint: A hash of weights and preprocessing: equal ones embed alike.
    """

    run: Path
    checkpoint: Path
    sources: list[str]
    method: str
    style: str
    recipe: str
    epochs: int
    iterations: int
    loss: float
    images_per_second: float
    selected: str
    weights: str
    fingerprint: str
    target: Path | None


def train(
    settings: Settings,
    reporter: Reporter,
    *,
    named: Collection[str] = (),
    protocol: Protocol | None = None,
    launch: Launch = SINGLE_LAUNCH,
) -> TrainResult:
    """Train a model, or resume an unfinished run.

    Args:
        settings: What was given; which recipe stands below it depends on the data, and of a run that goes on its own
            settings stand above it.
        reporter: Shows progress.
        named: The keys, in dotted form, that the command itself gave: a run that goes on must not contradict them. What
            the environment or a file says of such a run's training is left aside.
        protocol: What pins settings above the recipe; None: the one in the data folder, unless sources are named.
        launch: The processes that share the training, where torchrun started several. All of them return the same;
            a restart of theirs goes on with the run that they began.

    Raises:
        SilError: Anything that keeps it from finishing, with what to do.
    """
    processes = join_processes(settings, launch, reporter)
    begun = processes.decide(lambda: str(_run_to_resume(settings, processes) or ""))
    if begun:
        return _resume(Path(begun), settings, named, processes)
    return _begin(settings, protocol, processes)


def _begin(given: Settings, protocol: Protocol | None, processes: TrainingProcesses) -> TrainResult:
    reporter = processes.reporter
    protocol = protocol or (None if given.train.sources else read_protocol(given.data.folder))
    datasets = load_sources(
        source_folders(given.train.sources, given.data.folder), max_pixels=pixels_in(given.data.max_megapixels)
    )
    settings, recipe = settings_to_begin(given, datasets, protocol)
    processes.agree_on(settings, datasets)
    if processes.group.is_first:
        _refuse_to_write_over(settings.train.run)
    if settings.train.tensorboard:
        require_tensorboard()
    warn_of_targets(datasets, reporter)
    if processes.group.is_first and settings.train.method == "interleaved" and len(datasets) > 1:
        _advise_on_styles(datasets, reporter)
    training = compose(settings, datasets, reporter, fresh=True, group=processes.group, device=processes.device)
    chosen = processes.decide(lambda: str(settings.train.run or new_run_folder(settings.train.runs, _label(settings))))
    run = Path(chosen)
    with _only_writer(run, processes):
        if processes.group.is_first:
            _refuse_to_write_over(run)  # by another training, which began and ended while this one got ready
            write_settings(run, settings_to_keep(settings, datasets, recipe))
            write_facts(run, _facts(settings, recipe, datasets, training, processes.launch))
        training.share_state()
        training.start(reporter)
        return _finish(run, training, settings, processes)


def _advise_on_styles(datasets: Sequence[Dataset], reporter: Reporter) -> None:
    """Say what the gap between the sources suggests, where it is clear."""
    advice = advise(*gaps_at_a_glance(datasets), read_study())
    if advice is not None and advice.suggests is not None:
        reporter.note(in_words(advice))


def _refuse_to_write_over(run: Path | None) -> None:
    if run is None or not run.is_dir():
        return
    if (run / FACTS_FILE).exists():
        raise UsageError(
            f"{run} already holds a run.", f"Resume it with `sil train --resume --run {quoted(run)}`, or name another."
        )
    if is_finished(run) or checkpoints(run):
        raise UsageError(f"{run} already holds a model.", "Name another folder with --run, or leave it out.")


def _run_to_resume(settings: Settings, processes: TrainingProcesses) -> Path | None:
    if settings.train.resume:
        return settings.train.run or _newest_unfinished(settings.train.runs)
    return processes.run_before_restart(settings)


def _label(settings: Settings) -> str:
    """What a run folder is called after its number."""
    if settings.train.method == "supervised":
        return "supervised"
    if not settings.train.second_pass:
        return "fb" if settings.style.name == "none" else f"fb-{settings.style.name}"
    return settings.style.name


def _resume(run: Path, given: Settings, named: Collection[str], processes: TrainingProcesses) -> TrainResult:
    reporter, group = processes.reporter, processes.group
    require_reachable(run / FACTS_FILE)
    if not (run / FACTS_FILE).is_file():
        raise UsageError(
            f"There is no run to resume in {run}.", "Name a run folder with --run, or train without --resume."
        )
    moved = given.train.sources if "train.sources" in named else ()
    if is_finished(run):
        facts = sources_to_go_on(run, read_facts(run), moved) if moved else read_facts(run)
        return processes.result_of_first(TrainResult, lambda: _complete(run, facts, given, named, reporter))
    settings = settings_to_go_on(run, given, named)
    if settings.train.tensorboard:
        require_tensorboard()
    facts = read_facts(run)
    refuse_other_number(settings.train.sources, facts, run)
    facts = sources_to_go_on(run, facts, moved)
    most = pixels_in(settings.data.max_megapixels)
    datasets = load_sources([Path(source.folder) for source in facts.sources], max_pixels=most)
    refuse_other_data(datasets, facts, run)
    processes.agree_on(settings, datasets)
    _warn_of_other_versions(facts, run, reporter)
    with _only_writer(run, processes):
        if moved and group.is_first:
            write_facts(run, facts)
        has_begun = bool(processes.decide(lambda: "yes" if checkpoints(run) else ""))
        state = _last_state(run, reporter) if group.is_first and has_begun else None
        training = compose(settings, datasets, reporter, fresh=not has_begun, group=group, device=processes.device)
        if state is not None:
            _restore(training, state, run)
        training.share_state()
        if has_begun:
            reporter.note(f"Resuming {run} after iteration {training.iteration} of {training.total_iterations}.")
        else:
            training.start(reporter)
        return _finish(run, training, settings, processes)


def _complete(run: Path, facts: RunFacts, given: Settings, named: Collection[str], reporter: Reporter) -> TrainResult:
    """Make what a run lacks that was stopped after its model was kept: thresholds, and the picture of its curves."""
    if facts != read_facts(run):  # its sources have moved
        write_facts(run, facts)
    result = _result(run, facts)
    has_curves, is_calibrated = (run / CURVES_FILE).is_file(), (run / CALIBRATION_FILE).is_file()
    is_exported = (run / EXPORT_FILE).is_file() or not is_installed("onnxruntime")
    if has_curves and is_calibrated and is_exported:
        reporter.note(f"{run} has finished already; there is nothing left to do.")
        return result
    settings = settings_to_go_on(run, given, named)
    reporter.note(f"{run} has finished already; what is missing is made now.")
    _export(run, facts, settings, reporter)
    if settings.train.calibrate and not is_calibrated:
        calibrate_after_training(settings, run, reporter)
    if not has_curves:
        _draw_curves(run, reporter)
    return result


def _restore(training: Training, state: TrainingState, run: Path) -> None:
    try:
        training.restore(state)
    except (RuntimeError, KeyError, ValueError, TypeError) as error:
        raise ModelError(
            f"The checkpoint in {run} does not fit the settings there: {one_line(error)}.",
            "Start again without --resume, in a new run folder.",
        ) from error


def _last_state(run: Path, reporter: Reporter) -> TrainingState:
    remove_leftovers(run)
    return load_checkpoint(run, reporter)


def _warn_of_other_versions(facts: RunFacts, run: Path, reporter: Reporter) -> None:
    now = current_versions()
    other = [f"{name} {then} (now {now.get(name)})" for name, then in facts.versions.items() if now.get(name) != then]
    if other:
        reporter.warn(
            f"{run} began with {', '.join(other)}: its numbers may differ from those of an uninterrupted run."
        )


@contextlib.contextmanager
def _only_writer(run: Path, processes: TrainingProcesses) -> Iterator[None]:
    """Lock the run's folder, in the first process; each of several keeps its log there."""
    run.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        if processes.group.is_first:
            lock = writer_lock(
                run, while_held="Wait until it is done.", elsewhere="Choose another folder with --run DIR."
            )
            stack.enter_context(lock)
        if processes.log is not None:
            stack.enter_context(processes.log.opened(run))
        try:
            yield
        except KeyboardInterrupt:
            if not (run / FACTS_FILE).exists():
                raise
            raise InterruptedWorkError(
                "Stopped.", f"Resume it with `sil train --resume --run {quoted(run)}`."
            ) from None


def _newest_unfinished(runs: Path) -> Path:
    unfinished = [run for run in numbered_runs(runs) if not is_finished(run) and (run / FACTS_FILE).is_file()]
    if not unfinished:
        raise UsageError(
            f"There is no unfinished numbered run in {runs}.", "Name one with --run DIR, or train without --resume."
        )
    return unfinished[-1]


def _facts(settings: Settings, recipe: str, datasets: list[Dataset], training: Training, launch: Launch) -> RunFacts:
    return RunFacts(
        **settings.train.model_dump(include={"method", "source_splits", "protocol", "seed", "epochs"}),
        recipe=recipe,
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
        style=settings.style.name,
        iterations=training.total_iterations,
        device=str(training.device),
        precision=str(training.optimizer_step.half or "float32").removeprefix("torch."),
        versions=current_versions(),
        git=git_state(Path.cwd()),
        processes=launch.world_size,
        launch=launch.name or None,
        weights="trained" if training.averaged is None else "averaged",
    )


def _finish(run: Path, training: Training, settings: Settings, processes: TrainingProcesses) -> TrainResult:
    reporter = processes.reporter
    tensorboard = settings.train.tensorboard and processes.group.is_first
    with _metrics_writer(run, training, tensorboard=tensorboard) as write, stop_at_safe_point() as stop:
        try:
            training.run(run, reporter, stop, write)
        except OSError as error:
            raise SilError(
                f"{run} can't be written: {one_line(error)}.",
                "Free some space there, or check its permissions, and resume with "
                f"`sil train --resume --run {quoted(run)}`.",
            ) from error
    return processes.result_of_first(TrainResult, lambda: _keep(run, training, settings, reporter))


def _keep(run: Path, training: Training, settings: Settings, reporter: Reporter) -> TrainResult:
    """Write the finished model and what is known of it."""
    epoch, state = training.selected_state()
    training.embedder.load_state_dict(state)
    facts = read_facts(run).model_copy(
        update={
            "loss": training.history[-1]["loss"],
            "images_per_second": round(training.images_per_second, 1),
            "selected": f"held-out: epoch {epoch}" if settings.train.select == "held-out" else "last",
        }
    )
    # The model's record is what makes a run finished, so it is written after the facts are complete.
    write_facts(run, facts)
    save_model(run, training.embedder)
    _export(run, facts, settings, reporter)
    if settings.train.calibrate:
        calibrate_after_training(settings, run, reporter)
    _draw_curves(run, reporter)
    return _result(run, facts)


def _export(run: Path, facts: RunFacts, settings: Settings, reporter: Reporter) -> None:
    """Export the finished model, compared with torch on images of its sources.

    Raises:
        InterruptedWorkError: Ctrl-C; the run itself is finished.
    """
    if not settings.train.export:
        return
    datasets = [load_dataset(source_folder(run, source)) for source in facts.sources]
    files = [(dataset.image_path(record), record.box) for dataset in datasets for record in dataset.records]
    most = pixels_in(settings.data.max_megapixels)
    try:
        export_if_possible(run, files, reporter, called="images of the sources", max_pixels=most)
    except KeyboardInterrupt:
        raise InterruptedWorkError(
            f"Stopped while exporting. The model in {run} is finished.",
            "The next command that needs an export makes it.",
        ) from None


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
        if training.history and training.group.is_first:
            write(training.history)
        yield write
    finally:
        if log is not None:
            log.close()


def _draw_curves(run: Path, reporter: Reporter) -> None:
    """Draw `curves.png`; the run is whole without it, so whatever goes wrong with it is only a warning."""
    try:
        from sil_cli.report.charts.training import curves_png

        write_bytes(run / CURVES_FILE, curves_png(read_metrics(run)))
    except Exception as error:
        reporter.warn(f"{run} has no plot of its curves: {one_line(error)}.")


def _result(run: Path, facts: RunFacts) -> TrainResult:
    if facts.loss is None or facts.images_per_second is None or facts.selected is None:
        raise ModelError(
            f"{run / FACTS_FILE} says that the run has not finished.", "Resume it with `sil train --resume`."
        )
    same = {"method", "style", "recipe", "epochs", "iterations", "loss", "images_per_second", "selected", "weights"}
    return TrainResult(
        **facts.model_dump(include=same),
        run=run,
        checkpoint=run / "model.safetensors",
        sources=[source.name for source in facts.sources],
        fingerprint=read_record(run).fingerprint,
        target=left_out_beside([source_folder(run, source) for source in facts.sources]),
    )
