"""Embedding with PyTorch: any device, and the reference that the other engines are measured against."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from sil_cli.data.images import MAX_PIXELS
from sil_cli.models.convolution_products import multiply_where_quicker
from sil_cli.models.cpu import keep_wrong_layers_in_float32
from sil_cli.models.precision import autocast, to_images

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sil_cli.models.embedder import Embedder


class TorchEngine:
    """An embedder in eval mode on its device."""

    max_pixels = MAX_PIXELS

    def __init__(self, embedder: Embedder, fingerprint: str, *, device: torch.device, bfloat16: bool = False) -> None:
        """Move an embedder to its device, with channels last, where convolutions are quickest.

        Args:
            embedder: The model; is changed in place.
            fingerprint: The model's.
            device: Where it computes.
            bfloat16: Compute convolutions in bfloat16; layers that the CPU gets wrong like that stay in float32.
        """
        if device.type == "cpu":
            multiply_where_quicker(embedder)
            if bfloat16:
                keep_wrong_layers_in_float32(embedder, gradients=False)
        self.embedder = embedder.eval().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.device = device
        self.half = torch.bfloat16 if bfloat16 else None
        where = "" if device.type == "cpu" else f" on {device.type}"
        self.name = f"torch {'bfloat16' if bfloat16 else 'float32'}{where}"
        self.fingerprint = fingerprint
        self.dimension = embedder.dimension
        self.height = embedder.architecture.height
        self.width = embedder.architecture.width
        self.interpolation = embedder.architecture.interpolation

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed RGB pixels (B, height, width, 3) as unit rows (B, dimension)."""
        return embed_pixels(self.embedder, pixels, device=self.device, half=self.half)


@torch.inference_mode()
def embed_pixels(
    embedder: Embedder, pixels: NDArray[np.uint8], *, device: torch.device, half: torch.dtype | None = None
) -> NDArray[np.float32]:
    """Embed pixels (B, height, width, 3) with a model that is in eval mode and on `device`.

    Args:
        embedder: The model.
        pixels: RGB.
        device: Where the model is.
        half: What convolutions are computed in; None for float32.

    Returns:
        (B, dimension), rows of unit length.
    """
    with autocast(device, half):
        embeddings = embedder(to_images(pixels, device))
    found: NDArray[np.float32] = embeddings.float().cpu().numpy()
    return found
