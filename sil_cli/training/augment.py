"""Augmentation of a whole batch at once, on the device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor


def flip_and_crop(images: Tensor, rng: np.random.Generator, *, flip: float, pad: int) -> Tensor:
    """Horizontal flips and random crops from a black border, each image its own; the size stays.

    Args:
        images: (B, C, H, W).
        rng: Draws flips and offsets.
        flip: Chance of a flip, 0..1.
        pad: Pixels of black added on every side before the crop.

    Returns:
        (B, C, H, W), same type and device, channels last in memory.
    """
    flips = rng.random(len(images)) < flip
    tops, lefts = rng.integers(-pad, pad + 1, size=(2, len(images)))
    move = _move_one_by_one if images.device.type == "cpu" else _move_by_index
    # Moved as (B, H, W, C), which is how channels-last images lie in memory.
    return move(images.permute(0, 2, 3, 1), flips, tops, lefts).permute(0, 3, 1, 2)


def _move_one_by_one(images: Tensor, flips: np.ndarray, tops: np.ndarray, lefts: np.ndarray) -> Tensor:
    """Copy the part of each image that stays in sight, (B, H, W, C): 15 to 40 times as fast on a CPU as an index."""
    moved = torch.zeros(images.shape, dtype=images.dtype)
    _, height, width, _ = images.shape
    for image, target, flipped, top, left in zip(
        images, moved, flips.tolist(), tops.tolist(), lefts.tolist(), strict=True
    ):
        if abs(top) < height and abs(left) < width:
            rows, columns = _in_sight(top, height), _in_sight(left, width)
            seen = image.flip(1) if flipped else image
            target[_shifted(rows, top), _shifted(columns, left)] = seen[rows, columns]
    return moved


def _in_sight(offset: int, length: int) -> slice:
    return slice(max(offset, 0), min(length, length + offset))


def _shifted(places: slice, offset: int) -> slice:
    return slice(places.start - offset, places.stop - offset)


def _move_by_index(images: Tensor, flips: np.ndarray, tops: np.ndarray, lefts: np.ndarray) -> Tensor:
    """Gather every pixel from where it comes, (B, H, W, C): a few kernels for the whole batch."""
    size, height, width, _ = images.shape
    rows = torch.arange(height) + torch.from_numpy(tops)[:, None]
    columns = torch.arange(width) + torch.from_numpy(lefts)[:, None]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    columns = torch.where(torch.from_numpy(flips)[:, None], width - 1 - columns, columns)
    rows, columns = rows.clamp(0, height - 1).to(images.device), columns.clamp(0, width - 1).to(images.device)
    sample = torch.arange(size, device=images.device)[:, None, None]
    moved = images[sample, rows[:, :, None], columns[:, None, :]]
    bordered: Tensor = moved * inside[..., None].to(images.device, images.dtype)
    return bordered
