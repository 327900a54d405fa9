"""From settings and prepared data sets to a training that is ready to run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from sil_cli.data.manifest import Dataset, ImageRecord, load_dataset
from sil_cli.data.pixels import open_pixels
from sil_cli.data.protocol import read_protocol
from sil_cli.distributed.process_group import SINGLE_PROCESS
from sil_cli.errors import DataError, UsageError
from sil_cli.files import refuse_links
from sil_cli.models.compiled import compile_backbone, obstacle_to_compiling
from sil_cli.models.convolution_products import multiply_where_quicker
from sil_cli.models.cpu import keep_wrong_layers_in_float32
from sil_cli.models.embedder import Embedder, architecture
from sil_cli.models.precision import half_precision, wants_bfloat16
from sil_cli.models.styles import make_style
from sil_cli.models.weights import IMAGENET, load_pretrained
from sil_cli.runtime import cpu_count, resolve_device
from sil_cli.training.held_out import can_be_scored
from sil_cli.training.interleaved import Interleaved
from sil_cli.training.loop import LoopOptions, Training
from sil_cli.training.prototypes import read_prototypes
from sil_cli.training.sources import Source, make_source
from sil_cli.training.step import StepOptions
from sil_cli.training.supervised import Supervised, SupervisedOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from sil_cli.distributed.process_group import ProcessGroup
    from sil_cli.models.styles import Style
    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings, TrainSettings
    from sil_cli.training.method import Method


WORTH_COMPILING = 3_000
"""Iterations that make good what compiling takes. A ResNet-50's took 84 s on an H200, and saved 34 ms an iteration."""


def load_sources(folders: Sequence[Path]) -> list[Dataset]:
    """Load the data sets to learn from.

    Raises:
        UsageError: Two have one name.
        DataError: One can't be read.
    """
    datasets = [load_dataset(folder) for folder in folders]
    names = [dataset.name for dataset in datasets]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"Two sources are called {twice}.", "Prepare one of them under another --name.")
    return datasets


def warn_of_targets(datasets: Sequence[Dataset], reporter: Reporter) -> None:
    """Say which sources are data sets that the protocol beside them leaves out for testing."""
    for dataset in datasets:
        protocol = read_protocol(dataset.folder.parent)
        if protocol is not None and dataset.folder.name in protocol.targets:
            reporter.warn(
                f"{dataset.name} is the network that {dataset.folder.parent} leaves out for testing: learnt from, it "
                "can't show generalisation any more."
            )


def compose(
    settings: Settings,
    datasets: Sequence[Dataset],
    reporter: Reporter,
    *,
    fresh: bool,
    group: ProcessGroup = SINGLE_PROCESS,
    device: torch.device | None = None,
) -> Training:
    """Put model, sources and method together.

    Args:
        settings: All settings, the recipe's among them.
        datasets: The sources.
        reporter: Shows progress.
        fresh: The first weights and prototypes are wanted; without it a checkpoint will bring both.
        group: The processes that share the training; whatever is fresh is the first one's.
        device: This process's; None: by the settings.

    Raises:
        SilError: The settings contradict each other or the data, or something can't be read.
    """
    _refuse_contradictions(settings)
    _check_images(datasets, settings.train)
    device = device or resolve_device(settings.device)
    torch.manual_seed(settings.train.seed)
    embedder = Embedder(architecture(settings.model))
    last = max(settings.style.after_stages)
    if last > embedder.backbone.stages:
        raise UsageError(
            f"style.after_stages = {last}: {settings.model.backbone} has {embedder.backbone.stages} stages.",
            f"Choose among 1 to {embedder.backbone.stages}.",
        )
    if fresh and group.is_first:
        _warn_of_schedule(settings.train, reporter)
        if settings.model.weights == IMAGENET:
            reporter.note(f"Taking the published weights of {settings.model.backbone}; downloading, if not yet here.")
        load_pretrained(embedder, settings.model.weights)
    if device.type == "cpu":
        multiply_where_quicker(embedder)
        if half_precision(settings.train.precision, device) == torch.bfloat16:
            if not wants_bfloat16("auto", device):  # 30 to 80 times as long as float32 on an EPYC with AVX2 alone
                reporter.warn("This CPU emulates bfloat16, which takes many times as long as float32.")
            _mend_bfloat16(embedder, reporter)
    compiled = _is_compiled(settings, embedder, device, reporter)
    sources = [_open_source(dataset, settings, reporter, group) for dataset in datasets]
    if settings.train.select == "held-out":
        _check_held_out(sources, reporter)
    method = _method(settings, embedder, sources, device, fresh=fresh)
    training = Training(embedder, sources, method, _loop_options(settings, device), device=device, group=group)
    if compiled:
        compile_backbone(embedder.backbone, settings.style.after_stages)
        reporter.note("The first iteration compiles the network; that takes a minute or two.")
    return training


def _is_compiled(settings: Settings, embedder: Embedder, device: torch.device, reporter: Reporter) -> bool:
    """Whether to compile the network.

    Raises:
        UsageError: It is asked for and can't be done.
    """
    train = settings.train
    if train.compile == "off":
        return False
    obstacle = obstacle_to_compiling(embedder.backbone, device)
    if train.batch_norm == "synchronised":
        obstacle = "processes talk inside of synchronised batch norms"
    if obstacle is not None and train.compile == "on":
        raise UsageError(f"train.compile = on can't be done: {obstacle}.", "Set it to auto or off.")
    if obstacle is not None and device.type == "cuda":
        reporter.note(f"The network is not compiled: {obstacle}.")
    long = train.compile == "on" or train.epochs * train.iterations >= WORTH_COMPILING
    return obstacle is None and long


def _mend_bfloat16(embedder: Embedder, reporter: Reporter) -> None:
    wrong = keep_wrong_layers_in_float32(embedder, gradients=True)
    if wrong:
        reporter.note(f"This CPU gets {', '.join(wrong)} wrong in bfloat16; computed in float32.")


def _refuse_contradictions(settings: Settings) -> None:
    train, style = settings.train, settings.style
    second_pass = train.method == "interleaved" and train.second_pass
    if not second_pass and style.name != "none" and style.passes != "first":
        why = "train.second_pass = false" if train.method == "interleaved" else "train.method = supervised"
        raise UsageError(
            f"With {why} there is no second pass for style.name = {style.name}.",
            "Add --style none, or --set style.passes=first.",
        )


def _warn_of_schedule(train: TrainSettings, reporter: Reporter) -> None:
    """Say what of the step size's schedule lies beyond the last epoch, as where only the epochs were made fewer."""
    beyond = [milestone for milestone in sorted(train.milestones) if milestone >= train.epochs]
    missed = [f"the warm-up of {train.warmup_epochs} does not end"] if train.warmup_epochs >= train.epochs else []
    if beyond:
        missed.append(f"the step size does not fall after epoch {', '.join(map(str, beyond))}")
    if missed:
        reporter.warn(
            f"With train.epochs = {train.epochs} {', and '.join(missed)}: set train.warmup_epochs and train.milestones "
            "to match."
        )


def _check_images(datasets: Sequence[Dataset], train: TrainSettings) -> None:
    """Refuse sources that nothing, or the same, would be learnt from.

    Raises:
        UsageError: Two hold the same images.
        DataError: One has no image that is learnt from.
    """
    seen: dict[object, str] = {}
    for dataset in datasets:
        learnt = [record for record in dataset.records if is_learnt_from(record, train)]
        if not learnt:
            raise DataError(
                f"{dataset.folder} has no training images.",
                "Name another --source, or prepare it with --split train or --split half.",
            )
        root = dataset.root.resolve()
        for record in learnt:
            owner = seen.setdefault((root, record.path, record.box), dataset.name)
            if owner != dataset.name:
                raise UsageError(
                    f"{owner} and {dataset.name} share training images, {record.path} among them: the same people "
                    "would be learnt as different ones.",
                    "Name only one of the two as --source.",
                )


def _open_source(dataset: Dataset, settings: Settings, reporter: Reporter, group: ProcessGroup) -> Source:
    train = settings.train
    positions = [position for position, record in enumerate(dataset.records) if is_learnt_from(record, train)]
    cache = settings.data.cache or dataset.folder / "cache"
    if settings.data.cache is None:
        refuse_links(cache, within=dataset.folder)
    pixels = open_pixels(
        dataset,
        height=settings.model.height,
        width=settings.model.width,
        folder=cache,
        reporter=reporter,
        workers=cpu_count(),
        positions=positions,
        check_all=settings.data.check_cache,
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
    _check_batches(source, settings, reporter)
    _check_parts(source, settings, group)
    return source


def _check_held_out(sources: Sequence[Source], reporter: Reporter) -> None:
    """Refuse to choose an epoch by scores that nothing can be told from, and warn where a source has none.

    Raises:
        UsageError: No source has a held-out identity with a match.
    """
    without = [source.name for source in sources if not can_be_scored(source)]
    if len(without) == len(sources):
        raise UsageError(
            f"train.select = held-out can't choose an epoch: no identity held out of {', '.join(without)} has a match "
            "by a second camera.",
            "Keep the last epoch's model with --select last, or hold more identities out with train.held_out.",
        )
    for name in without:
        reporter.warn(f"No identity held out of {name} has a match by a second camera: epochs are chosen without it.")


def _check_parts(source: Source, settings: Settings, group: ProcessGroup) -> None:
    """Refuse more processes than can share a source's batch."""
    people = source.sampler.identities_per_batch
    if people < group.world_size:
        raise UsageError(
            f"There are {group.world_size} processes, but a batch of {source.name} has {people} identities; each "
            "process takes at least one.",
            f"Start at most {people} processes, or set train.identities to {group.world_size} or more.",
        )
    smallest = people // group.world_size * source.sampler.instances
    if group.world_size > 1 and smallest < 2 and settings.train.batch_norm == "per-process":
        raise UsageError(
            f"With {group.world_size} processes one of them has a single image of {source.name} in a batch: too few "
            "for a batch norm of its own.",
            "Start fewer processes, or set train.batch_norm to synchronised.",
        )


def _check_batches(source: Source, settings: Settings, reporter: Reporter) -> None:
    train = settings.train
    people = source.sampler.identities_per_batch
    if people < train.identities:
        reporter.warn(
            f"{source.name} has {source.identities} identities, fewer than the {train.identities} that a batch wants; "
            f"its batches are smaller."
        )
    most = int(np.bincount(source.labels).max())
    if most < train.instances:
        reporter.warn(
            f"No identity of {source.name} has the {train.instances} images that a batch wants of each (the most is "
            f"{most}); its batches repeat images."
        )
    if people * train.instances < 2 or (train.method == "supervised" and people < 2):
        least = "two identities, for the triplet loss" if train.method == "supervised" else "two images, for batch norm"
        raise UsageError(
            f"train.identities = {train.identities} and train.instances = {train.instances} make batches too small: "
            f"a source's batch needs at least {least}.",
            "Set train.identities to 2 or more.",
        )


def _method(
    settings: Settings, embedder: Embedder, sources: Sequence[Source], device: torch.device, *, fresh: bool
) -> Method:
    train = settings.train
    style = make_style(settings.style)
    if train.method == "supervised":
        return _supervised(settings, embedder, sources, style, device)
    options = StepOptions(
        temperature=train.temperature,
        momentum=train.momentum,
        style_in=settings.style.passes,
        after_stages=settings.style.after_stages,
        second_pass=train.second_pass,
        second_pass_statistics=train.second_pass_statistics,
        half=half_precision(train.precision, device),
    )
    prototypes = _prototypes(settings, sources, embedder.dimension, fresh=fresh)
    return Interleaved(style, options, device=device, seed=train.seed, prototypes=prototypes)


def _prototypes(
    settings: Settings, sources: Sequence[Source], dimension: int, *, fresh: bool
) -> Literal["centroids", "random"] | list[Tensor]:
    chosen = settings.train.prototypes
    if chosen == "random":
        return "random"
    if chosen == "centroids" or not fresh:  # a checkpoint brings its own
        return "centroids"
    if not chosen.endswith(".safetensors"):
        raise UsageError(
            f"train.prototypes = {chosen!r} is no start that is known.",
            "Set it to centroids, random or the path of a .safetensors file.",
        )
    return read_prototypes(Path(chosen), sources, dimension)


def _supervised(
    settings: Settings, embedder: Embedder, sources: Sequence[Source], style: Style, device: torch.device
) -> Supervised:
    options = SupervisedOptions(
        label_smoothing=settings.supervised.label_smoothing,
        margin=settings.supervised.margin,
        style=style if settings.style.name != "none" else None,
        after_stages=settings.style.after_stages,
        half=half_precision(settings.train.precision, device),
    )
    return Supervised([source.identities for source in sources], embedder.dimension, options, device=device)


def is_learnt_from(record: ImageRecord, train: TrainSettings) -> bool:
    """Whether a source's image is one that the run learns from; junk and distractors of the test never are."""
    if record.split == "train":
        return True
    return train.source_splits == "train+test" and not (record.junk or record.distractor)


def _loop_options(settings: Settings, device: torch.device) -> LoopOptions:
    train = settings.train
    same = {"epochs", "iterations", "seed", "learning_rate", "weight_decay", "warmup_epochs", "warmup_factor"}
    same |= {"milestones", "decay", "flip", "pad", "erasing", "ema", "divergence", "keep_checkpoints", "batch_norm"}
    return LoopOptions(
        **train.model_dump(include=same),
        select_held_out=train.select == "held-out",
        half=half_precision(train.precision, device),
    )
