"""The colour-histogram baseline: what clothing colours alone can tell."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_STRIPES = 6
_HUES, _SATURATIONS, _VALUES = 8, 4, 4


def colour_histogram(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """An HSV histogram of six horizontal stripes of the middle half, joined, square-rooted and L2-normalised.

    The outer quarters of the columns show background more than person, and are left out. Stripes of colour
    histograms are the classic hand-made descriptor of people (Gray and Tao, "Viewpoint
    Invariant Pedestrian Recognition with an Ensemble of Localized Features", ECCV 2008). The square root makes
    the inner product the Hellinger kernel (Arandjelović and Zisserman, "Three things everyone should know to
    improve object retrieval", CVPR 2012).

    Args:
        image: (height, width, 3), RGB, 0 to 255; at least six rows and one column.

    Returns:
        (6 · 8 · 4 · 4,) = (768,) float32 of length 1; compare by inner product.

    Raises:
        ValueError: The image has another shape or type.
    """
    if (
        image.dtype != np.uint8
        or image.ndim != 3
        or image.shape[2] != 3
        or image.shape[0] < _STRIPES
        or not image.shape[1]
    ):
        raise ValueError(f"expected (height >= {_STRIPES}, width, 3) uint8, got {image.shape} {image.dtype}")
    edge = image.shape[1] // 4
    bins = _bins(image[:, edge : image.shape[1] - edge].astype(np.float32) * np.float32(1 / 255))
    size = _HUES * _SATURATIONS * _VALUES
    stripes = [np.bincount(stripe.ravel(), minlength=size) / stripe.size for stripe in np.array_split(bins, _STRIPES)]
    joined = np.sqrt(np.concatenate(stripes))
    histogram: NDArray[np.float32] = (joined / np.linalg.norm(joined)).astype(np.float32)
    return histogram


def _bins(image: NDArray[np.float32]) -> NDArray[np.intp]:
    """The number of each pixel's (hue, saturation, value) cell."""
    high, low = image.max(axis=2), image.min(axis=2)
    spread = high - low
    safe = np.where(spread > 0, spread, 1)
    red, green, blue = np.moveaxis(image, 2, 0)
    sector = np.where(
        high == red, (green - blue) / safe, np.where(high == green, 2 + (blue - red) / safe, 4 + (red - green) / safe)
    )
    hue = np.where(spread > 0, np.mod(sector / 6, 1), 0)
    saturation = np.where(high > 0, spread / np.where(high > 0, high, 1), 0)
    cells = [
        np.minimum((channel * count).astype(np.intp), count - 1)
        for channel, count in ((hue, _HUES), (saturation, _SATURATIONS), (high, _VALUES))
    ]
    bins: NDArray[np.intp] = (cells[0] * _SATURATIONS + cells[1]) * _VALUES + cells[2]
    return bins
