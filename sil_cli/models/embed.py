"""From images to embeddings: decoding in threads, the network in batches."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sil_cli.data.images import Box, ImageError, load_image, quiet_decoders, resize_to, upright_rgb
from sil_cli.errors import UsageError, one_line
from sil_cli.runtime import cpu_count, map_in_order
from sil_cli.similarity.distance import unit_rows

if TYPE_CHECKING:
    from sil_cli.models.engines.engine import Engine
    from sil_cli.runtime import Task

BATCH = 64
"""Images per forward pass where nobody says."""

ImageFile = tuple[Path, Box | None]
"""A file, and the box to cut out of its upright picture; None for all of it."""

ImageLike = str | Path | ImageFile | Image.Image | NDArray[np.uint8]
"""What can be embedded: a file, a part of one, a PIL image, or RGB pixels (H, W, 3)."""


@dataclass(frozen=True)
class EmbeddedBatch:
    """Some of the images, embedded.

    Attributes:
        positions: Indices into the images that were given, of those that could be read.
        embeddings: (n, D) float32 rows of unit length, one for each position.
        failed: (path, reason) of those that could not be read.
    """

    positions: list[int]
    embeddings: NDArray[np.float32]
    failed: list[tuple[Path, str]]


def embed(
    engine: Engine, images: Sequence[ImageLike], *, batch: int = BATCH, flip: bool = False, task: Task | None = None
) -> NDArray[np.float32]:
    """Embed images, all of which must be readable.

    Args:
        engine: Computes the embeddings.
        images: What to embed.
        batch: Images per forward pass.
        flip: The mean of each image's embedding and its mirror image's, scaled to length 1, stands for it.
        task: Shows the progress.

    Returns:
        (N, D) float32, rows of unit length, in the order of the images.

    Raises:
        ImageError: An image can't be read; names the first.
        UsageError: Something is no image at all.
    """
    rows = [np.empty((0, engine.dimension), dtype=np.float32)]
    with closing(embed_batches(engine, images, batch=batch, flip=flip)) as batches:
        for part in batches:
            if part.failed:
                raise ImageError(*part.failed[0])
            rows.append(part.embeddings)
            if task is not None:
                task.advance(len(part.embeddings))
    return np.concatenate(rows)


def embed_batches(
    engine: Engine, images: Sequence[ImageLike], *, batch: int, flip: bool = False
) -> Generator[EmbeddedBatch, None, None]:
    """As `embed`, batch after batch and in bounded memory; an unreadable image is named, not fatal.

    Hold it in `contextlib.closing`, so that Ctrl-C stops decoding at once.

    Yields:
        For every `batch` images, in their order, what became of them.
    """

    def decode(image: ImageLike) -> NDArray[np.uint8] | ImageError:
        try:
            return resize_to(_opened(image, engine.max_pixels), engine.height, engine.width, engine.interpolation)
        except ImageError as error:
            return error

    # Closed explicitly, so that Ctrl-C drops what has not begun instead of waiting for it.
    with quiet_decoders(), closing(map_in_order(decode, images, workers=cpu_count())) as chunks:
        decoded = (each for chunk in chunks for each in chunk)
        for start in range(0, len(images), batch):
            part = [next(decoded) for _ in images[start : start + batch]]
            yield _embed(engine, part, start, flip)


def _opened(image: ImageLike, max_pixels: int) -> Image.Image:
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise UsageError(
                f"An array of shape {image.shape} and type {image.dtype} is not an image.", "Pass uint8 RGB, (H, W, 3)."
            )
        return Image.fromarray(image)
    if isinstance(image, Image.Image):
        name = Path(getattr(image, "filename", "") or "image")
        try:
            own = image.copy()
        except OSError as error:  # it was opened, and can't be decoded
            raise ImageError(name, one_line(error)) from error
        return upright_rgb(own, name)
    path, box = image if isinstance(image, tuple) else (image, None)
    return load_image(Path(path), max_pixels=max_pixels, box=box)


def _embed(engine: Engine, part: Sequence[NDArray[np.uint8] | ImageError], start: int, flip: bool) -> EmbeddedBatch:
    good = [(start + offset, each) for offset, each in enumerate(part) if not isinstance(each, ImageError)]
    failed = [(each.path, each.reason) for each in part if isinstance(each, ImageError)]
    embeddings = np.empty((0, engine.dimension), dtype=np.float32)
    if good:
        pixels = np.stack([each for _, each in good])
        embeddings = engine.embed(pixels)
        if flip:
            mirrored = engine.embed(np.ascontiguousarray(pixels[:, :, ::-1]))
            embeddings = unit_rows(embeddings + mirrored)
    return EmbeddedBatch(positions=[position for position, _ in good], embeddings=embeddings, failed=failed)
