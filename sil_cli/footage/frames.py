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


@dataclass(frozen=True)
class Place:
    """Where a frame stands in its footage: all that it takes to go on behind it as if nobody had stopped there.

    Attributes:
        index: The frame's number, from 0.
        seconds: Since the first frame, by a clock that never falls.
        due: From which second on the next frame is wanted.
        damaged: Pieces before it that couldn't be decoded.
        stamp: The frame's own time in units of its container, by which it can be found again; None where it can't.
        offset: Seconds between the container's clock and ours.
        digest: Of its pixels; empty until somebody stops there.
    """

    index: int
    seconds: float
    due: float
    damaged: int = 0
    stamp: int | None = None
    offset: float = 0.0
    digest: str = ""


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture of a camera.

    Attributes:
        index: Its number in its source from 0, counting those that `--every` passes over.
        time: When it was taken, in the zone that it was read in or in none; None where nobody says when the footage
            began.
        seconds: Since the source's first frame, by the frames' own times; never falls within a source.
        image: (height, width, 3), uint8, RGB, upright.
        place: Where it stands; None where nobody goes on behind it.
        name: Its file's; empty in a video.
    """

    index: int
    time: datetime | None
    seconds: float
    image: NDArray[np.uint8]
    place: Place | None = None
    name: str = ""


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
