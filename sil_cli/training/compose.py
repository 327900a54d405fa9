"""From settings and prepared data sets to a training that is ready to run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from sil_cli.distributed.process_group import SINGLE_PROCESS
from sil_cli.errors import UsageError
from sil_cli.models.backbones.staged import compile_backbone, obstacle_to_compiling
from sil_cli.models.convolution_products import multiply_where_quicker
from sil_cli.models.cpu import keep_wrong_layers_in_float32
from sil_cli.models.embedder import Embedder, architecture
from sil_cli.models.families import name_some
from sil_cli.models.precision import half_precision, wants_bfloat16
from sil_cli.models.record import IMAGENET
from sil_cli.models.weights import load_pretrained
from sil_cli.runtime import resolve_device
from sil_cli.training.held_out import can_be_scored
from sil_cli.training.loop import Training
from sil_cli.training.method import Interleaved
from sil_cli.training.prototypes import read_prototypes
from sil_cli.training.sources import check_images, open_source
from sil_cli.training.supervised import Supervised

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sil_cli.data.manifest import Dataset
    from sil_cli.distributed.process_group import ProcessGroup
    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings, TrainSettings
    from sil_cli.training.method import Method
    from sil_cli.training.sources import Source


WORTH_COMPILING = 3_000
"""Iterations that make good what compiling takes. A ResNet-50's took 84 s on an H200, and saved 34 ms an iteration."""


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
    check_images(datasets, settings.train)
    device = device or resolve_device(settings.device)
    torch.manual_seed(settings.train.seed)
    embedder = Embedder(architecture(settings.model))
    last = max(settings.style.after_stages)
    if last > embedder.backbone.stages:
        raise UsageError(
            f"style.after_stages = {last}: {settings.model.backbone} has {embedder.backbone.stages} stages.",
            f"Choose from 1 to {embedder.backbone.stages}.",
        )
    if fresh and group.is_first:
        _warn_of_schedule(settings.train, reporter)
        if settings.model.weights == IMAGENET:
            reporter.note(f"Taking the published weights of {settings.model.backbone}; downloading them if needed.")
        dropped = load_pretrained(embedder, settings.model.weights)
        if dropped and settings.model.weights != IMAGENET:
            reporter.note(f"Not taken from {settings.model.weights}: {name_some(dropped)}.")
    if device.type == "cpu":
        multiply_where_quicker(embedder)
        if half_precision(settings.train.precision, device) == torch.bfloat16:
            if not wants_bfloat16("auto", device):  # 30 to 80 times as long as float32 on an EPYC with AVX2 alone
                reporter.warn("This CPU emulates bfloat16, which takes many times as long as float32.")
            wrong = keep_wrong_layers_in_float32(embedder, gradients=True)
            if wrong:
                reporter.note(f"This CPU gets {', '.join(wrong)} wrong in bfloat16; they are computed in float32.")
    compiled = _is_compiled(settings, embedder, device, reporter)
    sources = [open_source(dataset, settings, reporter, group) for dataset in datasets]
    if settings.train.select == "held-out":
        _check_held_out(sources, reporter)
    method = _method(settings, embedder, sources, device, fresh=fresh)
    training = Training(embedder, sources, method, settings.train, device=device, group=group)
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
        raise UsageError(f"train.compile = on is not possible: {obstacle}.", "Set it to auto or off.")
    if obstacle is not None and device.type == "cuda":
        reporter.note(f"The network is not compiled: {obstacle}.")
    long = train.compile == "on" or train.epochs * train.iterations >= WORTH_COMPILING
    return obstacle is None and long


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


def _check_held_out(sources: Sequence[Source], reporter: Reporter) -> None:
    """Refuse to choose an epoch by scores that say nothing, and warn where a source has none.

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


def _method(
    settings: Settings, embedder: Embedder, sources: Sequence[Source], device: torch.device, *, fresh: bool
) -> Method:
    train = settings.train
    if train.method == "supervised":
        identities = [source.identities for source in sources]
        return Supervised(
            settings.supervised, settings.style, identities=identities, dimension=embedder.dimension, device=device
        )
    vectors = None
    if fresh and train.prototypes not in ("centroids", "random"):  # a checkpoint brings its own
        if not train.prototypes.endswith(".safetensors"):
            raise UsageError(
                f"train.prototypes = {train.prototypes!r} is not known.",
                "Set it to centroids, random or the path of a .safetensors file.",
            )
        vectors = read_prototypes(Path(train.prototypes), sources, embedder.dimension)
    return Interleaved(train, settings.style, device=device, vectors=vectors)
