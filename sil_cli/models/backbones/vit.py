"""torchvision's ViT-B/16 (Dosovitskiy et al., ICLR 2021), for images of any size in steps of its patch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from sil_cli.errors import UsageError
from sil_cli.models.backbones.staged import Backbone

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sil_cli.models.backbones.staged import Stylisation

PATCH = 16
POSITIONS = "encoder.pos_embedding"


class StagedViT(Backbone):
    """ViT-B/16 in four stages of three blocks; its map is that of the patches' tokens.

    A style sees the patches' tokens as a map (B, 768, H/16, W/16) and leaves the class token alone. Positions of a
    published file are interpolated bicubically to this image size, as is usual.
    """

    channels = 768
    stages = 4
    head_prefixes = ("heads.",)

    def __init__(self, *, height: int, width: int) -> None:
        """Build it for one image size.

        Raises:
            UsageError: The size is no multiple of the patch's.
        """
        super().__init__()
        if height % PATCH or width % PATCH:
            raise UsageError(
                f"vit_b_16 can't take images of {height}×{width}.", f"Choose multiples of {PATCH}: 256×128 or 224×224."
            )
        full = torchvision.models.vit_b_16(weights=None)
        self.conv_proj = full.conv_proj
        self.class_token = full.class_token
        self.encoder = full.encoder
        self.grid = (height // PATCH, width // PATCH)
        positions = self.encoder.pos_embedding.data
        self.encoder.pos_embedding = nn.Parameter(resized_positions(positions, self.grid))

    def forward(
        self, images: Tensor, *, style: Stylisation | None = None, after_stages: Sequence[int] = (1,)
    ) -> Tensor:
        """Feature maps (B, 768, H/16, W/16) of images; see `Backbone.forward`."""
        patches = self.conv_proj(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(patches.shape[0], -1, -1), patches], dim=1)
        tokens = self.encoder.dropout(tokens + self.encoder.pos_embedding)
        blocks = list(self.encoder.layers)
        per_stage = len(blocks) // self.stages
        for number, block in enumerate(blocks, start=1):
            tokens = block(tokens)
            if style is not None and number % per_stage == 0 and number // per_stage in after_stages:
                tokens = torch.cat([tokens[:, :1], _as_tokens(style(self._as_map(tokens)))], dim=1)
        return self._as_map(self.encoder.ln(tokens))

    def adapted(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A published file's parameters, its positions interpolated to this image size."""
        adapted = super().adapted(state)
        positions = adapted.get(POSITIONS)
        if positions is None or not positions.is_floating_point():  # whole numbers are refused by who loads them
            return adapted
        if positions.ndim == 3 and _is_square(positions.shape[1] - 1):
            adapted[POSITIONS] = resized_positions(positions, self.grid)
        return adapted

    def _as_map(self, tokens: Tensor) -> Tensor:
        patches = tokens[:, 1:].transpose(1, 2)
        return patches.reshape(*patches.shape[:2], *self.grid)


def resized_positions(positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Position embeddings for another grid of patches, bicubically interpolated.

    Args:
        positions: (1, 1 + n², C): the class token's, then those of a square grid; or of `grid` already.
        grid: (rows, columns) wanted.

    Returns:
        (1, 1 + rows·columns, C).
    """
    count = positions.shape[1] - 1
    if count == grid[0] * grid[1]:
        return positions
    side = round(count**0.5)
    square = positions[:, 1:].transpose(1, 2).reshape(1, positions.shape[2], side, side)
    resized = F.interpolate(square, size=grid, mode="bicubic", antialias=True)
    return torch.cat([positions[:, :1], _as_tokens(resized)], dim=1)


def _is_square(count: int) -> bool:
    return math.isqrt(count) ** 2 == count


def _as_tokens(maps: Tensor) -> Tensor:
    return maps.flatten(2).transpose(1, 2)
