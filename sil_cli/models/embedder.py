"""The embedder: a person crop in, one unit vector out; and its form on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sil_cli.defaults import RECORD_FILE
from sil_cli.errors import ModelError, one_line
from sil_cli.files import LARGEST_FILE, read_bytes, write_bytes, write_json
from sil_cli.models.backbones import make_backbone, published_normalisation
from sil_cli.models.record import OTHER_MODEL, WEIGHTS_FILE, Architecture, ModelRecord, fingerprint_of, read_record

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from sil_cli.models.record import ModelCard
    from sil_cli.settings import ModelSettings

SMALLEST = 1e-6
"""Values are raised to this before a power is taken."""


class AveragePooling(nn.Module):
    """Global average pooling."""

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C)."""
        return maps.mean(dim=(2, 3))


class GeneralisedMeanPooling(nn.Module):
    """GeM: (mean over H and W of x^p)^(1/p), with one learnt p for all channels.

    Radenović et al., "Fine-tuning CNN Image Retrieval with No Human Annotation", TPAMI 2019, equation 4. p = 1 is the
    average, a large p the maximum.
    """

    def __init__(self, power: float = 3.0) -> None:
        """Start from this p."""
        super().__init__()
        self.power = nn.Parameter(torch.tensor(power))

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C), positive."""
        powers = maps.clamp(min=SMALLEST).to(self.power.dtype) ** self.power
        pooled: Tensor = powers.mean(dim=(2, 3)) ** (1 / self.power)
        return pooled


class Embedder(nn.Module):
    """normalise(BNNeck(GAP(backbone(x)))), as the paper's section III and its code have it, or a variant of it.

    The neck is a batch norm without a learnt shift (Luo et al., "Bag of Tricks", CVPRW 2019): its bias stays 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, architecture: Architecture) -> None:
        """Build it with random weights."""
        super().__init__()
        self.architecture = architecture
        self.backbone = make_backbone(architecture)
        self.pool: nn.Module = AveragePooling() if architecture.pooling == "average" else GeneralisedMeanPooling()
        self.projection: nn.Module = nn.Identity()
        if architecture.dimension is not None:
            self.projection = nn.Linear(self.backbone.channels, architecture.dimension, bias=False)
        self.neck: nn.Module = nn.Identity()
        if architecture.neck:
            norm = nn.BatchNorm1d(self.dimension)
            norm.bias.requires_grad_(False)
            self.neck = nn.Sequential(norm, nn.ReLU()) if architecture.neck_relu else norm
        self.register_buffer("mean", torch.tensor(architecture.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(architecture.std).view(1, 3, 1, 1), persistent=False)

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        return self.architecture.dimension or self.backbone.channels

    def forward(
        self, images: Tensor, *, style: Callable[[Tensor], Tensor] | None = None, after_stages: Sequence[int] = (1,)
    ) -> Tensor:
        """Embeddings of images.

        Args:
            images: (B, 3, height, width), RGB, uint8 in 0..255 or floating in 0..1.
            style: A stylisation of feature maps (B, C, H, W); None for none. In eval mode it is left out.
            after_stages: The stages that it follows, 1 to 4.

        Returns:
            (B, dimension), rows of unit length, in the type of the parameters.
        """
        return F.normalize(self.neck(self.pooled(images, style=style, after_stages=after_stages)), dim=1)

    def pooled(
        self, images: Tensor, *, style: Callable[[Tensor], Tensor] | None = None, after_stages: Sequence[int] = (1,)
    ) -> Tensor:
        """Features before the neck, (B, dimension), for arguments as of `forward`."""
        if images.dtype == torch.uint8:
            images = images.to(self.mean.dtype) / 255
        images = (images - self.mean) / self.std
        maps = self.backbone(images, style=style if self.training else None, after_stages=after_stages)
        # Under autocast maps are bfloat16; what follows is small and decides the result, so it runs in full.
        with torch.autocast(maps.device.type, enabled=False):
            pooled: Tensor = self.projection(self.pool(maps.to(self.mean.dtype)))
        return pooled


def state_record(embedder: Embedder, card: ModelCard | None = None) -> tuple[ModelRecord, bytes]:
    """The record of an embedder as it is, with the card of where it came from, and the content of its weights file."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in embedder.state_dict().items()}
    content = safetensors.torch.save(state)
    fingerprint = fingerprint_of(embedder.architecture, content)
    return ModelRecord(
        architecture=embedder.architecture, dimension=embedder.dimension, fingerprint=fingerprint, card=card
    ), content


def save_model(folder: Path, embedder: Embedder, card: ModelCard | None = None) -> ModelRecord:
    """Write `model.safetensors`, then `model.json`, each whole or not at all.

    Raises:
        OSError: The folder can't be written.
    """
    record, content = state_record(embedder, card)
    write_bytes(folder / WEIGHTS_FILE, content)
    write_json(folder / RECORD_FILE, record.document())
    return record


def load_embedder(folder: Path) -> tuple[Embedder, ModelRecord]:
    """Load the model in `folder`, in eval mode on the CPU.

    Raises:
        ModelError: It is missing, damaged, of another format, or its weights are not those of its record.
        SilError: Its record is damaged.
    """
    again = OTHER_MODEL
    record = read_record(folder)
    try:
        content = read_bytes(folder / WEIGHTS_FILE, most=LARGEST_FILE)
        state = safetensors.torch.load(content)
    except (OSError, safetensors.SafetensorError) as error:
        why = one_line(error) if isinstance(error, OSError) else "it is damaged"
        raise ModelError(f"{folder / WEIGHTS_FILE} can't be read: {why}.", again) from error
    if fingerprint_of(record.architecture, content) != record.fingerprint:
        raise ModelError(f"{folder / WEIGHTS_FILE} does not belong to {RECORD_FILE} beside it.", again)
    embedder = Embedder(record.architecture)
    try:
        embedder.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(f"{folder / WEIGHTS_FILE} does not fit its own {RECORD_FILE}.", again) from error
    return embedder.eval(), record


def architecture(model: ModelSettings) -> Architecture:
    """What must be known to build the model that the settings ask for.

    Raises:
        UsageError: There is no such backbone, or timm is not installed.
    """
    published = published_normalisation(model.backbone)
    named = model.model_dump(exclude={"weights", "mean", "std"})
    return Architecture(**named, mean=model.mean or published.mean, std=model.std or published.std)
