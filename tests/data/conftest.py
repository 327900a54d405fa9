"""Trees of little pictures for the tests of `data`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    MakeImage = Callable[..., Path]


@pytest.fixture
def make_image() -> MakeImage:
    """Write a picture of noise, different for every path; the suffix says the format."""

    def make(path: Path, size: tuple[int, int] = (16, 32), mode: str = "RGB", **options: object) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        seed = list(path.name.encode("utf-8", "surrogateescape"))
        noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(noise).convert(mode).save(path, **options)
        return path

    return make
