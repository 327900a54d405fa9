"""From feature maps to one vector an image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

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
