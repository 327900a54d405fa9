"""Embeddings of many images, batch by batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from sil_cli.models.precision import autocast
from sil_cli.models.transfer import to_device

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sil_cli.models.embedder import Embedder


def to_images(pixels: np.ndarray, device: torch.device) -> torch.Tensor:
    """uint8 pixels (B, H, W, 3) as a uint8 tensor (B, 3, H, W) on `device`, channels last in memory."""
    return to_device(torch.from_numpy(np.ascontiguousarray(pixels)), device).permute(0, 3, 1, 2)


@torch.inference_mode()
def embed_batches(
    embedder: Embedder, batches: Iterable[np.ndarray], *, device: torch.device, half: torch.dtype | None = None
) -> Iterator[np.ndarray]:
    """Embed batches of pixels with a model that is in eval mode and on `device`.

    Args:
        embedder: The model.
        batches: uint8 arrays (B, height, width, 3).
        device: Where the model is.
        half: What convolutions are computed in; None for float32.

    Yields:
        float32 arrays (B, dimension), rows of unit length.
    """
    for pixels in batches:
        with autocast(device, half):
            embeddings = embedder(to_images(pixels, device))
        yield embeddings.float().cpu().numpy()
