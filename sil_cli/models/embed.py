"""From image files to embeddings: decoding in threads, the network in batches."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.data.images import Box, ImageError, load_image, quiet_decoders, resize_to
from sil_cli.data.parallel import map_in_order
from sil_cli.runtime import cpu_count
from sil_cli.similarity.distance import unit_rows

if TYPE_CHECKING:
    from sil_cli.models.engine import Engine

ImageFile = tuple[Path, Box | None]


@dataclass(frozen=True)
class EmbeddedFiles:
    """A part of the files, embedded.

    Attributes:
        positions: Indices into the files that were given, of those that could be read.
        embeddings: (n, D) float32 rows of unit length, one for each position.
        failed: (path, reason) of those that could not.
    """

    positions: list[int]
    embeddings: np.ndarray
    failed: list[tuple[Path, str]]


def embed_files(
    engine: Engine, files: Sequence[ImageFile], *, batch: int, flip: bool = False
) -> Generator[EmbeddedFiles, None, None]:
    """Embed image files in order, in parts of at most `batch`; an unreadable file is named, not fatal.

    Args:
        engine: Computes the embeddings.
        files: Paths, each with the box to cut out or None.
        batch: Images per forward pass.
        flip: The mean of each image's embedding and its mirror's, scaled to length 1, stands for it.
    """

    def decode(file: ImageFile) -> np.ndarray | ImageError:
        try:
            return resize_to(load_image(file[0], box=file[1]), engine.height, engine.width)
        except ImageError as error:
            return error

    # Closed explicitly, so that Ctrl-C drops what has not begun instead of waiting for it.
    with quiet_decoders(), closing(map_in_order(decode, files, workers=cpu_count())) as chunks:
        decoded = (each for chunk in chunks for each in chunk)
        for start in range(0, len(files), batch):
            part = [next(decoded) for _ in files[start : start + batch]]
            yield _embed(engine, part, start, flip)


def _embed(engine: Engine, part: Sequence[np.ndarray | ImageError], start: int, flip: bool) -> EmbeddedFiles:
    good = [(start + offset, each) for offset, each in enumerate(part) if not isinstance(each, ImageError)]
    failed = [(each.path, each.reason) for each in part if isinstance(each, ImageError)]
    embeddings = np.empty((0, engine.dimension), dtype=np.float32)
    if good:
        pixels = np.stack([each for _, each in good])
        embeddings = engine.embed(pixels)
        if flip:
            mirrored = engine.embed(np.ascontiguousarray(pixels[:, :, ::-1]))
            embeddings = unit_rows(embeddings + mirrored)
    return EmbeddedFiles(positions=[position for position, _ in good], embeddings=embeddings, failed=failed)
