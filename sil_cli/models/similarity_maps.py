"""Where two images agree: the cosine similarity of their embeddings as an exact sum over places.

With global average pooling and a batch norm neck, an embedding is itself a sum over the L places of the feature map.
The neck in eval mode is affine, neck(p) = a ⊙ p + c, and p = (1/L) Σ_l m_l, so that

    f = neck(p) / ‖neck(p)‖ = Σ_l u_l   with   u_l = (a ⊙ m_l + c) / (L · ‖neck(p)‖),

and for any other embedding g

    <f, g> = Σ_l <u_l, g>.

Each term is what one place of the image contributes to the similarity; it may be negative. This is the decomposition
of Stylianou, Souvenir and Pless, "Visualizing Deep Similarity Networks" (WACV 2019), carried through the neck. Places
of the last stage see beyond their own square of the image, so a map shows roughly where, not sharply.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from sil_cli.errors import ModelError
from sil_cli.models.precision import to_images

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from sil_cli.models.embedder import Embedder

TOLERANCE = 1e-3


@torch.inference_mode()
def local_embeddings(embedder: Embedder, pixels: np.ndarray, *, device: torch.device) -> np.ndarray:
    """What each place of the feature map contributes to its image's embedding.

    Args:
        embedder: In eval mode, on `device`.
        pixels: (B, height, width, 3) uint8.
        device: Where the model is.

    Returns:
        (B, h, w, D) float32; the sum over h and w is the embedding.

    Raises:
        ModelError: The embedding is no such sum: the model doesn't pool by the mean over a feature map.
    """
    seen: list[Tensor] = []

    def keep(module: nn.Module, given: object, maps: Tensor) -> None:
        del module, given
        seen.append(maps)

    handle = embedder.backbone.register_forward_hook(keep)
    try:
        embeddings = embedder(to_images(pixels, device)).float()
    finally:
        handle.remove()
    maps = seen[-1]
    if maps.ndim == 4 and maps.shape[1] == embeddings.shape[1]:
        local = _shares(embedder.neck, maps.float())
        if torch.allclose(local.sum(dim=(1, 2)), embeddings, atol=TOLERANCE):
            return local.cpu().numpy()
    raise ModelError(
        "This model does not average over a feature map, so its similarities can't be attributed to places.",
        "Use --no-similarity-maps.",
    )


def similarity_map(local: np.ndarray, embedding: np.ndarray) -> np.ndarray:
    """What each place of one image contributes to its similarity with another.

    Args:
        local: (h, w, D), `local_embeddings` of the one image.
        embedding: (D,), of the other one.

    Returns:
        (h, w); the sum is the cosine similarity of the two images.
    """
    shares: np.ndarray = local @ embedding
    return shares


def _shares(neck: nn.Module, maps: Tensor) -> Tensor:
    """u_l of every place, (B, h, w, D)."""
    _, channels, height, width = maps.shape
    offset = neck(maps.new_zeros(1, channels))
    scale = neck(maps.new_ones(1, channels)) - offset
    rows = maps.permute(0, 2, 3, 1) * scale + offset
    lengths = rows.mean(dim=(1, 2)).norm(dim=1).clamp_min(1e-12)  # as F.normalize has it
    shares: Tensor = rows / (height * width * lengths[:, None, None, None])
    return shares
