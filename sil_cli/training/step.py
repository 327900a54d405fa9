"""One interleaved iteration: the method, to be held against the paper."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn

from sil_cli.distributed.batch_shard import WHOLE_BATCH, BatchShard
from sil_cli.models.precision import autocast, to_device
from sil_cli.training.per_domain_norm import norms_apart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sil_cli.models.embedder import Embedder
    from sil_cli.models.styles import Style
    from sil_cli.training.optimizer_step import OptimizerStep
    from sil_cli.training.prototype_memory import PrototypeMemory

StyledPass = Literal["first", "second", "both"]


@dataclass(frozen=True)
class Batch:
    """One source's share of an iteration.

    Attributes:
        images: (b, 3, H, W), uint8 or floating in 0..1, augmented; those that this process holds, usually all.
        labels: (B,), int64, of the whole batch: the source's identities numbered from 0. They stay on the CPU: what
            they decide (which prototypes, in which turn) would else be read back, after all that a GPU has to do.
        part: Which of the B samples the images are.
    """

    images: Tensor
    labels: Tensor
    shard: BatchShard = WHOLE_BATCH


@dataclass(frozen=True)
class StepOptions:
    """The constants of an iteration.

    Attributes:
        temperature: τ of the loss.
        momentum: m, the weight of the old prototype.
        style_in: The forward pass that is stylised; the paper's is the second.
        after_stages: The stages that the style layer follows.
        second_pass: Without it the first pass's embeddings update the prototypes (the FB baseline).
        second_pass_statistics: The second pass moves batch norm's running statistics too.
        half: What convolutions are computed in; None for the weights' own precision.
    """

    temperature: float = 0.05
    momentum: float = 0.2
    style_in: StyledPass = "second"
    after_stages: tuple[int, ...] = (1,)
    second_pass: bool = True
    second_pass_statistics: bool = True
    half: torch.dtype | None = None


def interleaved_step(
    embedder: Embedder,
    memories: Sequence[PrototypeMemory],
    batches: Sequence[Batch],
    style: Style,
    optimizer_step: OptimizerStep,
    options: StepOptions,
    rng: np.random.Generator,
) -> Tensor:
    """Two forward passes and one backward pass (arXiv 2207.03132, algorithm 1).

    Args:
        embedder: The feature extractor, in train mode; updated.
        memories: One for each source; updated.
        batches: One for each source, in the same order.
        style: The stylisation, in the pass that the options name.
        optimizer_step: Over the embedder's parameters.
        options: The constants.
        rng: Draws the second pass's order, and the styles; the same in all processes.

    Returns:
        L_M, the mean over the sources of their losses before the update; a detached scalar on the device.
    """
    images = torch.cat([batch.images for batch in batches])
    device = images.device

    def embed(images: Tensor, draw: Callable[[Tensor], Tensor] | None) -> Tensor:
        with autocast(device, options.half):
            return embedder(images, style=draw, after_stages=options.after_stages)  # type: ignore[no-any-return]

    # First forward, original styles: each source as if alone, so that batch norm sees one domain at a time.
    sizes = [len(batch.images) for batch in batches]
    own_style = _style_of_each(style, batches, rng) if options.style_in != "second" else None
    with norms_apart(embedder, sizes):
        originals = torch.split(embed(images, own_style), sizes)
    losses = [  # a process's mean counts by its share of the batch, so that the sum over the processes is the mean
        memory.loss(embeddings, own_labels(batch), temperature=options.temperature) * batch.shard.weight
        for memory, embeddings, batch in zip(memories, originals, batches, strict=True)
    ]
    loss = torch.stack(losses).mean()

    # Backward: θ' ← θ − α ∇L_M(θ). The prototypes get no gradient.
    loss = optimizer_step.take(loss)

    if not options.second_pass:  # FB: the embeddings that gave the gradient are also those that make the prototypes.
        for memory, embeddings, batch in zip(memories, originals, batches, strict=True):
            memory.update(batch.shard.gather(embeddings.detach()), batch.labels, momentum=options.momentum)
        return loss

    # Second forward, interleaved styles, with θ': one shuffled batch of all sources; it feeds the prototypes only.
    shuffling = rng.permutation(sum(len(batch.labels) for batch in batches))
    shard, own_order = batches[0].shard.joined([batch.shard for batch in batches[1:]]).shuffled(shuffling)
    images = images[to_device(torch.from_numpy(own_order), device)]
    interleaved = (lambda maps: style.apply(maps, rng, shard)) if options.style_in != "first" else None
    with torch.no_grad(), _statistics(embedder, options):
        embeddings = shard.gather(embed(images, interleaved))
    owners = np.repeat(np.arange(len(batches)), [len(batch.labels) for batch in batches])[shuffling]
    labels = torch.cat([batch.labels for batch in batches])[torch.from_numpy(shuffling)]
    for source, memory in enumerate(memories):
        mine = torch.from_numpy(np.flatnonzero(owners == source))
        memory.update(embeddings[to_device(mine, device)], labels[mine], momentum=options.momentum)
    return loss


def own_labels(batch: Batch) -> Tensor:
    """The labels of the images that this process holds, on the images' device."""
    return to_device(batch.shard.own(batch.labels), batch.images.device)


def _style_of_each(style: Style, batches: Sequence[Batch], rng: np.random.Generator) -> Callable[[Tensor], Tensor]:
    """The style of each source's stretch of a batch of all sources, drawn for each by itself."""
    sizes = [len(batch.images) for batch in batches]
    rngs = rng.spawn(len(batches))
    draws = [partial(style.apply, rng=own, shard=batch.shard) for own, batch in zip(rngs, batches, strict=True)]

    def apply(maps: Tensor) -> Tensor:
        return torch.cat([draw(own) for draw, own in zip(draws, torch.split(maps, sizes), strict=True)])

    return apply


@contextlib.contextmanager
def _statistics(embedder: nn.Module, options: StepOptions) -> Iterator[None]:
    """Keep batch norm's running statistics still where the options ask for it; batch statistics are used anyway."""
    norms = [module for module in embedder.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if options.second_pass_statistics:
        norms = []
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
