"""Where a person's joints are in a pose, and how a camera sees them.

Body coordinates are (left, up, front) in body heights, from the ground below the pelvis. The camera is far away
(no perspective), turned by `turn` around the person and raised by `tilt`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sil_cli.synthetic.identity import Person
from sil_cli.synthetic.tube import Point

Place = tuple[float, float, float]

HIP_HALF, SHOULDER_HALF = 0.052, 0.118
THIGH, SHIN, ANKLE = 0.235, 0.225, 0.035
UPPER_ARM, FOREARM = 0.165, 0.145
TORSO, NECK, HEAD = 0.315, 0.036, 0.156


@dataclass(frozen=True)
class Pose:
    """One moment of a person's movement.

    Attributes:
        phase: Of the gait, radians.
        stride: The thigh's largest swing, radians; about 0 when standing.
        swing: The arm's largest swing, radians.
        elbow: The usual bend of the elbows, radians.
        raised: 0, or the side (−1, 1) whose forearm is lifted, as with a telephone.
        lean: Sideways lean, radians.
        look: The head's turn against the body, radians.
        splay: How far the arms stand off, radians.
    """

    phase: float
    stride: float
    swing: float
    elbow: float
    raised: int
    lean: float
    look: float
    splay: float


@dataclass(frozen=True)
class View:
    """How the camera sees the person.

    Attributes:
        turn: The side that faces the camera: 0 the front, π/2 the person's left, π the back.
        tilt: How far the camera looks down, radians.
        scale: Pixels of one body height.
        foot: Where the ground below the pelvis lies, in pixels.
        lean: Rotation in the image, radians.
    """

    turn: float
    tilt: float
    scale: float
    foot: Point
    lean: float

    def point(self, place: Place) -> Point:
        """Where a place on the body lies on the canvas."""
        left, up, front = place
        across = left * math.cos(self.turn) - front * math.sin(self.turn)
        rise = up * math.cos(self.tilt) - self.depth(place) * math.sin(self.tilt)
        return (
            self.foot[0] + self.scale * (across + rise * math.sin(self.lean)),
            self.foot[1] - self.scale * rise * math.cos(self.lean),
        )

    def depth(self, place: Place) -> float:
        """How near to the camera a place is, in body heights."""
        return place[0] * math.sin(self.turn) + place[2] * math.cos(self.turn)

    def half(self, wide: float, deep: float) -> float:
        """Half the width in pixels that an ellipse of these half-widths (in body heights) shows."""
        return self.scale * math.hypot(wide * math.cos(self.turn), deep * math.sin(self.turn))


@dataclass(frozen=True)
class Limb:
    """The joints of an arm (shoulder, elbow, wrist) or a leg (hip, knee, ankle) on one side (−1 right, 1 left)."""

    side: int
    upper: Place
    middle: Place
    end: Place


@dataclass(frozen=True)
class Skeleton:
    """A person's joints in a pose."""

    hips: Place
    neck: Place
    crown: Place
    legs: tuple[Limb, Limb]
    arms: tuple[Limb, Limb]


def _reach(start: Place, length: float, angle: float, splay: float) -> Place:
    """The end of a bone that hangs from `start`, swung forwards by `angle` and outwards by `splay`."""
    return (
        start[0] + length * math.sin(splay),
        start[1] - length * math.cos(angle) * math.cos(splay),
        start[2] + length * math.sin(angle),
    )


def _leg(person: Person, pose: Pose, side: int) -> Limb:
    hip = (side * HIP_HALF * person.hips * (0.6 + 0.4 * person.build), 0.0, 0.0)
    beat = pose.phase + (0 if side > 0 else math.pi)
    thigh = pose.stride * math.sin(beat)
    bend = 0.05 + 1.5 * pose.stride * max(0.0, math.cos(beat)) ** 1.5 + 0.35 * pose.stride
    knee = _reach(hip, THIGH * person.legs, thigh + 0.3 * bend * pose.stride, side * 0.03)
    return Limb(side, hip, knee, _reach(knee, SHIN * person.legs, thigh - bend, side * 0.01))


def _arm(person: Person, pose: Pose, side: int, height: float) -> Limb:
    out = SHOULDER_HALF * person.shoulders * (0.55 + 0.45 * person.build) - 0.031
    shoulder = (side * out, height - 0.041, 0.0)
    beat = pose.phase + (math.pi if side > 0 else 0)
    swing = pose.swing * math.sin(beat)
    bend = pose.elbow + 0.5 * max(0.0, swing)
    splay = side * (pose.splay + 0.10 * (person.build - 0.85))
    if pose.raised == side:
        swing, bend = 0.35, 1.75
    elif person.carried == "suitcase" and side == person.carried_side:
        swing, bend = -0.35, 0.1
    elif person.carried == "tote" and side == person.carried_side:
        swing, bend = 0.3 * swing, 0.08
    elbow = _reach(shoulder, UPPER_ARM, swing, splay)
    return Limb(side, shoulder, elbow, _reach(elbow, FOREARM, swing + bend, 0.4 * splay))


def _lifted(place: Place, by: float) -> Place:
    return (place[0], place[1] + by, place[2])


def pose_body(person: Person, pose: Pose) -> Skeleton:
    """The joints of a person in a pose, with the lower foot on the ground."""
    legs = [_leg(person, pose, side) for side in (-1, 1)]
    ground = ANKLE - min(leg.end[1] for leg in legs)
    neck = ground + TORSO
    head = HEAD * person.head
    return Skeleton(
        hips=(0.0, ground, 0.0),
        neck=(0.0, neck, 0.0),
        crown=(0.0, neck + NECK + head, 0.012),
        legs=tuple(
            Limb(leg.side, *(_lifted(place, ground) for place in (leg.upper, leg.middle, leg.end))) for leg in legs
        ),  # type: ignore[arg-type]  # two legs
        arms=(_arm(person, pose, -1, neck), _arm(person, pose, 1, neck)),
    )


def draw_pose(rng: np.random.Generator, *, standing_share: float = 0.22) -> Pose:
    """A moment by chance: mostly walking, sometimes standing or with a raised forearm."""
    standing = rng.random() < standing_share
    stride = float(rng.uniform(0.02, 0.08) if standing else rng.uniform(0.3, 0.55))
    return Pose(
        phase=float(rng.uniform(0, 2 * math.pi)),
        stride=stride,
        swing=stride * float(rng.uniform(0.6, 1.1)),
        elbow=float(rng.uniform(0.12, 0.5)),
        raised=int(rng.choice([-1, 1])) if rng.random() < 0.14 else 0,
        lean=float(rng.normal(0, 0.025)),
        look=float(rng.normal(0, 0.28)),
        splay=float(rng.uniform(0.06, 0.17)),
    )
