"""Following people within one camera: detections joined to tracklets by motion and by what people look like.

As in ByteTrack (Zhang et al., ECCV 2022, arXiv 2110.06864) certain detections are joined first and uncertain ones then
continue what is left; as in DeepSORT (Wojke et al., ICIP 2017, arXiv 1703.07402) motion is a Kalman filter of constant
velocity. Two things differ. Time is the frames' own: seconds, not frames, so that a frame rate may vary or frames be
left out. And motion and appearance are weighed as log-likelihoods: how far a box lies from where it was expected, and
how much more likely a cosine is between two images of one person than of two. What cosines mean depends on the model,
and is learnt while following: two boxes of one frame are two people, and who is alone near to where one was expected is
that one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy.optimize import linear_sum_assignment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sil_cli.footage.frames import Detection, Frame
    from sil_cli.settings import TrackSettings

    Floats = NDArray[np.float64]

# Deviations in heights of the person's box, per second where they grow with time.
_PLACE: Final = 0.06  # of a detector's box from the person
_SPEED: Final = 0.6  # of a person's speed, before it was seen
_CHANGE: Final = 0.7  # of a speed within a second
_SLOWING: Final = 1.5  # seconds in which somebody unseen comes to two thirds of a standstill: they may have stopped
_GATE: Final = 16.0  # squared distance beyond which a box isn't where one was expected: χ² of 4, 99.7 %
_FORBIDDEN: Final = 1e6
_KEPT: Final = 0.85  # of what a tracklet looks like, with each new image
_LEARNT: Final = 0.98  # of what cosines mean, with each new one
_UNLIKELY: Final = -12.0  # log-odds, but for a constant, below which a box is rather somebody new
_LEAST_DEVIATION: Final = 0.02
_TRUSTED: Final = 20  # cosines of each kind after which they count in full


@dataclass
class _Kind:
    """Cosines of one kind, of one person or of two: a running mean and deviation."""

    mean: float
    deviation: float
    count: float = 0.0

    def learn(self, values: Floats) -> None:
        for value in values.tolist():
            self.count = min(self.count + 1.0, 1e6)
            share = max(1.0 - _LEARNT, 1.0 / (self.count + 1.0))
            gap = value - self.mean
            self.mean += share * gap
            self.deviation = math.sqrt((1 - share) * (self.deviation**2 + share * gap**2))

    def log_density(self, values: Floats) -> Floats:
        deviation = max(self.deviation, _LEAST_DEVIATION)
        return -0.5 * ((values - self.mean) / deviation) ** 2 - math.log(deviation)


@dataclass
class _Track:
    """One tracklet that may go on.

    Attributes:
        number: Its own.
        place: (4) centre across and down, width and height, in pixels.
        speed: (4) of these in a second.
        spread: Variances of place and speed and their covariance, in squared heights, alike for all four.
        time: The second of `place`.
        seen: The second in which it was last seen.
        boxes: How many detections it joins.
        missed: In how many frames, one after another, it was not seen.
        look: The direction of its embeddings' mean; empty where none is known.
    """

    number: int
    place: Floats
    speed: Floats
    spread: tuple[float, float, float]
    time: float
    seen: float
    boxes: int = 1
    missed: int = 0
    look: Floats = field(default_factory=lambda: np.empty(0))

    def predict(self, seconds: float) -> None:
        """Move it on to a time."""
        step = seconds - self.time
        if step <= 0:
            return
        unseen = max(self.time - self.seen, 0.0)
        slowing = math.exp(-unseen / _SLOWING) if unseen else 1.0
        self.place = self.place + slowing * step * self.speed
        self.place[2:] = np.maximum(self.place[2:], 1.0)
        place, both, speed = self.spread
        grown = _CHANGE**2
        self.spread = (
            place + 2 * step * both + step**2 * speed + grown * step**3 / 3,
            both + step * speed + grown * step**2 / 2,
            speed + grown * step,
        )
        self.time = seconds

    def correct(self, measured: Floats) -> None:
        """Take in where it was seen."""
        place, both, speed = self.spread
        total = place + _PLACE**2
        gap = measured - self.place
        self.place = self.place + place / total * gap
        self.speed = self.speed + both / total * gap
        self.spread = (place * _PLACE**2 / total, both * _PLACE**2 / total, speed - both**2 / total)
        self.seen = self.time
        self.boxes += 1
        self.missed = 0

    def take_look(self, embedding: Floats) -> None:
        """Take in what it looks like."""
        look = embedding if not len(self.look) else _KEPT * self.look + (1 - _KEPT) * embedding
        length = float(np.linalg.norm(look))
        self.look = look / length if length > 0 else look


class Tracker:
    """Joins the detections of one camera, frame after frame.

    Its state is small and exact: a tracker that is made with another's `state` goes on as that would have.
    """

    def __init__(self, options: TrackSettings, state: dict[str, Any] | None = None) -> None:
        """Begin, or go on.

        Args:
            options: Thresholds and times.
            state: What `state` gave.
        """
        self._options = options
        self._tracks: list[_Track] = []
        self._ended: list[int] = []
        self._next, self._now, self._before = 1, 0.0, 0.0
        self._same, self._different = _Kind(0.8, 0.12), _Kind(0.35, 0.2)
        if state is not None:
            self._tracks = [_restored(each) for each in state["tracks"]]
            self._ended, self._next, self._now = list(state["ended"]), state["next"], state["now"]
            self._before = state["before"]
            self._same, self._different = _Kind(*state["same"]), _Kind(*state["different"])

    def state(self) -> dict[str, Any]:
        """All that it knows, as JSON can hold it; floats come back as they were."""
        return {
            "tracks": [
                {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in vars(each).items()}
                for each in self._tracks
            ],
            "ended": self._ended,
            "next": self._next,
            "now": self._now,
            "before": self._before,
            "same": [self._same.mean, self._same.deviation, self._same.count],
            "different": [self._different.mean, self._different.deviation, self._different.count],
        }

    def update(
        self, frame: Frame, detections: Sequence[Detection], embeddings: NDArray[np.floating] | None = None
    ) -> list[tuple[Detection, int]]:
        """Join one frame's detections to tracklets.

        Args:
            frame: Its `seconds` say how far everybody has moved; a clock that jumps back stands still instead.
            detections: In any order. Beyond the `most` certain ones of a frame they are left out.
            embeddings: (detections, D), of length 1 each; rows of zeros where none was computed. None: by motion alone.

        Returns:
            The detections that are followed, in their order, each with its tracklet's number, from 1 on.
        """
        options = self._options
        self._before, self._now = self._now, max(self._now, frame.seconds)
        self._end(lambda each: self._is_over(each, frame))
        for each in self._tracks:
            each.predict(self._now)
            each.missed += 1
        order = sorted(range(len(detections)), key=lambda one: -detections[one].score)
        order = [one for one in order if detections[one].score >= options.low][: options.most]
        sure = [one for one in order if detections[one].score >= options.high]
        unsure = [one for one in order if detections[one].score < options.high]
        boxes = np.asarray([detections[one].box for one in range(len(detections))], np.float64).reshape(-1, 4)
        places = np.column_stack([boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:]])
        looks = None
        if embeddings is not None and options.appearance > 0 and len(detections):
            looks = np.asarray(embeddings, np.float64)
        numbers = self._join(sure, self._tracks, places, looks)
        if looks is not None:
            self._learn_differences(sure, looks, boxes)
        taken = set(numbers.values())
        recent = [each for each in self._tracks if each.number not in taken and each.seen >= self._before]
        numbers |= self._join(unsure, recent, places, None)
        for one in sure:
            if one not in numbers and detections[one].score >= options.new:
                numbers[one] = self._begin(places[one], None if looks is None else looks[one])
        return [(detections[one], numbers[one]) for one in sorted(numbers)]

    def ended(self) -> list[int]:
        """The tracklets that have ended since this was last asked, in the order in which they began."""
        ended, self._ended = sorted(self._ended), []
        return ended

    def finish(self) -> list[int]:
        """End all that may go on; returns those that have ended since `ended` was last asked."""
        self._end(lambda each: True)
        return self.ended()

    def _end(self, is_over: Any) -> None:
        self._ended += [each.number for each in self._tracks if is_over(each)]
        self._tracks = [each for each in self._tracks if not is_over(each)]

    def _is_over(self, track: _Track, frame: Frame) -> bool:
        """Whether somebody was unseen for too long, for more frames than they were seen in, or walked out of the frame.

        The second is what ends most that was no person: detectors see such things now and then.
        """
        if self._now - track.seen > self._options.patience or track.missed > track.boxes:
            return True
        if not track.missed:
            return False
        height, width = frame.image.shape[:2]
        across, down = track.place[:2]
        return not (0 <= across <= width and 0 <= down <= height)

    def _begin(self, place: Floats, look: Floats | None) -> int:
        track = _Track(self._next, place.copy(), np.zeros(4), (_PLACE**2, 0.0, _SPEED**2), self._now, self._now)
        if look is not None and look.any():
            track.take_look(look)
        self._next += 1
        self._tracks.append(track)
        most = 2 * self._options.most
        if len(self._tracks) > most:  # those unseen for longest go first
            over = min(self._tracks, key=lambda each: (each.seen, each.number)).number
            self._end(lambda each: each.number == over)
        return track.number

    def _join(self, ones: list[int], tracks: list[_Track], places: Floats, looks: Floats | None) -> dict[int, int]:
        """Join detections to tracklets at the least cost in all (by the Hungarian method); returns their numbers."""
        if not ones or not tracks:
            return {}
        expected = np.stack([each.place for each in tracks])
        height = np.maximum(np.minimum(expected[:, None, 3], places[None, ones, 3]), 1.0)
        spread = np.asarray([each.spread[0] for each in tracks])[:, None] + 2 * _PLACE**2
        gap = (places[None, ones] - expected[:, None]) / height[..., None]
        distance = (gap**2).sum(axis=2) / spread
        near = distance <= _GATE
        odds = -distance / 2 - 2 * np.log(spread / (3 * _PLACE**2))
        if looks is not None:
            known = [at for at, each in enumerate(tracks) if len(each.look) == looks.shape[1]]
            cosines = np.full_like(odds, np.nan)
            if known:
                cosines[known] = np.stack([tracks[at].look for at in known]) @ looks[ones].T
            cosines[:, ~looks[ones].any(axis=1)] = np.nan
            odds = odds + self._options.appearance * np.nan_to_num(self._ratio(cosines), nan=0.0)
        near &= odds >= _UNLIKELY
        rows, columns = linear_sum_assignment(np.where(near, -odds, _FORBIDDEN))
        joined = {}
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            if not near[row, column]:
                continue
            track, one = tracks[row], ones[column]
            joined[one] = track.number
            track.correct(places[one])
            if looks is not None and looks[one].any():
                alone = near[row].sum() == 1 and near[:, column].sum() == 1 and distance[row, column] <= _GATE / 4
                if alone and not np.isnan(cosines[row, column]):
                    self._same.learn(cosines[row, column : column + 1])
                track.take_look(looks[one])
        return joined

    def _ratio(self, cosines: Floats) -> Floats:
        """How much more likely cosines are between images of one person than of two, as a logarithm within ±8."""
        trust = min(1.0, min(self._same.count, self._different.count) / _TRUSTED)
        ratio = self._same.log_density(cosines) - self._different.log_density(cosines)
        # Beyond the means the tails of two normal distributions say more than they know.
        ratio = np.where(cosines >= self._same.mean, np.maximum(ratio, 0.0), ratio)
        return np.clip(ratio, -8.0, 8.0) * (0.75 + 0.25 * trust)

    def _learn_differences(self, ones: list[int], looks: Floats, boxes: Floats) -> None:
        """Learn how alike people of one frame are who don't overlap: surely two."""
        ones = [one for one in ones[:_TRUSTED] if looks[one].any()]
        for at, one in enumerate(ones):
            others = [other for other in ones[at + 1 :] if not _overlap(boxes[one], boxes[other])]
            if others:
                self._different.learn(looks[others] @ looks[one])


def _overlap(one: Floats, other: Floats) -> bool:
    apart = one[:2] + one[2:] <= other[:2], other[:2] + other[2:] <= one[:2]
    return not (apart[0].any() or apart[1].any())


def _restored(values: dict[str, Any]) -> _Track:
    arrays = {name: np.asarray(values[name], np.float64) for name in ("place", "speed", "look")}
    return _Track(**{**values, **arrays, "spread": tuple(values["spread"])})
