"""One interleaved iteration: the method, to be compared with the paper."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from sil_cli.distributed.batch_shard import WHOLE_BATCH, BatchShard
from sil_cli.models.precision import autocast, to_device

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sil_cli.models.embedder import Embedder
    from sil_cli.models.styles import Style
    from sil_cli.settings import StyleSettings, TrainSettings
    from sil_cli.training.optimizer_step import OptimizerStep
    from sil_cli.training.prototypes import PrototypeMemory


@dataclass(frozen=True)
class Batch:
    """One source's share of an iteration.

    Attributes:
        images: (b, 3, H, W), uint8 or floating in 0..1, augmented; those that this process holds, usually all.
        labels: (B,), int64, of the whole batch: the source's identities numbered from 0. They stay on the CPU: what
            they decide (which prototypes, in which turn) would else be read back, after all that a GPU has to do.
        shard: Which of the B samples the images are.
    """

    images: Tensor
    labels: Tensor
    shard: BatchShard = WHOLE_BATCH


def interleaved_step(
    embedder: Embedder,
    memories: Sequence[PrototypeMemory],
    batches: Sequence[Batch],
    style: Style,
    optimizer_step: OptimizerStep,
    train: TrainSettings,
    styling: StyleSettings,
    rng: np.random.Generator,
) -> Tensor:
    """Two forward passes and one backward pass (arXiv 2207.03132, algorithm 1).

    Args:
        embedder: The feature extractor, in train mode; updated.
        memories: One for each source; updated.
        batches: One for each source, in the same order.
        style: The stylisation.
        optimizer_step: Over the embedder's parameters.
        train: τ, m, and what there is of the second pass.
        styling: The passes that are stylised, and after which stages.
        rng: Draws the second pass's order, and the styles; the same in all processes.

    Returns:
        L_M, the mean over the sources of their losses before the update; a detached scalar on the device.
    """
    device = batches[0].images.device

    def embed(images: Tensor, restyle: Callable[[Tensor], Tensor] | None) -> Tensor:
        with autocast(device, optimizer_step.half):
            return embedder(images, style=restyle, after_stages=styling.after_stages)  # type: ignore[no-any-return]

    # First forward, original styles: each source alone, so that batch norm sees one domain at a time.
    originals, losses = [], []
    for memory, batch, own_rng in zip(memories, batches, rng.spawn(len(batches)), strict=True):
        own_style = _restyling(style, own_rng, batch.shard) if styling.passes != "second" else None
        embeddings = embed(batch.images, own_style)
        loss = memory.loss(embeddings, own_labels(batch), temperature=train.temperature)
        originals.append(embeddings.detach())
        losses.append(loss * batch.shard.weight)  # so that the sum over the processes is the mean over the batch

    # Backward: θ' ← θ − α ∇L_M(θ). The prototypes get no gradient.
    loss = optimizer_step.take(torch.stack(losses).mean())

    if not train.second_pass:  # FB: the embeddings that gave the gradient are also those that make the prototypes.
        for memory, embeddings, batch in zip(memories, originals, batches, strict=True):
            memory.update(batch.shard.gather(embeddings), batch.labels, momentum=train.momentum)
        return loss

    # Second forward, interleaved styles, with θ': one shuffled batch of all sources; it feeds the prototypes only.
    shuffling = rng.permutation(sum(len(batch.labels) for batch in batches))
    shard, own_order = batches[0].shard.joined([batch.shard for batch in batches[1:]]).shuffled(shuffling)
    images = torch.cat([batch.images for batch in batches])[to_device(torch.from_numpy(own_order), device)]
    interleaved = _restyling(style, rng, shard) if styling.passes != "first" else None
    with torch.no_grad(), _statistics(embedder, moving=train.second_pass_statistics):
        embeddings = shard.gather(embed(images, interleaved))
    owners = np.repeat(np.arange(len(batches)), [len(batch.labels) for batch in batches])[shuffling]
    labels = torch.cat([batch.labels for batch in batches])[torch.from_numpy(shuffling)]
    for source, memory in enumerate(memories):
        mine = torch.from_numpy(np.flatnonzero(owners == source))
        memory.update(embeddings[to_device(mine, device)], labels[mine], momentum=train.momentum)
    return loss


def own_labels(batch: Batch) -> Tensor:
    """The labels of the images that this process holds, on the images' device."""
    return to_device(batch.shard.own(batch.labels), batch.images.device)


def _restyling(style: Style, rng: np.random.Generator, shard: BatchShard) -> Callable[[Tensor], Tensor]:
    return lambda maps: style.apply(maps, rng, shard)


@contextlib.contextmanager
def _statistics(embedder: nn.Module, *, moving: bool) -> Iterator[None]:
    """Keep batch norm's running statistics still unless they are `moving`; batch statistics are used anyway."""
    norms = [module for module in embedder.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    still = [] if moving else [norm for norm in norms if norm.track_running_stats]
    for norm in still:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in still:
            norm.track_running_stats = True
