"""Augmentation of a whole batch at once, on the device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


def flip_and_crop(images: Tensor, rng: np.random.Generator, *, flip: float, pad: int) -> Tensor:
    """Horizontal flips and random crops from a black border, each image its own; the size stays.

    Args:
        images: (B, C, H, W).
        rng: Draws flips and offsets.
        flip: Chance of a flip, 0..1.
        pad: Pixels of black added on every side before the crop.

    Returns:
        (B, C, H, W), same type and device.
    """
    size, _, height, width = images.shape
    flips = torch.from_numpy(rng.random(size) < flip)
    tops, lefts = torch.from_numpy(rng.integers(-pad, pad + 1, size=(2, size)))
    rows = torch.arange(height) + tops[:, None]
    columns = torch.arange(width) + lefts[:, None]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    columns = torch.where(flips[:, None], width - 1 - columns, columns)
    rows, columns = rows.clamp(0, height - 1).to(images.device), columns.clamp(0, width - 1).to(images.device)
    sample = torch.arange(size, device=images.device)[:, None, None]
    # Gathered as (B, H, W, C), which is how channels-last images lie in memory.
    moved = images.permute(0, 2, 3, 1)[sample, rows[:, :, None], columns[:, None, :]]
    bordered: Tensor = moved * inside[..., None].to(images.device, images.dtype)
    return bordered.permute(0, 3, 1, 2)
