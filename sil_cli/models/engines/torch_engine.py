"""Embedding with PyTorch: any device, and the reference that the other engines are measured against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from sil_cli.models.convolution_products import multiply_where_quicker
from sil_cli.models.cpu import keep_wrong_layers_in_float32
from sil_cli.models.precision import autocast, to_images

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sil_cli.models.embedder import Embedder


@dataclass(frozen=True)
class TorchEngine:
    """An embedder in eval mode; use `make_torch_engine` to get one.

    Attributes:
        embedder: On `device`.
        fingerprint: The model's.
        device: Where it computes.
        bfloat16: Convolutions in bfloat16.
    """

    embedder: Embedder
    fingerprint: str
    device: torch.device
    bfloat16: bool = False

    @property
    def name(self) -> str:
        """The library and its precision."""
        where = "" if self.device.type == "cpu" else f" on {self.device.type}"
        return f"torch {'bfloat16' if self.bfloat16 else 'float32'}{where}"

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        return self.embedder.dimension

    @property
    def height(self) -> int:
        """Input height in pixels."""
        return self.embedder.architecture.height

    @property
    def width(self) -> int:
        """Input width in pixels."""
        return self.embedder.architecture.width

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed RGB pixels (B, height, width, 3) as unit rows (B, dimension)."""
        return embed_pixels(self.embedder, pixels, device=self.device, half=torch.bfloat16 if self.bfloat16 else None)


def make_torch_engine(
    embedder: Embedder, fingerprint: str, *, device: torch.device, bfloat16: bool = False
) -> TorchEngine:
    """Move an embedder to its device, in eval mode and with channels last, where convolutions are quickest.

    Layers that the CPU gets wrong in bfloat16 stay in float32.
    """
    if device.type == "cpu":
        multiply_where_quicker(embedder)
        if bfloat16:
            keep_wrong_layers_in_float32(embedder, gradients=False)
    ready = embedder.eval().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return TorchEngine(ready, fingerprint, device, bfloat16)


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
