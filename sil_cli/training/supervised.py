"""The strong supervised baseline: identity loss with label smoothing, and the batch-hard triplet loss.

(Luo et al., "Bag of Tricks and a Strong Baseline for Deep Person Re-Identification", CVPR workshops 2019, without the
centre loss.) The identities of several sources are concatenated: one classifier, one batch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sil_cli.distributed.batch_shard import WHOLE_BATCH, BatchShard
from sil_cli.distributed.process_group import SINGLE_PROCESS
from sil_cli.models.precision import autocast, to_device
from sil_cli.models.styles import make_style
from sil_cli.training.step import Batch, own_labels

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np

    from sil_cli.distributed.process_group import ProcessGroup
    from sil_cli.models.embedder import Embedder
    from sil_cli.models.styles import Style
    from sil_cli.runtime import Reporter
    from sil_cli.settings import StyleSettings, SupervisedSettings
    from sil_cli.training.optimizer_step import OptimizerStep
    from sil_cli.training.sources import Source


def supervised_step(
    embedder: Embedder,
    classifier: nn.Linear,
    batch: Batch,
    style: Style,
    optimizer_step: OptimizerStep,
    settings: SupervisedSettings,
    after_stages: Sequence[int],
    rng: np.random.Generator,
) -> Tensor:
    """One forward and one backward pass: L = L_identity(after the neck) + L_triplet(before the neck).

    Args:
        embedder: The feature extractor, in train mode; updated.
        classifier: From embeddings that are not normalised to the K identities, without bias; updated.
        batch: P identities with K images each, labels among those of the classifier.
        style: The stylisation of the pass.
        optimizer_step: Over both.
        settings: The constants of the losses.
        after_stages: The stages that the style follows.
        rng: Draws the styles; the same in all processes.

    Returns:
        L before the update; a detached scalar on the device.
    """
    shard = batch.shard
    with autocast(batch.images.device, optimizer_step.half):
        features = embedder.pooled(
            batch.images, style=lambda maps: style.apply(maps, rng, shard), after_stages=after_stages
        )
    scores = classifier(embedder.neck(features))
    loss = F.cross_entropy(scores, own_labels(batch), label_smoothing=settings.label_smoothing)
    loss = loss + batch_hard_triplet_loss(features, batch.labels, margin=settings.margin, shard=shard)
    return optimizer_step.take(loss * shard.weight)


def batch_hard_triplet_loss(
    features: Tensor, labels: Tensor, *, margin: float | Literal["soft"], shard: BatchShard = WHOLE_BATCH
) -> Tensor:
    """The mean over the anchors of max(0, m + d⁺ − d⁻), or of ln(1 + exp(d⁺ − d⁻)) with a soft margin.

    d⁺ is the Euclidean distance to the farthest image of the anchor's identity, d⁻ that to the nearest of any other
    (Hermans et al., "In Defense of the Triplet Loss for Person Re-Identification", 2017, equation 5).

    Args:
        features: (b, D), not normalised: the anchors, which are this part of the batch.
        labels: (B,), of the whole batch, at least two different ones; on the CPU.
        margin: m, or `soft`.
        shard: What of the batch the anchors are; d⁺ and d⁻ are those in all of it.
    """
    everyone = shard.gather_with_gradient(features)
    # Differences, not the expanded square: near zero that loses all its digits.
    distances = torch.cdist(features, everyone, compute_mode="donot_use_mm_for_euclid_dist")
    same = to_device(shard.own(labels)[:, None] == labels[None, :], features.device)
    farthest = distances.masked_fill(~same, -math.inf).amax(dim=1)
    nearest = distances.masked_fill(same, math.inf).amin(dim=1)
    if margin == "soft":
        return F.softplus(farthest - nearest).mean()
    return F.relu(margin + farthest - nearest).mean()


class Supervised:
    """The supervised baseline as the loop runs it: a linear classifier beside the embedder.

    Attributes:
        classifier: One row of weights for each identity of each source, in the sources' order.
    """

    def __init__(
        self,
        settings: SupervisedSettings,
        styling: StyleSettings,
        *,
        identities: Sequence[int],
        dimension: int,
        device: torch.device,
    ) -> None:
        """Make the classifier.

        Args:
            settings: The constants of the losses.
            styling: The stylisation of the pass.
            identities: How many each source has.
            dimension: Length of an embedding.
            device: Where the classifier is kept.
        """
        self.settings = settings
        self.styling = styling
        self.style = make_style(styling)
        self.offsets = [sum(identities[:number]) for number in range(len(identities))]
        self.classifier = nn.Linear(dimension, sum(identities), bias=False)
        nn.init.normal_(self.classifier.weight, std=0.001)
        self.classifier.to(device)

    @property
    def chance(self) -> float:
        """Ln K for the identity loss, and the triplet loss of equal distances."""
        triplet = math.log(2) if self.settings.margin == "soft" else self.settings.margin
        return math.log(self.classifier.out_features) + triplet

    def parameters(self) -> Iterable[nn.Parameter]:
        """The classifier's weights."""
        return self.classifier.parameters()

    def start(
        self, embedder: Embedder, sources: Sequence[Source], reporter: Reporter, group: ProcessGroup = SINGLE_PROCESS
    ) -> None:
        """Nothing: the classifier has its first weights already."""

    def step(
        self, embedder: Embedder, batches: Sequence[Batch], optimizer_step: OptimizerStep, rng: np.random.Generator
    ) -> Tensor:
        """One `supervised_step` with the batches of all sources as one."""
        images = torch.cat([batch.images for batch in batches])
        labels = torch.cat([batch.labels + offset for batch, offset in zip(batches, self.offsets, strict=True)])
        shard = batches[0].shard.joined([batch.shard for batch in batches[1:]])
        return supervised_step(
            embedder,
            self.classifier,
            Batch(images, labels, shard),
            self.style,
            optimizer_step,
            self.settings,
            self.styling.after_stages,
            rng,
        )

    def state(self) -> dict[str, Tensor]:
        """The classifier's weights."""
        return dict(self.classifier.state_dict())

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up saved weights."""
        self.classifier.load_state_dict(state)
