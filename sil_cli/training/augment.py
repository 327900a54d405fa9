"""Augmentation of a whole batch at once, on the device."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from sil_cli.distributed.batch_shard import WHOLE_BATCH, BatchShard
from sil_cli.models.precision import to_device

if TYPE_CHECKING:
    from torch import Tensor

ERASED_AREA = (0.02, 0.4)
ERASED_ASPECT = (0.3, 1 / 0.3)
ATTEMPTS = 10
SINGLE_THREADED = 32_767  # torch spreads work on more values than this over threads


def flip_and_crop(
    images: Tensor, rng: np.random.Generator, *, flip: float, pad: int, shard: BatchShard = WHOLE_BATCH
) -> Tensor:
    """Horizontal flips and random crops from a black border, each image its own; the size stays.

    Args:
        images: (B, C, H, W).
        rng: Draws flips and offsets, of the whole batch where the images are a part of one.
        flip: Chance of a flip, 0..1.
        pad: Pixels of black added on every side before the crop.
        shard: What of a batch the images are.

    Returns:
        (B, C, H, W), same type and device, channels last in memory.
    """
    size = shard.size(len(images))
    flips = (rng.random(size) < flip)[shard.rows]
    tops, lefts = rng.integers(-pad, pad + 1, size=(2, size))[:, shard.rows]
    # Moved as (B, H, W, C), which is how channels-last images lie in memory.
    lying = images.permute(0, 2, 3, 1)
    if images.device.type == "cpu" and images.dtype == torch.uint8:
        moved = torch.from_numpy(_move_one_by_one(lying.numpy(), flips, tops, lefts, pad))
    else:
        moved = _move_by_index(lying, flips, tops, lefts)
    return moved.permute(0, 3, 1, 2)


def _move_one_by_one(
    images: np.ndarray, flips: np.ndarray, tops: np.ndarray, lefts: np.ndarray, pad: int
) -> np.ndarray:
    """Lay each image (H, W, C) uint8 into a border, and copy what is in sight from `top` and `left` on.

    In one thread: batches are made beside a step that keeps all cores busy, and work that is spread over threads waits
    for the slowest of them. On 2 cores, 256×128, bench_feeding.py gives 12,000 to 17,000 images/s; it gave 4,900 with
    torch's copies in 2 threads.
    """
    _, height, width, channels = images.shape
    bordered = np.zeros((height + 2 * pad, width + 2 * pad, channels), dtype=images.dtype)
    moved = np.empty_like(images)
    places = zip(images, moved, flips.tolist(), (tops + pad).tolist(), (lefts + pad).tolist(), strict=True)
    for image, target, flipped, top, left in places:
        bordered[pad : pad + height, pad : pad + width] = _mirrored(image) if flipped else image
        target[:] = bordered[top : top + height, left : left + width]
    return moved


def _mirrored(image: np.ndarray) -> np.ndarray:
    """An image (H, W, C) in a mirror, by strips that torch flips in one thread; NumPy takes four times as long."""
    strip = max(1, SINGLE_THREADED // image[0].size)
    mirrored = np.empty_like(image)
    for start in range(0, len(image), strip):
        mirrored[start : start + strip] = torch.from_numpy(image[start : start + strip]).flip(1).numpy()
    return mirrored


def _move_by_index(images: Tensor, flips: np.ndarray, tops: np.ndarray, lefts: np.ndarray) -> Tensor:
    """Gather every pixel from where it comes, (B, H, W, C): a few kernels for the whole batch."""
    size, height, width, _ = images.shape
    rows = torch.arange(height) + torch.from_numpy(tops)[:, None]
    columns = torch.arange(width) + torch.from_numpy(lefts)[:, None]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    columns = torch.where(torch.from_numpy(flips)[:, None], width - 1 - columns, columns)
    rows, columns = (
        to_device(each.clamp(0, most - 1), images.device) for each, most in ((rows, height), (columns, width))
    )
    sample = torch.arange(size, device=images.device)[:, None, None]
    moved = images[sample, rows[:, :, None], columns[:, None, :]]
    bordered: Tensor = moved * to_device(inside[..., None], images.device).to(images.dtype)
    return bordered


def erase(
    images: Tensor,
    rng: np.random.Generator,
    *,
    probability: float,
    colour: tuple[float, float, float],
    shard: BatchShard = WHOLE_BATCH,
) -> Tensor:
    """Random erasing: a rectangle of some images is painted over, each image its own.

    Its share of the area is uniform in 0.02..0.4 and its height over its width log-uniform in 0.3..3.3; one that does
    not fit is drawn again, up to ten times. (Zhong et al., "Random Erasing Data Augmentation", AAAI 2020, who draw
    the aspect uniformly; log-uniform treats tall and wide alike, as torchvision's does.)

    Args:
        images: (B, 3, H, W), uint8 in 0..255 or floating in 0..1.
        rng: Draws who is erased, and where, of the whole batch where the images are a part of one.
        probability: Of erasing an image.
        colour: RGB in 0..1, painted.
        shard: What of a batch the images are.

    Returns:
        (B, 3, H, W), same type and device.
    """
    held, _, height, width = images.shape
    size = shard.size(held)
    chosen = rng.random(size) < probability
    area = rng.uniform(*ERASED_AREA, size=(size, ATTEMPTS)) * height * width
    aspect = np.exp(rng.uniform(math.log(ERASED_ASPECT[0]), math.log(ERASED_ASPECT[1]), size=(size, ATTEMPTS)))
    tall, wide = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
    fits = (tall >= 1) & (tall < height) & (wide >= 1) & (wide < width)
    first = fits.argmax(axis=1)[:, None]
    tall, wide = (np.take_along_axis(each, first, axis=1)[:, 0] for each in (tall, wide))
    top = np.floor(rng.random(size) * (height - tall + 1))
    left = np.floor(rng.random(size) * (width - wide + 1))
    chosen &= fits.any(axis=1)
    chosen, top, left, tall, wide = (each[shard.rows] for each in (chosen, top, left, tall, wide))

    def within(count: int, start: np.ndarray, length: np.ndarray) -> np.ndarray:
        places = np.arange(count)
        inside: np.ndarray = (places >= start[:, None]) & (places < (start + length)[:, None])
        return inside

    mask = within(height, top, tall)[:, :, None] & within(width, left, wide)[:, None, :] & chosen[:, None, None]
    paint = torch.tensor(colour, device=images.device)[None, :, None, None]
    if images.dtype == torch.uint8:
        paint = (paint * 255).round()
    return torch.where(to_device(torch.from_numpy(mask), images.device)[:, None], paint.to(images.dtype), images)
