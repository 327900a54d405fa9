"""Batch augmentation against one image at a time by PIL."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from sil_cli.training.augment import (
    _move_by_index,
    _move_one_by_one,
    erase,
    flip_and_crop,
)


def by_pil(image: np.ndarray, *, flipped: bool, top: int, left: int, pad: int) -> np.ndarray:
    picture = Image.fromarray(image)
    if flipped:
        picture = ImageOps.mirror(picture)
    padded = ImageOps.expand(picture, border=pad, fill=0)
    left, top = left + pad, top + pad
    return np.asarray(padded.crop((left, top, left + picture.width, top + picture.height)))


def test_every_image_is_flipped_padded_and_cropped_as_pil_would() -> None:
    pixels = np.random.default_rng(0).integers(1, 256, size=(20, 12, 7, 3), dtype=np.uint8)
    pad = 4
    moved = flip_and_crop(torch.from_numpy(pixels).permute(0, 3, 1, 2), np.random.default_rng(8), flip=0.5, pad=pad)
    replay = np.random.default_rng(8)
    flips, (tops, lefts) = replay.random(20) < 0.5, replay.integers(-pad, pad + 1, size=(2, 20))
    assert flips.any()
    assert not flips.all()
    for index, image in enumerate(pixels):
        expected = by_pil(image, flipped=bool(flips[index]), top=int(tops[index]), left=int(lefts[index]), pad=pad)
        np.testing.assert_array_equal(moved[index].permute(1, 2, 0).numpy(), expected)
    assert moved.dtype == torch.uint8
    assert moved.is_contiguous(memory_format=torch.channels_last)


def test_nothing_to_do_changes_nothing() -> None:
    images = torch.rand(3, 3, 5, 4)
    assert torch.equal(flip_and_crop(images, np.random.default_rng(0), flip=0.0, pad=0), images)


def test_offsets_cover_the_border_evenly() -> None:
    # A single bright pixel shows where each crop was taken.
    images = torch.zeros(4000, 1, 9, 9)
    images[:, :, 4, 4] = 1
    moved = flip_and_crop(images, np.random.default_rng(0), flip=0.0, pad=1)
    where = moved.sum(dim=0)[0, 3:6, 3:6]
    assert where.sum() == 4000
    assert (where / 4000 - 1 / 9).abs().max() < 0.03


def test_both_ways_of_moving_are_one() -> None:
    rng = np.random.default_rng(4)
    # The second is larger than a strip that is mirrored at once.
    for count, height, width in ((40, 9, 7), (3, 170, 90)):
        images = rng.integers(1, 256, (count, height, width, 3), dtype=np.uint8)
        flips, (tops, lefts) = rng.random(count) < 0.5, rng.integers(-12, 13, size=(2, count))  # also out of sight
        moved = torch.from_numpy(_move_one_by_one(images, flips, tops, lefts, 12))
        assert torch.equal(moved, _move_by_index(torch.from_numpy(images), flips, tops, lefts))
        assert moved.dtype == torch.uint8
        assert (moved == 0).all(dim=(1, 2, 3)).any() == (height == 9)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_erasing_paints_one_rectangle_of_the_mean_colour(dtype: torch.dtype) -> None:
    colour, count = (0.2, 0.4, 0.6), 3000
    images = torch.full((count, 3, 32, 16), 255 if dtype == torch.uint8 else 1, dtype=dtype)
    erased = erase(images, np.random.default_rng(0), probability=0.5, colour=colour)
    assert erased.dtype == dtype
    painted = (erased != images).any(dim=1)
    hit = painted.flatten(1).any(dim=1)
    assert abs(hit.float().mean() - 0.5) < 4.5 * 0.5 / np.sqrt(count)
    expected = torch.tensor(colour) * (255 if dtype == torch.uint8 else 1)
    paint = erased.permute(0, 2, 3, 1)[painted].float()
    torch.testing.assert_close(paint, expected.expand_as(paint), rtol=0, atol=0.5 if dtype == torch.uint8 else 1e-6)
    rows, columns = painted.any(dim=2).sum(dim=1)[hit], painted.any(dim=1).sum(dim=1)[hit]
    area = painted.flatten(1).sum(dim=1)[hit]
    assert torch.equal(area, rows * columns)  # a full rectangle
    share = area / (32 * 16)
    assert share.min() > 0.005
    assert share.max() < 0.45
    assert abs(share.mean() - 0.2) < 0.03  # 0.21, less what does not fit
    assert (rows < 32).all()
    assert (columns < 16).all()
    # Everywhere is erased now and then.
    assert painted.any(dim=0).all()


def test_no_erasing_changes_nothing() -> None:
    images = torch.rand(5, 3, 8, 4)
    assert torch.equal(erase(images, np.random.default_rng(0), probability=0.0, colour=(0, 0, 0)), images)
