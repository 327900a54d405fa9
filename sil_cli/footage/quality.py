"""Which of a tracklet's crops are kept: few, good ones, spread over the time in which somebody was seen."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final, Generic, TypeVar

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sil_cli.data.images import Box

    Floats = NDArray[np.float64]

Item = TypeVar("Item")

_TALL: Final = 128  # pixels of height above which a crop is no better for being larger
_SHARP: Final = 60.0  # variance of the Laplacian of a crop 96 pixels high at which sharpness counts by half
_SHARP_SIZE: Final = (48, 96)
_CUT: Final = 0.4  # what is left of the quality of a crop that the frame's border cuts at one side
_STRAIGHT: Final = (0.2, 0.8)  # widths in heights that a whole person has


def crop_quality(image: NDArray[np.uint8], boxes: Sequence[Box]) -> Floats:
    """How well each box of a frame shows one whole person, 0 to 1; good enough to choose between crops of one tracklet.

    The product of four shares: its height (all from 128 pixels on); its sharpness (variance of the Laplacian, at one
    size); 0.4 for each side that the frame's border cuts; and the part that nobody nearer hides, squared, where nearer
    is whose feet are lower in the frame. A box much wider or narrower than a person gets half.

    Args:
        image: (height, width, 3), uint8, the frame.
        boxes: Of all people found in it, within the frame.
    """
    if not len(boxes):
        return np.empty(0)
    left, top, width, height = np.asarray(boxes, np.float64).T
    right, bottom = left + width, top + height
    rows, columns = image.shape[:2]
    size = np.minimum(height / _TALL, 1.0)
    cuts = (left <= 1).astype(int) + (top <= 1) + (right >= columns - 1) + (bottom >= rows - 1)
    sharp = np.asarray([_sharpness(image, box) for box in boxes])
    narrow, wide = _STRAIGHT
    shape = np.where((width < narrow * height) | (width > wide * height), 0.5, 1.0)
    quality: Floats = (
        size * sharp / (sharp + _SHARP) * _CUT**cuts * (1 - _hidden(left, top, right, bottom)) ** 2 * shape
    )
    return quality


def _hidden(left: Floats, top: Floats, right: Floats, bottom: Floats) -> Floats:
    """The largest part of each box that another one covers whose feet are lower."""
    hidden = np.zeros(len(left))
    order = np.argsort(left, kind="stable")
    for at, one in enumerate(order):
        others = order[at + 1 :]
        others = others[left[others] < right[one]]  # sorted by left: these alone can meet it
        wide = np.minimum(right[others], right[one]) - left[others]
        high = np.minimum(bottom[others], bottom[one]) - np.maximum(top[others], top[one])
        shared = np.maximum(wide, 0) * np.maximum(high, 0)
        nearer = bottom[others] > bottom[one]
        area = (right[one] - left[one]) * (bottom[one] - top[one])
        hidden[one] = max(hidden[one], float((shared / area)[nearer].max(initial=0.0)))
        farther = others[~nearer]
        areas = (right[farther] - left[farther]) * (bottom[farther] - top[farther])
        hidden[farther] = np.maximum(hidden[farther], shared[~nearer] / areas)
    return np.minimum(hidden, 1.0)


def _sharpness(image: NDArray[np.uint8], box: Box) -> float:
    """The variance of the Laplacian of a grey crop, at one size whatever the box's."""
    left, top, width, height = box
    crop = image[max(top, 0) : top + height, max(left, 0) : left + width]
    if not crop.size:
        return 0.0
    grey = Image.fromarray(np.ascontiguousarray(crop)).convert("L").resize(_SHARP_SIZE, Image.Resampling.BILINEAR)
    pixels = np.asarray(grey, np.float32)
    laplacian = pixels[1:-1, :-2] + pixels[1:-1, 2:] + pixels[:-2, 1:-1] + pixels[2:, 1:-1] - 4 * pixels[1:-1, 1:-1]
    return float(laplacian.var())


def choose_crops(seconds: Sequence[float], quality: Sequence[float], keep: int) -> list[int]:
    """The best crop of each of `keep` equal parts of the time that a tracklet lasts.

    Args:
        seconds: When each was seen, not falling.
        quality: How good each is; of two alike the earlier is taken.
        keep: How many are kept at most; a part in which nobody was seen gives none.

    Returns:
        Their places, rising.
    """
    if not len(seconds):
        return []
    first, last = seconds[0], seconds[-1]
    best: dict[int, int] = {}
    for at, (second, one) in enumerate(zip(seconds, quality, strict=True)):
        part = 0 if last <= first else min(int((second - first) / (last - first) * keep), keep - 1)
        if part not in best or one > quality[best[part]]:
            best[part] = at
    return sorted(best.values())


class BestCrops(Generic[Item]):
    """Collects the best crops of one tracklet while it lasts, and holds never more than twice as many as are kept.

    How long a tracklet will last isn't known. So where there are too many, the worse of those two is let go that are
    nearest to each other in time: what is held stays spread over all of it, and the best of all is among it.
    """

    def __init__(self, keep: int) -> None:
        """Begin with no crop.

        Args:
            keep: How many are chosen in the end, at most.
        """
        self._keep = keep
        self._held: list[tuple[float, float, Item]] = []

    def offer(self, seconds: float, quality: float, item: Item) -> Item | None:
        """Take a crop, later than those before; returns the one that is held no longer, which may be this one."""
        self._held.append((seconds, quality, item))
        if len(self._held) <= 2 * self._keep:
            return None
        gaps = [after[0] - before[0] for before, after in pairwise(self._held)]
        at = gaps.index(min(gaps))
        worse = at if self._held[at][1] < self._held[at + 1][1] else at + 1
        return self._held.pop(worse)[2]

    def held(self) -> list[tuple[float, float, Item]]:
        """Second, quality and crop of those held; another that is offered these in this order goes on as this one."""
        return list(self._held)

    def chosen(self) -> list[Item]:
        """The crops to keep, in order of time."""
        chosen = choose_crops([each[0] for each in self._held], [each[1] for each in self._held], self._keep)
        return [self._held[at][2] for at in chosen]
