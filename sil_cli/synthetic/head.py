"""Head, hair and hats."""

from __future__ import annotations

import math

import numpy as np

from sil_cli.synthetic.body import HEAD, Skeleton, View
from sil_cli.synthetic.identity import Person
from sil_cli.synthetic.outfit import HAIR_CUTS, SHELL_LENGTH, Outfit, flat
from sil_cli.synthetic.tube import Part, Tube

_WIDE, _DEEP = 0.056, 0.066  # half-widths in body heights
_LAYER = 0.5


def _egg(count: int, half: float) -> tuple[float, ...]:
    """Half-widths of a head from the crown to the chin."""
    t = np.linspace(0, 1, count)
    return tuple(float(x) for x in half * np.sqrt(np.clip(1 - (2 * t - 1) ** 2, 0, 1)) ** 0.8 * (1.04 - 0.2 * t**2))


def head_parts(person: Person, outfit: Outfit, skeleton: Skeleton, look: float, view: View) -> list[Part]:
    """The head with its hair and hat, which may look another way than the body faces."""
    turn = view.turn - look
    eye = View(turn, view.tilt, view.scale, view.foot, view.lean)
    left, up, front = skeleton.crown
    size = person.head
    length = HEAD * size
    half = eye.half(_WIDE * size, _DEEP * size)
    crown, chin = view.point((left, up, front)), view.point((left, up - length, front))
    parts = [Part(_LAYER, Tube(crown, chin, _egg(17, half), outfit.head, turn))]
    nose = eye.point((0.0, up - 0.62 * length, front + _DEEP * size))
    side = math.sin(turn)
    if abs(side) > 0.55 and abs(look) < 1.2:
        tip = eye.scale * 0.011
        above, below = (nose[0], nose[1] - tip), (nose[0], nose[1] + tip)
        parts.append(Part(_LAYER - 0.01, Tube(above, below, (tip, tip * 1.2), outfit.skin, turn, (tip, tip))))
    parts += _hair_parts(person, outfit, skeleton, half, eye, view)
    return parts + _hat_parts(person, skeleton, half, eye, view)


def _hair_parts(person: Person, outfit: Outfit, skeleton: Skeleton, half: float, eye: View, view: View) -> list[Part]:
    cut = HAIR_CUTS[person.hair]
    if cut.back == 0:
        return []
    left, up, front = skeleton.crown
    lift, volume = (cut.lift, cut.volume) if person.hat == "none" else (0.003, min(cut.volume, 1.2))
    length = HEAD * person.head
    t = np.linspace(0, 1, 33) * SHELL_LENGTH / (length + lift)
    round_part = np.sqrt(np.clip(1 - (2 * np.minimum(t, 0.5) - 1) ** 2, 0, 1)) ** 0.7
    neck = 1 - 0.30 * np.clip((t - 0.55) / 0.4, 0, 1) if cut.back < 0.14 else 1 + 0.10 * np.clip(t - 0.8, 0, 1)
    halves = tuple(float(x) for x in half * volume * round_part * neck)
    top, low = (left, up + lift, front - 0.004), (left, up + lift - SHELL_LENGTH, front - 0.012)
    parts = [Part(_LAYER + 0.1, Tube(view.point(top), view.point(low), halves, outfit.hair, eye.turn))]
    knot = {
        "ponytail": ((0.0, up - 0.04, -0.068), (0.0, up - 0.20, -0.085), (0.020, 0.026, 0.012)),
        "bun": ((0.0, up + 0.006, -0.05), (0.0, up - 0.008, -0.056), (0.034, 0.034)),
    }.get(person.hair)
    if knot:
        start, end, widths = knot
        scaled = tuple(width * view.scale for width in widths)
        tail = Tube(
            eye.point(start), eye.point(end), scaled, flat(person.hair_colour, 0.92), eye.turn, (scaled[0], scaled[-1])
        )
        parts.append(Part(_LAYER + 0.2 if eye.depth(start) > 0 else _LAYER - 0.2, tail))
    return parts


def _hat_parts(person: Person, skeleton: Skeleton, half: float, eye: View, view: View) -> list[Part]:
    if person.hat == "none":
        return []
    left, up, front = skeleton.crown
    tall = {"cap": 0.012, "beanie": 0.024, "brim": 0.026}[person.hat]
    reach = 0.046 * person.head
    top, rim = (left, up + tall, front - 0.004), (left, up - reach, front - 0.004)
    dome = tuple(float(x) for x in half * 1.16 * np.sqrt(np.clip(1 - (1 - np.linspace(0, 1, 9)) ** 2.6, 0, 1)))
    cloth = flat(person.hat_colour)
    parts = [Part(_LAYER + 0.3, Tube(view.point(top), view.point(rim), dome, cloth, eye.turn, (0.0, 1.5)))]
    if person.hat == "beanie":
        fold = (left, up - reach + 0.022, front - 0.004)
        cuff, cloth = (half * 1.22, half * 1.22), flat(person.hat_colour, 0.8)
        parts.append(Part(_LAYER + 0.31, Tube(view.point(fold), view.point(rim), cuff, cloth, eye.turn, (1.0, 2.0))))
        return parts
    wide, deep, forwards = (0.052, 0.042, 0.075) if person.hat == "cap" else (0.105, 0.105, 0.0)
    centre = eye.point((left, up - reach + 0.004, front + forwards))
    span, thick = eye.half(wide, deep), view.scale * (0.009 + 0.06 * math.sin(view.tilt))
    left_end, right_end = (centre[0] - span, centre[1]), (centre[0] + span, centre[1])
    brim = Tube(left_end, right_end, (thick, thick), flat(person.hat_colour, 0.85), 0.0, (thick, thick))
    behind = person.hat == "cap" and eye.depth((0, 0, 1)) < -0.1
    parts.append(Part(_LAYER - 0.1 if behind else _LAYER + 0.32, brim))
    return parts
