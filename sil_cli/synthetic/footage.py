"""Films of generated people walking through the cameras of one network, with every box and identity known.

A camera stands `height` body heights above a floor, looks down by `pitch` and sees people by perspective. Everybody
walks on curves over the floor, now and then stops, and is seen by one camera at a time. A frame is drawn from the far
people to the near ones, so that what hides what, and how much of it, is known to the pixel. Each frame is decided
by the settings and its number alone: frames can be drawn in any order, on any number of processes.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from sil_cli.synthetic.body import Pose, View
from sil_cli.synthetic.fabric import Array
from sil_cli.synthetic.figure import draw_person
from sil_cli.synthetic.scene import cast_shadow, draw_occluder, draw_plate, scenery_of
from sil_cli.synthetic.seeds import Purpose, stream
from sil_cli.synthetic.shot import DressedPerson, camera_of, dressed
from sil_cli.synthetic.style import photograph

if TYPE_CHECKING:
    from pathlib import Path

    from sil_cli.data.images import Box
    from sil_cli.settings import FootageSettings, SyntheticSettings

FILMED_FROM = datetime(2024, 3, 4, 7, 30, tzinfo=UTC)
"""When all cameras of a network begin to film."""

LEAST_VISIBLE = 0.1
"""People of whom less is seen are in no list of boxes."""

_MARGIN = 120  # pixels drawn beyond the frame's sides and bottom, so that it is known how much of a person is cut off
_BODY_WIDTH = 0.75  # of all that a person may reach to a side, in body heights
_WALL = 8.0  # body heights from a camera to the wall before it
_TALLEST = 0.62  # of the frame's height that a person takes, at the nearest
_BODY = 0.33  # likewise, usually
_PACE = (0.55, 0.95)  # body heights a second
_STEP = 0.82  # body heights of two steps
_POINTS = 65  # along a way
_PAUSE_CHANCE, _PAUSE = 0.3, (1.5, 4.0)
_POLE = 0.7  # the part of cameras with one before them
_BETWEEN_CAMERAS = (2.0, 6.0)  # seconds
_MISSED = 0.25  # the chance that a camera never sees a person
_SEEN = 0.004  # the least change of a pixel, 0 to 1: one step of 8 bits
_BACKGROUND, _OCCLUDER = 0, -1


@dataclass(frozen=True)
class Lens:
    """How a camera sees the floor; lengths are in body heights, angles in radians.

    Attributes:
        focal: Its focal length in pixels.
        height: Of the camera above the floor.
        pitch: How far it looks down.
        size: Of its frames: height and width in pixels.
    """

    focal: float
    height: float
    pitch: float
    size: tuple[int, int]

    def depth(self, away: float) -> float:
        """How far along its axis a place on the floor lies."""
        return away * math.cos(self.pitch) + self.height * math.sin(self.pitch)

    def project(self, aside: float, away: float) -> tuple[float, float, float]:
        """A place on the floor in the frame: x, y, and the pixels of a body height there."""
        depth = self.depth(away)
        below = (self.height * math.cos(self.pitch) - away * math.sin(self.pitch)) / depth
        scale = self.focal / depth
        return self.size[1] / 2 + scale * aside, self.size[0] / 2 + self.focal * below, scale


@dataclass(frozen=True)
class Walk:
    """One person's way past one camera.

    Attributes:
        person: Their number in the network.
        camera: The camera's number.
        start: When it begins, seconds since the cameras began to film.
        pace: Body heights a second.
        places: (points, 2) along the way: aside and away from the camera, in body heights.
        pause: At which length of the way they stop, and for how many seconds.
        gait: Where in their gait they are when they come, radians.
    """

    person: int
    camera: int
    start: float
    pace: float
    places: tuple[tuple[float, float], ...]
    pause: tuple[float, float]
    gait: float

    @property
    def lengths(self) -> Array:
        """The length of the way up to each point."""
        steps = np.hypot(*np.diff(np.asarray(self.places), axis=0).T)
        return np.concatenate([[0.0], np.cumsum(steps)]).astype(np.float32)

    @property
    def end(self) -> float:
        """When it ends, in seconds."""
        return self.start + float(self.lengths[-1]) / self.pace + self.pause[1]

    def at(self, seconds: float) -> tuple[float, float, float, Pose]:
        """Where they are at a time: aside, away, the side that faces the camera (as in `View.turn`), and their pose."""
        stops, rest = self.pause
        gone = (seconds - self.start) * self.pace
        standing = stops < gone < stops + rest * self.pace
        gone = min(gone, stops) if gone < stops + rest * self.pace else gone - rest * self.pace
        lengths, places = self.lengths, np.asarray(self.places)
        aside, away = (float(np.interp(gone, lengths, places[:, axis])) for axis in (0, 1))
        at = int(np.clip(np.searchsorted(lengths, gone), 1, len(places) - 1))
        ahead = places[at] - places[at - 1]
        turn = math.atan2(-ahead[0] * away + ahead[1] * aside, -ahead[0] * aside - ahead[1] * away)
        stride = 0.04 if standing else 0.45
        phase = self.gait + 2 * math.pi * gone / _STEP
        return aside, away, turn, Pose(phase, stride, 0.85 * stride, 0.25, 0, 0.0, 0.0, 0.1)


@dataclass(frozen=True)
class Scene:
    """What one camera films, but for the people.

    Attributes:
        lens: How it sees.
        ground: (height + margin, width + 2 margins, 3) in 0..1.
        occluder: The same size with a fourth channel, its opacity: what stands before everybody.
    """

    lens: Lens
    ground: Array
    occluder: Array


@dataclass(frozen=True)
class SeenPerson:
    """A person in a frame.

    Attributes:
        frame: Its number, from 0.
        person: Their number in the network.
        box: What is seen and what others hide of them, within the frame.
        visible: The share of them that is seen, 0 to 1.
    """

    frame: int
    person: int
    box: Box
    visible: float


@dataclass(frozen=True)
class Stretch:
    """Some frames of one camera: the piece of work that one process does at a time."""

    settings: SyntheticSettings
    footage: FootageSettings
    domain: int
    camera: int
    frames: range
    folder: Path


@lru_cache(maxsize=4)
def scene_of(settings: SyntheticSettings, size: tuple[int, int], domain: int, camera: int) -> Scene:
    """A camera's place, seen in frames of this height and width."""
    seen_by = camera_of(settings, domain, camera)
    rng = stream(Purpose.FOOTAGE, settings.seed, domain, camera)
    place = scenery_of(rng, domain, min(settings.strengths["background"], 1.0))
    height, focal = float(rng.uniform(1.5, 2.3)), size[1] * float(rng.uniform(0.75, 0.9))
    rows, columns = size[0] + _MARGIN, size[1] + 2 * _MARGIN
    plate = draw_plate(rng, place, seen_by.tilt, (math.ceil(rows / 1.5), math.ceil(columns / 4)), unit=focal / _WALL)
    ground = np.asarray(plate.image.resize((columns, rows), Image.Resampling.BILINEAR), np.float32) / np.float32(255)
    edge = plate.horizon * rows  # where the floor meets the wall
    pitch = math.atan2(height, _WALL) - math.atan2(edge - size[0] / 2, focal)
    marked = np.full((rows, columns, 3), -9.0, np.float32)
    if rng.random() < _POLE:
        left = _MARGIN + int(rng.uniform(0.1, 0.7) * size[1])
        before = marked[:, left : left + size[1] // 4]
        draw_occluder(before, "pole", rng, seen_by.light, seen_by.occluder_colour)
    alpha = (marked.min(axis=2, keepdims=True) >= 0).astype(np.float32)
    return Scene(Lens(focal, height, pitch, size), ground, np.concatenate([marked, alpha], axis=2))


def plan_walks(settings: SyntheticSettings, footage: FootageSettings, domain: int) -> list[Walk]:
    """Who walks past which camera and when: everybody past two cameras or more, past one at a time."""
    size = (footage.height, footage.width)
    lenses = [scene_of(settings, size, domain, camera).lens for camera in range(settings.cameras)]
    walks = []
    for number in range(footage.people):
        person = settings.train_identities + number  # so that nobody was seen in training
        rng = stream(Purpose.FOOTAGE, settings.seed, domain, settings.cameras, person)
        way = rng.permutation(settings.cameras)
        passed = [int(camera) for at, camera in enumerate(way) if at < 2 or rng.random() >= _MISSED]
        seconds = float(rng.uniform(-8.0, max(footage.seconds - 12.0, 1.0)))
        for camera in passed:
            walk = _draw_walk(rng, lenses[camera], person, camera, seconds)
            walks.append(walk)
            seconds = walk.end + float(rng.uniform(*_BETWEEN_CAMERAS))
    return [walk for walk in walks if walk.start < footage.seconds and walk.end > 0]


def _draw_walk(rng: np.random.Generator, lens: Lens, person: int, camera: int, start: float) -> Walk:
    """A way in at one side, by a place in the middle, and out at a side."""
    ways = np.linspace(0.5, _WALL - 0.6, 64)
    in_view = [
        away
        for away in ways
        if lens.project(0, away)[1] < lens.size[0] and lens.project(0, away)[2] < _TALLEST * lens.size[0]
    ]
    near, far = (in_view[0], in_view[-1]) if in_view else (ways[-2], ways[-1])
    side = float(rng.choice([-1, 1]))
    sides = (side, -side if rng.random() < 0.8 else side)
    aways = 1 / rng.uniform(1 / far, 1 / near, 3)  # as often at any height of the frame
    half = [lens.depth(away) * lens.size[1] / 2 / lens.focal for away in aways]
    ends = [sides[0] * (half[0] + 0.5), float(rng.uniform(-0.5, 0.5)) * half[1], sides[1] * (half[2] + 0.5)]
    share = np.linspace(0, 1, _POINTS)[:, None]
    first, bend, last = (np.asarray([aside, away]) for aside, away in zip(ends, aways, strict=True))
    curve = (1 - share) ** 2 * first + 2 * share * (1 - share) * (2 * bend - (first + last) / 2) + share**2 * last
    curve[:, 1] = np.clip(curve[:, 1], near, far)
    length = float(np.hypot(*np.diff(curve, axis=0).T).sum())
    rest = float(rng.uniform(*_PAUSE)) if rng.random() < _PAUSE_CHANCE else 0.0
    return Walk(
        person, camera, start, float(rng.uniform(*_PACE)), tuple((float(x), float(z)) for x, z in curve),
        (length * float(rng.uniform(0.3, 0.7)), rest), float(rng.uniform(0, 2 * math.pi)),
    )  # fmt: skip


@lru_cache(maxsize=64)
def _dressed(settings: SyntheticSettings, domain: int, person: int) -> DressedPerson:
    return dressed(settings, domain, person)


def draw_frame(
    settings: SyntheticSettings, footage: FootageSettings, domain: int, camera: int, frame: int, walks: list[Walk]
) -> tuple[bytes, list[SeenPerson]]:
    """One frame as a JPEG file's bytes, and who is in it.

    Args:
        settings: What the network is.
        footage: What is filmed.
        domain: The network's number.
        camera: The camera's number.
        frame: The frame's number, from 0.
        walks: All that `plan_walks` gives.
    """
    scene = scene_of(settings, (footage.height, footage.width), domain, camera)
    seen_by = camera_of(settings, domain, camera)
    seconds = frame / footage.frames_per_second
    here = [(walk, walk.at(seconds)) for walk in walks if walk.camera == camera and walk.start <= seconds < walk.end]
    here.sort(key=lambda each: -each[1][1])
    canvas = scene.ground.copy()
    shown = np.full(canvas.shape[:2], _BACKGROUND, np.int32)
    drawn: dict[int, tuple[Box, int]] = {}
    for number, (walk, (aside, away, turn, pose)) in enumerate(here, start=1):
        x, y, scale = scene.lens.project(aside, away)
        foot = (x + _MARGIN, y)
        tilt = math.atan2(scene.lens.height - 0.5, away)
        cast_shadow(canvas, foot, scale, seen_by.light.angle, seen_by.shadow)
        part = _around(foot, scale, shown.shape)
        before = canvas[part].copy()
        who = _dressed(settings, domain, walk.person)
        draw_person(canvas, who.person, who.outfit, pose, View(turn, tilt, scale, foot, 0.0), seen_by.light)
        change = np.abs(canvas[part] - before) > _SEEN
        mask = change[..., 0] | change[..., 1] | change[..., 2]
        shown[part][mask] = number
        box = _box_of(mask, part, scene.lens.size)
        if box is not None:
            drawn[number] = (box, int(mask.sum()))
    opaque = scene.occluder[..., 3] > 0
    canvas[opaque] = scene.occluder[..., :3][opaque]
    shown[opaque] = _OCCLUDER
    inside = shown[: footage.height, _MARGIN:-_MARGIN]
    counts = np.bincount(inside[inside > 0], minlength=len(here) + 1)
    seen = [
        SeenPerson(frame, here[number - 1][0].person, box, float(counts[number]) / pixels)
        for number, (box, pixels) in drawn.items()
        if counts[number] >= LEAST_VISIBLE * pixels
    ]
    picture = np.ascontiguousarray(canvas[: footage.height, _MARGIN:-_MARGIN])
    noise = stream(Purpose.FOOTAGE, settings.seed, domain, camera, frame, 1)
    tall = round(_BODY * footage.height)
    return photograph(picture, seen_by.style, noise, body=tall), sorted(seen, key=lambda each: each.person)


def _around(foot: tuple[float, float], scale: float, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """The part of the canvas that a person can reach."""
    x, y = foot
    reach = _BODY_WIDTH * scale
    top, bottom = (int(np.clip(edge, 0, shape[0])) for edge in (y - 1.3 * scale, y + 0.25 * scale))
    left, right = (int(np.clip(edge, 0, shape[1])) for edge in (x - reach, x + reach))
    return slice(top, bottom), slice(left, right)


def _box_of(mask: np.ndarray, part: tuple[slice, slice], size: tuple[int, int]) -> Box | None:
    """The box around what was drawn, within the frame; None where it is outside."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    top, bottom = (int(np.clip(part[0].start + edge, 0, size[0])) for edge in (rows[0], rows[-1] + 1))
    left, right = (int(np.clip(part[1].start + edge - _MARGIN, 0, size[1])) for edge in (columns[0], columns[-1] + 1))
    return (left, top, right - left, bottom - top) if right > left and bottom > top else None


def draw_stretch(stretch: Stretch) -> list[SeenPerson]:
    """Draw and write some frames of a camera, from `000001.jpg` on; returns who is in them."""
    walks = plan_walks(stretch.settings, stretch.footage, stretch.domain)
    seen = []
    for frame in stretch.frames:
        content, people = draw_frame(stretch.settings, stretch.footage, stretch.domain, stretch.camera, frame, walks)
        (stretch.folder / f"{frame + 1:06d}.jpg").write_bytes(content)
        seen += people
    return seen


def simulate_detections(
    seen: list[SeenPerson], footage: FootageSettings, frames: int, rng: np.random.Generator
) -> list[tuple[int, tuple[float, float, float, float], float]]:
    """What a middling detector would make of what is seen: frame, (left, top, width, height) and score.

    It misses people, hidden ones most, places boxes beside by some hundredths of their size, and now and then sees
    somebody where nobody is: anywhere, or again and again in the same place.
    """
    ghosts = [_anywhere(rng, footage) for _ in range(2)]
    by_frame: dict[int, list[SeenPerson]] = defaultdict(list)
    for each in seen:
        by_frame[each.frame].append(each)
    found = []
    for frame in range(frames):
        for each in by_frame[frame]:
            if rng.random() < min(0.97, 0.1 + 1.1 * each.visible):
                left, top, width, height = each.box
                shift = rng.normal(0, 0.03, 4) * (width, height, width, height)
                score = float(np.clip(0.3 + 0.6 * each.visible + rng.normal(0, 0.1), 0.05, 0.99))
                box = (left + shift[0], top + shift[1], max(width + shift[2], 4.0), max(height + shift[3], 8.0))
                found.append((frame, box, score))
        false = [_anywhere(rng, footage) for _ in range(rng.poisson(0.1))]
        false += [ghost for ghost in ghosts if rng.random() < 0.15]
        found += [(frame, box, float(rng.uniform(0.05, 0.7))) for box in false]
    return found


def _anywhere(rng: np.random.Generator, footage: FootageSettings) -> tuple[float, float, float, float]:
    height = footage.height * float(rng.uniform(0.2, 0.5))
    width = 0.4 * height
    return float(rng.uniform(0, footage.width - width)), float(rng.uniform(0, footage.height - height)), width, height
