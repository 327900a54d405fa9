"""What footage is made of: frames with their times, and the people that a detector found in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    import numpy as np
    from numpy.typing import NDArray

    from sil_cli.data.images import Box


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a camera.

    Attributes:
        index: Its number in its source from 0, counting those that `--every` passes over.
        time: When it was taken, in the zone that it was read in or in none; None where nobody says when the footage
            began.
        seconds: Since the source's first frame, by the frames' own times; never falls within a source.
        image: (height, width, 3), uint8, RGB, upright.
    """

    index: int
    time: datetime | None
    seconds: float
    image: NDArray[np.uint8]


@dataclass(frozen=True)
class Detection:
    """A person in a frame.

    Attributes:
        box: Whole pixels; lies within the frame.
        score: How sure the detector is, 0 to 1.
    """

    box: Box
    score: float


class Detector(Protocol):
    """Finds people."""

    def detect(self, frames: Sequence[Frame]) -> list[list[Detection]]:
        """The people in each frame, most certain first; sizes of frames may differ."""
        ...
