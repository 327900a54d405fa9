"""torchvision's ViT-B/16 (Dosovitskiy et al., ICLR 2021), for images of any size in steps of its patch."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sil_cli.errors import UsageError
from sil_cli.models.backbones.staged import Backbone

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sil_cli.models.backbones.staged import Stylisation

PATCH = 16
STAGE = 3
"""Blocks in a stage."""

PROJECTED = 512
PARTS, SHIFT, GROUPS = 4, 4, 2
"""Of TransReID's jigsaw patch module, as its configurations for people have it (its SHIFT_NUM counts from one)."""

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
        import torchvision  # takes seconds, and nothing else here needs it

        full = torchvision.models.vit_b_16(weights=None)
        self.conv_proj = full.conv_proj
        self.class_token = full.class_token
        self.encoder = full.encoder
        self.before: nn.Module = nn.Identity()
        self.grid = (height // PATCH, width // PATCH)
        positions = self.encoder.pos_embedding.data
        self.encoder.pos_embedding = nn.Parameter(resized_positions(positions, self.grid))

    def forward(
        self, images: Tensor, *, style: Stylisation | None = None, after_stages: Sequence[int] = (1,)
    ) -> Tensor:
        """Feature maps (B, 768, H/16, W/16) of images; see `Backbone.forward`."""
        return self._as_map(self.encoder.ln(self.tokens(images, style=style, after_stages=after_stages)))

    def tokens(self, images: Tensor, *, style: Stylisation | None, after_stages: Sequence[int]) -> Tensor:
        """Tokens (B, 1 + patches, 768) of images behind the last block, the class token first."""
        patches = self.conv_proj(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(patches.shape[0], -1, -1), patches], dim=1)
        tokens = self.before(tokens + self.encoder.pos_embedding)
        for number, block in enumerate(self.encoder.layers, start=1):
            tokens = block(tokens)
            if style is not None and number % STAGE == 0 and number // STAGE in after_stages:
                tokens = torch.cat([tokens[:, :1], _as_tokens(style(self._as_map(tokens)))], dim=1)
        return tokens

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


class ClassTokenViT(StagedViT):
    """ViT-B/16 whose embedding is that of the class token, as TransReID and CLIP-ReID have it.

    Its map has a single place, (B, channels, 1, 1). He et al., "TransReID: Transformer-based Object Re-Identification"
    (ICCV 2021); Li et al., "CLIP-ReID: Exploiting Vision-Language Model for Image Re-Identification without Concrete
    Text Labels" (AAAI 2023).
    """

    def __init__(
        self, *, height: int, width: int, stride: int = PATCH, clip: bool = False, parts: bool = False
    ) -> None:
        """Build it for one image size.

        Args:
            height: Of the images, in pixels.
            width: Of the images, in pixels.
            stride: Of the patches, in pixels; below 16 they overlap.
            clip: CLIP's network, and its projection beside what goes into it: 768 + 512 channels.
            parts: TransReID's jigsaw patch module: a whole and four parts of 768 channels each, the parts quartered.

        Raises:
            UsageError: The image is smaller than a patch.
        """
        super().__init__(height=height // PATCH * PATCH, width=width // PATCH * PATCH)
        blocks = self.encoder.layers
        self.conv_proj = nn.Conv2d(3, self.channels, PATCH, stride, bias=not clip)
        self.grid = ((height - PATCH) // stride + 1, (width - PATCH) // stride + 1)
        self.encoder.pos_embedding = nn.Parameter(torch.zeros(1, 1 + self.grid[0] * self.grid[1], self.channels))
        self.projection: nn.Linear | None = None
        self.parts: nn.ModuleList | None = None
        if clip:
            self.before = nn.LayerNorm(self.channels)
            for block in blocks:
                block.mlp[1] = QuickGELU()
            for module in self.modules():
                if isinstance(module, nn.LayerNorm):
                    module.eps = 1e-5
            self.projection = nn.Linear(self.channels, PROJECTED, bias=False)
            self.channels = self.channels + PROJECTED
        if parts:
            whole = nn.Sequential(blocks[-1], self.encoder.ln)
            self.parts = nn.ModuleList([whole, copy.deepcopy(whole)])
            self.encoder.layers, self.encoder.ln = blocks[:-1], nn.Identity()
            self.channels = self.channels * (1 + PARTS)
            self.stages = 3  # the fourth's last block is the parts' own

    def forward(
        self, images: Tensor, *, style: Stylisation | None = None, after_stages: Sequence[int] = (1,)
    ) -> Tensor:
        """Maps (B, channels, 1, 1) of images; see `Backbone.forward`."""
        tokens = self.tokens(images, style=style, after_stages=after_stages)
        if self.parts is not None:
            return self._whole_and_parts(tokens)[:, :, None, None]
        found = self.encoder.ln(tokens[:, 0])
        if self.projection is not None:
            found = torch.cat([found, self.projection(found)], dim=1)
        maps: Tensor = found[:, :, None, None]
        return maps

    def _whole_and_parts(self, tokens: Tensor) -> Tensor:
        """TransReID's jigsaw patch module: patches are shifted, dealt out to two groups in turn, and cut into four."""
        assert self.parts is not None  # noqa: S101 - `forward` saw to it
        whole, part = self.parts
        first, patches = tokens[:, :1], tokens[:, 1:]
        shifted = torch.cat([patches[:, SHIFT:], patches[:, :SHIFT]], dim=1)
        if shifted.shape[1] % GROUPS:
            shifted = torch.cat([shifted, shifted[:, -2:-1]], dim=1)
        dealt = shifted.reshape(shifted.shape[0], GROUPS, -1, shifted.shape[2]).transpose(1, 2).flatten(1, 2)
        length = patches.shape[1] // PARTS
        pieces = [dealt[:, number * length : (number + 1) * length] for number in range(PARTS)]
        local = [part(torch.cat([first, piece], dim=1))[:, 0] / PARTS for piece in pieces]
        joined: Tensor = torch.cat([whole(tokens)[:, 0], *local], dim=1)
        return joined


class QuickGELU(nn.Module):
    """x · sigmoid(1.702 x), the approximation that CLIP was trained with."""

    def forward(self, features: Tensor) -> Tensor:
        """Of any shape."""
        return features * torch.sigmoid(1.702 * features)


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
