"""`sil train`: from prepared sources to a finished run folder."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sil_cli.data.manifest import Dataset, load_dataset
from sil_cli.data.pixels import open_pixels
from sil_cli.errors import DataError, ModelError, UsageError
from sil_cli.files import one_line, remove_leftovers, write_bytes
from sil_cli.locks import writer_lock
from sil_cli.models.embedder import Architecture, Embedder, read_record, save_model
from sil_cli.models.precision import wants_bfloat16
from sil_cli.models.stylize import make_style
from sil_cli.models.weights import load_pretrained
from sil_cli.runtime import cpu_count, resolve_device, stop_at_safe_point
from sil_cli.settings import load_settings, merge, read_recipe, read_toml
from sil_cli.training.checkpoint import CHECKPOINT_FILE, load_checkpoint, save_checkpoint
from sil_cli.training.loop import LoopOptions, Training
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
from sil_cli.training.sources import Source, make_source
from sil_cli.training.step import StepOptions
from sil_cli.workflows.locate import (
    is_finished,
    left_out_beside,
    new_run_folder,
    numbered_runs,
    source_folders,
)
from sil_cli.workflows.results import TrainResult

if TYPE_CHECKING:
    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings

GENERATED_RECIPE, PHOTOGRAPHS_RECIPE = "generated", "paper"


def train(flags: dict[str, Any], config: Path | None, reporter: Reporter) -> TrainResult:
    """Train a model, or go on with an unfinished run.

    The recipe lies below the other origins of settings, and which one it is may depend on the data, so this
    workflow resolves the settings itself.

    Args:
        flags: Nested values that the command line gave.
        config: The settings file, or None for `sil.toml`.
        reporter: Shows progress.

    Raises:
        SilError: Anything that keeps it from finishing, with what to do.
    """
    settings = load_settings(flags=flags, config=config)
    if settings.train.resume:
        return _resume(settings, flags, config, reporter)
    datasets = _load_sources(source_folders(settings.train.sources, settings.data.folder))
    recipe = settings.train.recipe or choose_recipe(datasets)
    settings = load_settings(flags=flags, config=config, recipe=read_recipe(recipe))
    run = settings.train.run
    if run is not None and (run / FACTS_FILE).exists():
        raise UsageError(
            f"{run} already holds a run.", f"Go on with `sil train --resume --run {run}`, or name another."
        )
    training = _compose(settings, datasets, reporter)
    load_pretrained(training.embedder.backbone, settings.model.backbone, settings.model.weights)
    run = run or new_run_folder(settings.train.runs, settings.style.name)
    with _only_writer(run):
        write_settings(run, _kept_settings(settings, datasets, recipe))
        write_facts(run, _facts(settings, recipe, datasets, training))
        training.start(reporter)
        save_checkpoint(run, training.state())
        return _finish(run, training, reporter)


def choose_recipe(datasets: list[Dataset]) -> str:
    """The small recipe when every source is generated, the paper's when there is a photograph among them."""
    return GENERATED_RECIPE if all(dataset.info.generated for dataset in datasets) else PHOTOGRAPHS_RECIPE


def _resume(settings: Settings, flags: dict[str, Any], config: Path | None, reporter: Reporter) -> TrainResult:
    run = settings.train.run or _newest_unfinished(settings.train.runs)
    if not (run / FACTS_FILE).is_file():
        raise UsageError(f"{run} holds no run to resume.", "Name a run folder with --run, or train without --resume.")
    facts = read_facts(run)
    if is_finished(run):
        reporter.note(f"{run} has finished already; nothing is left to do.")
        return _result(run, facts)
    stored = read_toml(run / SETTINGS_FILE)
    _refuse_other_settings(flags, stored, run)
    of_this_machine: dict[str, Any] = {key: flags[key] for key in ("device", "data") if key in flags}
    settings = load_settings(flags=merge(stored, of_this_machine), config=config)
    datasets = _load_sources(list(settings.train.sources))
    for dataset, then in zip(datasets, facts.sources, strict=True):
        if dataset.info.manifest_sha256 != then.manifest_sha256:
            raise DataError(
                f"{dataset.folder} is not the data that {run} began with (its manifest has changed).",
                "Prepare it as it was, or train anew without --resume.",
            )
    training = _compose(settings, datasets, reporter)
    with _only_writer(run):
        remove_leftovers(run)
        if (run / CHECKPOINT_FILE).is_file():
            training.restore(load_checkpoint(run))
            reporter.note(f"Going on with {run} after iteration {training.iteration} of {training.total_iterations}.")
        else:
            load_pretrained(training.embedder.backbone, settings.model.backbone, settings.model.weights)
            training.start(reporter)
        return _finish(run, training, reporter)


def _only_writer(run: Path) -> contextlib.AbstractContextManager[None]:
    run.mkdir(parents=True, exist_ok=True)
    return writer_lock(run, while_held="Wait until it is done.", elsewhere="Choose another folder with --run DIR.")


def _newest_unfinished(runs: Path) -> Path:
    unfinished = [run for run in numbered_runs(runs) if not is_finished(run) and (run / FACTS_FILE).is_file()]
    if not unfinished:
        raise UsageError(f"There is no unfinished run in {runs}.", "Name one with --run, or train without --resume.")
    return unfinished[-1]


def _refuse_other_settings(given: dict[str, Any], stored: dict[str, Any], run: Path) -> None:
    free = {"train": ("resume", "run", "runs")}
    for section in ("model", "style", "train"):
        for key, value in given.get(section, {}).items():
            then = stored.get(section, {}).get(key)
            if key not in free.get(section, ()) and _plain(value) != _plain(then):
                raise UsageError(
                    f"{run} began with {section}.{key} = {_plain(then)}, not {_plain(value)}.",
                    "Leave that out to go on as it began, or train anew without --resume.",
                )


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def _load_sources(folders: list[Path]) -> list[Dataset]:
    datasets = [load_dataset(folder) for folder in folders]
    names = [dataset.name for dataset in datasets]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"Two sources are called {twice}.", "Prepare one of them under another --name.")
    for dataset in datasets:
        if not dataset.of_split("train"):
            raise DataError(
                f"{dataset.folder} has no training images.",
                "Name another --source, or prepare it with --split train or --split half.",
            )
    return datasets


def _compose(settings: Settings, datasets: list[Dataset], reporter: Reporter) -> Training:
    device = resolve_device(settings.device)
    torch.manual_seed(settings.train.seed)
    embedder = Embedder(
        Architecture(
            backbone=settings.model.backbone,
            last_stride=settings.model.last_stride,
            stem_relu=settings.model.stem_relu,
            height=settings.model.height,
            width=settings.model.width,
        )
    )
    sources = [_open_source(dataset, settings, reporter) for dataset in datasets]
    style = make_style(**settings.style.model_dump(exclude={"after_stage"}))
    return Training(embedder, sources, style, _loop_options(settings, device), device=device)


def _open_source(dataset: Dataset, settings: Settings, reporter: Reporter) -> Source:
    train = settings.train
    positions = [position for position, record in enumerate(dataset.records) if record.split == "train"]
    pixels = open_pixels(
        dataset,
        height=settings.model.height,
        width=settings.model.width,
        folder=settings.data.cache or dataset.folder / "cache",
        reporter=reporter,
        workers=cpu_count(),
        positions=positions,
    )
    source = make_source(
        dataset.name,
        [dataset.records[position] for position in positions],
        pixels,
        identities_per_batch=train.identities,
        instances=train.instances,
        seed=train.seed,
        held_out=train.held_out if train.select == "held-out" else 0.0,
    )
    if source.sampler.identities_per_batch < train.identities:
        reporter.warn(
            f"{dataset.name} has {source.identities} identities, fewer than the {train.identities} that a batch wants; "
            f"its batches are smaller."
        )
    return source


def _loop_options(settings: Settings, device: torch.device) -> LoopOptions:
    train = settings.train
    step = StepOptions(
        temperature=train.temperature,
        momentum=train.momentum,
        after_stage=settings.style.after_stage,
        second_pass_statistics=train.second_pass_statistics,
        bfloat16=wants_bfloat16(train.precision, device),
    )
    same = {"epochs", "iterations", "seed", "learning_rate", "weight_decay", "warmup_epochs", "warmup_factor"}
    same |= {"milestones", "decay", "flip", "pad"}
    return LoopOptions(**train.model_dump(include=same), select_held_out=train.select == "held-out", step=step)


def _kept_settings(settings: Settings, datasets: list[Dataset], recipe: str) -> dict[str, Any]:
    kept = settings.model_dump(mode="json", include={"device", "model", "style", "train"})
    kept["train"] |= {"sources": [str(dataset.folder) for dataset in datasets], "recipe": recipe}
    for key in ("resume", "run"):
        del kept["train"][key]
    return kept


def _facts(settings: Settings, recipe: str, datasets: list[Dataset], training: Training) -> RunFacts:
    return RunFacts(
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
        seed=settings.train.seed,
        epochs=settings.train.epochs,
        iterations=training.total_iterations,
        device=str(training.device),
        bfloat16=training.options.step.bfloat16,
        versions=current_versions(),
    )


def _finish(run: Path, training: Training, reporter: Reporter) -> TrainResult:
    with stop_at_safe_point() as stop:
        training.run(run, reporter, stop, lambda history: write_metrics(run, history))
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
    _draw_curves(run, training.history, reporter)
    return _result(run, facts)


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
        style=facts.style,
        recipe=facts.recipe,
        epochs=facts.epochs,
        iterations=facts.iterations,
        loss=facts.loss,
        images_per_second=facts.images_per_second,
        selected=facts.selected,
        fingerprint=read_record(run).fingerprint,
        target=left_out_beside([Path(source.folder) for source in facts.sources]),
    )
