"""What was around a crop in the footage that it was cut out of."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageDraw

from sil_cli.data.images import load_image, parse_box
from sil_cli.errors import DataError
from sil_cli.footage.sources import images_in
from sil_cli.footage.videos import read_frame
from sil_cli.report.canvas import LETTERBOX, fitted, pixelated

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from sil_cli.data.images import Box

_AROUND: Final = 2.4  # heights of the person that the part of the frame is high, where the frame has them
_CROP_SHARE: Final = 0.52  # of the picture's height
_INK: Final = "#f59e0b"


def read_moment(metadata: Mapping[str, str], folder: Path, *, max_pixels: int) -> tuple[NDArray[np.uint8], Box]:
    """The frame that a crop was cut out of, and its box in it.

    Args:
        metadata: Of the crop, as `sil crop` wrote it: video, frame, seconds, frame_box.
        folder: That `video` is relative to.
        max_pixels: The most pixels of a frame that is read.

    Raises:
        DataError: The metadata is not of that kind, or the footage can't be read any more.
    """
    again = "Put the footage back where it was, or leave out --context."
    try:
        box = parse_box(metadata["frame_box"])
        seconds, index = float(metadata["seconds"]), int(metadata["frame"])
        video = folder / metadata["video"]
        if not math.isfinite(seconds) or index < 0:
            raise ValueError("a moment that is none")
        if video.is_dir():
            return _image_at(video, index, max_pixels), box
        if not video.is_file():
            raise DataError(f"{video} is not there any more.", again)
    except (KeyError, ValueError, OSError, OverflowError) as error:
        raise DataError("what is known of its place in the footage can't be read.", again) from error
    return read_frame(video, video.name, seconds, max_pixels=max_pixels), box


def _image_at(folder: Path, index: int, max_pixels: int) -> NDArray[np.uint8]:
    inner = folder / "img1"
    images = images_in(inner if inner.is_dir() else folder)
    if index >= len(images):
        raise DataError(f"{folder} has no image {index}.", "Put the footage back as it was.")
    return np.asarray(load_image(images[index], max_pixels=max_pixels))


def in_context(
    crop: Image.Image, frame: NDArray[np.uint8], box: Box, size: tuple[int, int], *, hide_others: bool
) -> Image.Image:
    """A crop and below it the part of the frame around it, with its box.

    Args:
        crop: The person.
        frame: (height, width, 3), uint8.
        box: Where the person is in it.
        size: Width and height of the result.
        hide_others: Pixelate what is outside the box: people nobody asked for.
    """
    width, height = size
    upper = round(_CROP_SHARE * height)
    shape = (width, height - upper)
    left, top, right, bottom = _part(frame.shape[:2], box, shape)
    whole = Image.fromarray(np.ascontiguousarray(frame[top:bottom, left:right]))
    around = fitted(whole, shape)
    scale = min(shape[0] / whole.width, shape[1] / whole.height)
    shift = ((shape[0] - scale * whole.width) / 2, (shape[1] - scale * whole.height) / 2)
    edges = [
        shift[0] + scale * (box[0] - left),
        shift[1] + scale * (box[1] - top),
        shift[0] + scale * (box[0] + box[2] - left),
        shift[1] + scale * (box[1] + box[3] - top),
    ]
    if hide_others:
        first, second, third, fourth = (round(edge) for edge in edges)
        person = around.crop((first, second, third, fourth))
        around = pixelated(around)
        around.paste(person, (first, second))
    ImageDraw.Draw(around).rectangle(edges, outline=_INK, width=2)
    picture = Image.new("RGB", size, LETTERBOX)
    picture.paste(fitted(crop, (width, upper - 4)), (0, 0))
    picture.paste(around, (0, upper))
    return picture


def _part(frame: tuple[int, ...], box: Box, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the part of a frame of that shape around a box, as far as the frame goes."""
    rows, columns = frame
    high = min(float(rows), _AROUND * box[3])
    wide = min(float(columns), max(high * shape[0] / shape[1], box[2]))
    left = min(max(box[0] + box[2] / 2 - wide / 2, 0), columns - wide)
    top = min(max(box[1] + box[3] / 2 - high / 2, 0), rows - high)
    return round(left), round(top), max(round(left + wide), round(left) + 1), max(round(top + high), round(top) + 1)
