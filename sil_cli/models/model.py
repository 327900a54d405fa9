"""A model that is ready to embed, and where its files lie. Needs torch only where torch computes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sil_cli.errors import UsageError
from sil_cli.models.embed import BATCH, embed
from sil_cli.models.record import ModelFiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from sil_cli.models.embed import ImageLike
    from sil_cli.models.engines.engine import Engine
    from sil_cli.models.record import ModelRecord


@dataclass(frozen=True)
class Model:
    """A trained model, ready to embed images of people; `load_model` makes one.

    Attributes:
        engine: What computes it.
        record: What `model.json` says of the model; an int8 export has another fingerprint than its source here.
        files: Where it came from; both None for a checkpoint's model, which has no files of its own.
    """

    engine: Engine
    record: ModelRecord
    files: ModelFiles = field(default_factory=ModelFiles)

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        return self.engine.dimension

    @property
    def fingerprint(self) -> str:
        """A hash of weights and preprocessing: models with equal fingerprints give embeddings that may be compared."""
        return self.engine.fingerprint

    def embed(self, images: Sequence[ImageLike], *, batch: int = BATCH, flip: bool = False) -> NDArray[np.float32]:
        """Embed images, each of which shows one person.

        Args:
            images: Paths, PIL images or uint8 RGB arrays (H, W, 3), of any size; a path may come with the box to cut
                out, as (path, (left, top, width, height)).
            batch: Images per forward pass.
            flip: Embed each image and its mirror image, and take the mean.

        Returns:
            (N, dimension) float32, rows of unit length, in the order of the images. The product of two rows is the
            cosine similarity of their images.

        Raises:
            ImageError: An image can't be read; names the first.
            UsageError: `images` is no sequence of images.
        """
        if isinstance(images, str | Path):
            raise UsageError("`images` is one path, not several.", "Put it into a list: model.embed([path]).")
        return embed(self.engine, images, batch=batch, flip=flip)
