"""A person's textures: cloth, skin, face and hair, ready to be wrapped around the body."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sil_cli.synthetic.fabric import Array, Colour, Pattern, value_noise, weave
from sil_cli.synthetic.identity import PALETTE, Person, PrintKind

TORSO_LENGTH = 0.34  # body heights, from the neck's root to the hips
SHELL_LENGTH = 0.34  # of the texture that holds all hair, from the crown down
_SLEEVE_LENGTH = 0.3
_LEG_LENGTH = 0.5


@dataclass(frozen=True)
class Hair:
    """How far hair reaches down from the crown, in body heights, and how much it stands off.

    Attributes:
        front, temple, side, back: The reach at the forehead, the temples, the ears and the neck.
        volume: Its width against the head's.
        lift: How far it rises above the crown, in body heights.
        left: Added to the forehead's reach on the left only: a parting.
    """

    front: float
    temple: float
    side: float
    back: float
    volume: float
    lift: float
    left: float = 0.0


HAIR_CUTS: dict[str, Hair] = {
    "bald": Hair(0.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    "buzz": Hair(0.030, 0.035, 0.070, 0.100, 1.03, 0.002),
    "short": Hair(0.042, 0.045, 0.078, 0.115, 1.10, 0.008),
    "parted": Hair(0.036, 0.045, 0.085, 0.120, 1.12, 0.010, left=0.028),
    "quiff": Hair(0.036, 0.034, 0.060, 0.100, 1.06, 0.026),
    "bob": Hair(0.058, 0.075, 0.160, 0.165, 1.26, 0.010),
    "long": Hair(0.040, 0.060, 0.260, 0.300, 1.22, 0.008),
    "ponytail": Hair(0.036, 0.045, 0.085, 0.115, 1.06, 0.004),
    "bun": Hair(0.036, 0.045, 0.085, 0.115, 1.06, 0.004),
    "afro": Hair(0.050, 0.065, 0.130, 0.150, 1.55, 0.042),
    "curls": Hair(0.052, 0.062, 0.150, 0.190, 1.34, 0.022),
}


@dataclass(frozen=True)
class Outfit:
    """The textures of one person; rows run downwards, the middle column is the front.

    Attributes:
        torso: (128, 128, 3) from the neck's root to the hips.
        skirt: (96, 128, 3) what hangs below: a coat's or a dress's lower part, or a skirt.
        sleeve: (96, 64, 3) from the shoulder to the wrist.
        leg: (96, 64, 3) from the hip to the ankle.
        head: (48, 64, 3) from the crown to the chin.
        hair: (96, 64, 4) the hair around the head, with its opacity.
        skin: (1, 1, 3).
    """

    torso: Array
    skirt: Array
    sleeve: Array
    leg: Array
    head: Array
    hair: Array
    skin: Array


def flat(colour: Colour, brightness: float = 1.0) -> Array:
    """A texture of one colour: (1, 1, 3)."""
    texel: Array = np.clip(np.asarray(colour, np.float32) * np.float32(brightness), 0, 1).reshape(1, 1, 3)
    return texel


def make_outfit(person: Person) -> Outfit:
    """All textures of a person: the same person gives the same textures."""
    girth = 0.62 * person.build
    colours = person.colours
    torso = weave(person.pattern, colours.main, colours.accent, around=girth, along=TORSO_LENGTH, texels=(128, 128))
    leg = weave(person.lower_pattern, colours.lower, colours.extra, around=0.24, along=_LEG_LENGTH, texels=(96, 64))
    if person.side_stripe:
        leg[:, [15, 16, 17, 47, 48, 49]] = colours.extra
    return Outfit(
        torso=_tailor(person, torso),
        skirt=_skirt(person, girth),
        sleeve=_sleeve(person),
        leg=leg,
        head=_face(person),
        hair=_hair(person),
        skin=flat(person.skin),
    )


def _sleeve(person: Person) -> Array:
    colours = person.colours
    first = colours.accent if person.contrast_sleeves else colours.main
    second = colours.main if person.contrast_sleeves else colours.accent
    pattern = person.pattern
    if pattern.kind in ("block", "halves", "band"):
        pattern = Pattern("plain", pattern.period, pattern.share, pattern.texture_seed)
    sleeve = weave(pattern, first, second, around=0.2, along=_SLEEVE_LENGTH, texels=(96, 64))
    if person.upper in ("hoodie", "jacket"):
        sleeve[-8:] *= 0.7
    return sleeve


def _skirt(person: Person, girth: float) -> Array:
    colours = person.colours
    if person.upper in ("coat", "dress"):
        skirt = weave(person.pattern, colours.main, colours.accent, around=girth, along=0.3, texels=(96, 128))
        if person.pattern.kind in ("block", "gradient"):
            skirt[:] = colours.accent
        if person.upper == "coat":
            skirt[:, 62:66] *= 0.55
        return skirt
    return weave(person.lower_pattern, colours.lower, colours.extra, around=girth, along=0.3, texels=(96, 128))


def _angles(columns: int) -> Array:
    """The angle from the front of each column, −π to π."""
    angles: Array = (((np.arange(columns) + 0.5) / columns - 0.5) * 2 * np.pi).astype(np.float32)
    return angles


def _tailor(person: Person, torso: Array) -> Array:
    """Cut, neckline, openings, prints and straps, laid on the cloth."""
    rows, columns = torso.shape[:2]
    v = ((np.arange(rows) + 0.5) / rows)[:, None]
    angle = _angles(columns)[None, :]
    front = np.abs(angle)
    if person.upper in ("tee", "hoodie", "vest", "dress"):
        for kind, centre in ((person.print_front, 0.0), (person.print_back, np.pi)):
            _print(torso, kind, person.colours.extra, centre, v, angle)
    if person.upper in ("jacket", "coat"):
        opening = 0.16 + 0.30 * (v < 0.35) * (0.35 - v) / 0.35 + (0.16 if person.upper == "jacket" else 0.0)
        torso[front < opening] = person.inner
        torso[(front >= opening) & (front < opening + 0.09)] *= 0.62
    elif person.upper == "shirt":
        torso[(front < 0.05) & (v > 0.1)] *= 0.6
        torso[(front < 0.8) & (v < 0.09)] = np.clip(np.asarray(person.colours.main) * 1.25 + 0.05, 0, 1)
    elif person.upper == "hoodie":
        torso[(front < 0.75) & (v > 0.62) & (v < 0.86)] *= 0.78
        torso[(np.abs(front - 0.18) < 0.05) & (v > 0.1) & (v < 0.32)] = PALETTE["white"]
        torso[(front > 2.0) & (v < 0.24)] *= 0.68
    depth = {"vest": 0.20, "dress": 0.17, "tee": 0.11, "jacket": 0.12}.get(person.upper, 0.07)
    neck = v < depth * np.clip(1 - front / 0.85, 0, 1)
    torso[np.broadcast_to(neck, (rows, columns))] = person.skin
    if person.upper not in ("coat", "dress"):
        torso[int(person.hem * rows) :] = person.colours.lower
        torso[int(person.hem * rows) - 3 : int(person.hem * rows)] *= 0.7
    _straps(person, torso, v, angle)
    return torso


def _straps(person: Person, torso: Array, v: Array, angle: Array) -> None:
    strap = np.clip(np.asarray(person.carried_colour, np.float32) * 0.8, 0, 1)
    if person.carried == "backpack":
        torso[(np.abs(np.abs(angle) - 0.72) < 0.13) & (v < 0.62)] = strap
    elif person.carried == "crossbody":
        facing = angle * person.carried_side
        line_front = 0.95 * (v - 0.42) / 0.42
        behind = np.mod(np.pi - facing + np.pi, 2 * np.pi) - np.pi
        near = np.minimum(np.abs(facing - line_front), np.abs(behind - line_front))
        torso[(near < 0.13) & (v < 0.86)] = strap


def _print(torso: Array, kind: PrintKind, colour: Colour, centre: float, v: Array, angle: Array) -> None:
    """A print in the middle of the chest or the back."""
    x = (np.mod(angle - centre + np.pi, 2 * np.pi) - np.pi) / 0.62
    y = (v - 0.34) / 0.17
    shapes = {
        "none": np.zeros(torso.shape[:2], bool),
        "disc": np.hypot(x, y) < 1,
        "ring": np.abs(np.hypot(x, y) - 0.78) < 0.24,
        "square": np.maximum(np.abs(x), np.abs(y)) < 0.85,
        "triangle": (np.abs(x) < (y + 1) / 2) & (np.abs(y) < 1),
        "bar": (np.abs(x) < 1.15) & (np.abs(y) < 0.36),
        "cross": (np.minimum(np.abs(x), np.abs(y)) < 0.3) & (np.maximum(np.abs(x), np.abs(y)) < 1),
    }
    torso[shapes[kind]] = colour


def _face(person: Person) -> Array:
    rows, columns = 48, 64
    face = np.broadcast_to(np.asarray(person.skin, np.float32), (rows, columns, 3)).copy()
    v = ((np.arange(rows) + 0.5) / rows)[:, None]
    angle = _angles(columns)[None, :]
    front = np.abs(angle)
    face[(np.abs(front - 1.45) < 0.16) & (np.abs(v - 0.56) < 0.09)] *= 0.8  # ears
    face[(np.abs(front - 0.36) < 0.13) & (np.abs(v - 0.53) < 0.035)] = (0.12, 0.09, 0.08)  # eyes
    face[(np.abs(front - 0.36) < 0.19) & (np.abs(v - 0.455) < 0.022)] = np.asarray(person.hair_colour) * 0.8
    face[(front < 0.09) & (v > 0.52) & (v < 0.68)] *= 0.84  # nose
    face[(front < 0.24) & (np.abs(v - 0.79) < 0.025)] = np.asarray(person.skin) * (0.78, 0.5, 0.5)  # mouth
    if person.beard:
        face[(front < 1.5) & (v > 0.70 - 0.1 * (front > 0.75)) & ((front > 0.26) | (np.abs(v - 0.79) > 0.03))] = (
            np.asarray(person.hair_colour) * 0.9
        )
    if person.glasses:
        rim = (np.abs(np.hypot((front - 0.38) / 0.30, (v - 0.53) / 0.11) - 0.9) < 0.22) | (
            (np.abs(v - 0.51) < 0.02) & (front < 1.5) & ((front > 0.6) | (front < 0.15))
        )
        face[rim] = (0.08, 0.08, 0.09)
    return face


def _hair(person: Person) -> Array:
    rows, columns = 96, 64
    cut = HAIR_CUTS[person.hair]
    rng = np.random.default_rng(person.texture_seed)
    angle = _angles(columns)
    reach = np.interp(
        np.abs(angle),
        [0, 0.55, 0.95, 1.35, 2.0, np.pi],
        [cut.front, cut.front, cut.temple, cut.side, cut.back, cut.back],
    )
    reach = reach + cut.left * np.clip(1 - np.abs(angle - 0.5) / 0.5, 0, 1)
    if cut.back > 0.05:
        reach = reach + 0.012 * (rng.random(columns) - 0.5) * (3.0 if cut.volume > 1.3 else 1.0)
    down = (np.arange(rows)[:, None] + 0.5) / rows * SHELL_LENGTH
    opacity = np.clip((reach[None, :] + cut.lift - down) / 0.006 + 0.5, 0, 1) * (cut.back > 0)
    strands = 0.78 + 0.44 * value_noise(rng, (rows, columns), (4, 32) if cut.volume < 1.3 else (20, 20))
    hair = np.asarray(person.hair_colour, np.float32) * strands[..., None]
    return np.concatenate([np.clip(hair, 0, 1), opacity[..., None]], axis=2).astype(np.float32)
