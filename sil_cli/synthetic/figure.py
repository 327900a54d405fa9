"""Draws a person in a pose, part by part from the far side to the near."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from sil_cli.synthetic.body import HEAD, Limb, Place, Pose, Skeleton, View, pose_body
from sil_cli.synthetic.fabric import Array
from sil_cli.synthetic.identity import PALETTE, Person
from sil_cli.synthetic.outfit import HAIR_CUTS, SHELL_LENGTH, Outfit, flat
from sil_cli.synthetic.tube import Light, Part, Tube, draw_tube

# Torso half-widths from the neck's root to the hips, in body heights.
_TORSO_WIDE = (
    0.034, 0.074, 0.103, 0.112, 0.112, 0.109, 0.105, 0.101, 0.097, 0.094, 0.092, 0.092, 0.094, 0.097, 0.100, 0.101,
    0.100,
)  # fmt: skip
_TORSO_DEEP = (
    0.034, 0.046, 0.056, 0.063, 0.068, 0.070, 0.070, 0.068, 0.066, 0.064, 0.064, 0.066, 0.069, 0.072, 0.074, 0.074,
    0.072,
)  # fmt: skip
_TROUSERS = {"slim": (0.056, 0.030, 0.027), "straight": (0.058, 0.042, 0.040), "wide": (0.062, 0.056, 0.062)}
_BARE_LEG = (0.052, 0.034, 0.022)
_SKIRTS = {"skirt": (0.20, 0.125), "maxi": (0.42, 0.15), "coat": (0.22, 0.128), "dress": (0.24, 0.135)}
# Layers, so that cloth hangs over cloth whatever the depth: legs, then skirt, then torso, then head.
_LEGS, _SKIRT, _TORSO, _NECK, _HEAD = -3.0, -2.0, 0.0, 0.02, 0.5
_HEAD_WIDE, _HEAD_DEEP = 0.056, 0.066  # half-widths in body heights


def draw_person(canvas: Array, person: Person, outfit: Outfit, pose: Pose, view: View, light: Light) -> None:
    """Paint a person over `canvas` (height, width, 3) in place."""
    skeleton = pose_body(person, pose)
    parts = [
        *_legs(person, outfit, skeleton, view),
        *_skirt(person, outfit, skeleton, pose, view),
        *_torso(person, outfit, skeleton, view),
        *_arms(person, outfit, skeleton, view),
        *_head(person, outfit, skeleton, pose.look, view),
        *_carried(person, skeleton, view),
    ]
    for part in sorted(parts, key=lambda part: part.layer):
        draw_tube(canvas, part.tube, light)


def _bone(
    view: View, start: Place, end: Place, halves: tuple[float, ...], texture: Array, rows: tuple[float, float] = (0, 1)
) -> Tube:
    scaled = tuple(half * view.scale for half in halves)
    return Tube(view.point(start), view.point(end), scaled, texture, view.turn, caps=(scaled[0], scaled[-1]), rows=rows)


def _along(start: Place, end: Place, share: float) -> Place:
    return (
        start[0] + share * (end[0] - start[0]),
        start[1] + share * (end[1] - start[1]),
        start[2] + share * (end[2] - start[2]),
    )


def _foot(person: Person, leg: Limb, view: View, layer: float) -> list[Part]:
    left, up, front = leg.end
    slope = max(-0.05, min(0.06, 0.5 * (up - 0.05)))
    heel = (left, up - 0.018, front - 0.014)
    toe = (left * 1.15, max(up - 0.022 - slope, 0.012), front + 0.075)
    low_heel, low_toe = (heel[0], heel[1] - 0.007, heel[2]), (toe[0], toe[1] - 0.006, toe[2])
    shoe = [
        Part(layer + 0.001, _bone(view, low_heel, low_toe, (0.019, 0.018), flat(person.sole))),
        Part(layer + 0.002, _bone(view, heel, toe, (0.021, 0.017), flat(person.shoe))),
    ]
    if person.boots:
        top = _along(leg.end, leg.middle, 0.42)
        shoe.append(Part(layer + 0.0035, _bone(view, top, leg.end, (0.037, 0.028), flat(person.shoe, 0.95))))
    return shoe


def _legs(person: Person, outfit: Outfit, skeleton: Skeleton, view: View) -> list[Part]:
    stout = 0.55 + 0.45 * person.build
    parts: list[Part] = []
    for leg in skeleton.legs:
        layer = _LEGS + view.depth(_along(leg.middle, leg.end, 0.5))
        parts += _foot(person, leg, view, layer)
        bare = person.lower in ("shorts", "skirt", "maxi")
        thigh, knee, ankle = (stout * half for half in _TROUSERS.get(person.lower, _BARE_LEG))
        cloth = outfit.skin if bare else outfit.leg
        shin = _bone(view, leg.middle, leg.end, (knee, (knee + ankle) / 2 * 1.04, ankle), cloth, (0.5, 1.0))
        if not bare:  # trousers are cut off flat above the shoe
            shin = replace(shin, caps=(shin.caps[0], 1.0))
        parts.append(Part(layer + 0.003, shin))
        parts.append(Part(layer + 0.004, _bone(view, leg.upper, leg.middle, (thigh, knee), cloth, (0.0, 0.5))))
        if person.lower == "shorts":
            hem = _along(leg.upper, leg.middle, 0.85)
            wide = tuple(half * view.scale * stout for half in (0.058, 0.056, 0.057))
            shorts = Tube(
                view.point(leg.upper), view.point(hem), wide, outfit.leg, view.turn, (wide[0], 1.5), (0.0, 0.5)
            )
            parts.append(Part(layer + 0.005, shorts))
    return parts


def _skirt(person: Person, outfit: Outfit, skeleton: Skeleton, pose: Pose, view: View) -> list[Part]:
    over = person.upper if person.upper in _SKIRTS else None
    parts: list[Part] = []
    for layer, kind in ((_SKIRT, person.lower if person.lower in _SKIRTS and not over else None), (_SKIRT + 0.5, over)):
        if kind is None:
            continue
        length, hem = _SKIRTS[kind]
        swing = length * math.sin(min(pose.stride, 0.4)) * 0.55
        top = (0.0, skeleton.hips[1] + 0.03, 0.0)
        end = (0.0, top[1] - length, 0.0)
        waist = view.half(_TORSO_WIDE[-1] * person.build * person.hips, _TORSO_DEEP[-1] * person.build)
        low = view.half(hem * person.build * 0.9, 0.7 * hem * person.build + swing)
        halves = tuple(float(half) for half in np.linspace(waist * 1.02, low, 6))
        parts.append(Part(layer, Tube(view.point(top), view.point(end), halves, outfit.skirt, view.turn, (0, 2.0))))
    return parts


def _torso(person: Person, outfit: Outfit, skeleton: Skeleton, view: View) -> list[Part]:
    count = len(_TORSO_WIDE)
    bulk = 1.06 if person.upper in ("hoodie", "jacket", "coat") else 1.0
    halves = []
    for index in range(count):
        share = index / (count - 1)
        frame = person.shoulders * (1 - share) + person.hips * share
        build = (0.55 + 0.45 * person.build) if share < 0.2 else person.build
        belly = 1 + max(0.0, person.build - 1.05) * math.sin(math.pi * share) * 0.6
        halves.append(view.half(_TORSO_WIDE[index] * frame * build * bulk, _TORSO_DEEP[index] * build * belly * bulk))
    low = (0.0, skeleton.hips[1] - 0.025, 0.0)
    torso = Tube(
        view.point(skeleton.neck), view.point(low), tuple(halves), outfit.torso, view.turn, (0.0, halves[-1] * 0.12)
    )
    throat = (0.0, skeleton.crown[1] - 0.8 * HEAD * person.head, 0.006)
    root = (0.0, skeleton.neck[1] - 0.012, 0.0)
    parts = [
        Part(_TORSO, torso),
        Part(_NECK, _bone(view, throat, root, (0.030, 0.032), outfit.skin * np.float32(0.86))),
    ]
    if person.scarf:
        top = (0.0, skeleton.neck[1] + 0.018, 0.0)
        wrap = _bone(view, top, root, (0.046, 0.054), flat(person.colours.extra))
        parts.append(Part(_NECK + 0.004, wrap))
        tail = (0.02, skeleton.neck[1] - 0.15, 0.075)
        hang = _bone(
            view, (0.015, skeleton.neck[1] - 0.01, 0.05), tail, (0.02, 0.024), flat(person.colours.extra, 0.92), (0, 1)
        )
        if view.depth(tail) > 0:
            parts.append(Part(_NECK + 0.003, hang))
    elif person.upper == "hoodie":
        hood = _bone(
            view, (0.0, skeleton.neck[1] - 0.004, -0.05), (0.0, skeleton.neck[1] - 0.036, -0.062), (0.052, 0.05),
            flat(person.colours.main, 0.82),
        )  # fmt: skip
        parts.append(Part(0.4 if view.depth((0, 0, -1)) > 0 else -0.5, hood))
    return parts


def _arms(person: Person, outfit: Outfit, skeleton: Skeleton, view: View) -> list[Part]:
    stout = 0.6 + 0.4 * person.build
    bulk = {"jacket": 1.18, "coat": 1.22, "hoodie": 1.2, "shirt": 1.05}.get(person.upper, 1.0)
    parts: list[Part] = []
    for arm in skeleton.arms:
        depth = view.depth(_along(arm.upper, arm.end, 0.6))
        layer = depth if depth < -0.045 else max(depth, 0.001)
        hand = _along(arm.middle, arm.end, 1.2)
        shoulder, elbow, wrist = (stout * half for half in (0.036, 0.028, 0.021))
        parts += [
            Part(layer, _bone(view, arm.end, hand, (0.021, 0.019), outfit.skin)),
            Part(layer + 0.001, _bone(view, arm.middle, arm.end, (elbow, wrist), outfit.skin)),
            Part(layer + 0.002, _bone(view, arm.upper, arm.middle, (shoulder, elbow), outfit.skin)),
        ]
        if person.sleeve > 0.03:
            parts += _sleeves(arm, person.sleeve, bulk * stout, outfit, view, layer + 0.003)
    return parts


def _sleeves(arm: Limb, reach: float, width: float, outfit: Outfit, view: View, layer: float) -> list[Part]:
    """What covers the arm, from the shoulder down to `reach` of its length."""
    parts = []
    upper = min(reach / 0.53, 1.0)
    if reach > 0.53:
        end = _along(arm.middle, arm.end, (reach - 0.53) / 0.47)
        lower = _bone(view, arm.middle, end, (0.033 * width, 0.027 * width), outfit.sleeve, (0.53, reach))
        parts.append(Part(layer, replace(lower, caps=(lower.caps[0], 1.0))))
    end = _along(arm.upper, arm.middle, upper)
    halves = (0.022 + 0.015 * width, 0.036 * width, 0.033 * width)
    sleeve = _bone(view, arm.upper, end, halves, outfit.sleeve, (0.0, min(reach, 0.53)))
    if upper < 1.0:
        sleeve = replace(sleeve, caps=(sleeve.caps[0], 1.0))
    parts.append(Part(layer + 0.001, sleeve))
    return parts


def _carried(person: Person, skeleton: Skeleton, view: View) -> list[Part]:
    """The parts of whatever a person carries; none for a person with free hands."""
    if person.carried == "none":
        return []
    if person.carried == "backpack":
        middle = (0.0, skeleton.neck[1] - 0.125, -0.108)
        return [_box(person, view, middle, (0.088, 0.052), 0.098, 0.03 if view.depth(middle) > 0 else -0.3)]
    if person.carried == "crossbody":
        middle = (person.carried_side * -0.118, skeleton.hips[1] - 0.005, 0.015)
        return [_box(person, view, middle, (0.028, 0.066), 0.05, _beside(view, middle))]
    arm = next(arm for arm in skeleton.arms if arm.side == person.carried_side)
    hand = arm.end
    if person.carried == "tote":
        middle = (hand[0] + 0.01 * arm.side, hand[1] - 0.15, hand[2])
        layer = _beside(view, middle)
        return [_strap(view, hand, middle, layer - 0.005), _box(person, view, middle, (0.03, 0.075), 0.078, layer)]
    middle = (hand[0] + 0.05 * arm.side, 0.17, hand[2] - 0.06)
    layer = _beside(view, middle)
    return [_strap(view, hand, middle, layer - 0.005), _box(person, view, middle, (0.085, 0.055), 0.14, layer)]


def _beside(view: View, place: Place) -> float:
    """The layer of a thing at the body's side: before all or behind all of the figure."""
    return 0.35 if view.depth(place) > 0 else -4.0


def _box(person: Person, view: View, middle: Place, size: tuple[float, float], tall: float, layer: float) -> Part:
    """A bag with rounded corners: its half-width and half-depth, and half its height, in body heights."""
    half = view.half(*size)
    left, up, front = middle
    halves = tuple(half * share for share in (0.86, 0.98, 1.0, 1.0, 1.0, 0.98, 0.92))
    start, end = view.point((left, up + tall, front)), view.point((left, up - tall, front))
    cap = half * 0.18
    return Part(layer, Tube(start, end, halves, _leather(person), view.turn + np.pi, (cap, cap)))


def _strap(view: View, hand: Place, middle: Place, layer: float) -> Part:
    thin = view.scale * 0.006
    return Part(
        layer,
        Tube(view.point(hand), view.point(middle), (thin, thin * 2.2), flat(PALETTE["charcoal"]), 0.0, (thin, 0.0)),
    )


def _leather(person: Person) -> Array:
    """A bag's texture: (24, 24, 3), with a flap, a pocket or a rim by the person's own chance."""
    bag = np.broadcast_to(np.asarray(person.carried_colour, np.float32), (24, 24, 3)).copy()
    kind = person.texture_seed % 4
    if kind == 0:
        bag[:9] *= 0.72
    elif kind == 1:
        bag[13:21, 7:17] = np.asarray(person.colours.extra, np.float32)
    elif kind == 2:
        bag[[2, 3, 20, 21]] = np.asarray(person.colours.main, np.float32) * 0.8
    else:
        bag[:, 10:14] *= 0.7
    return bag


def _egg(count: int, half: float) -> tuple[float, ...]:
    """Half-widths of a head from the crown to the chin."""
    t = np.linspace(0, 1, count)
    return tuple(float(x) for x in half * np.sqrt(np.clip(1 - (2 * t - 1) ** 2, 0, 1)) ** 0.8 * (1.04 - 0.2 * t**2))


def _head(person: Person, outfit: Outfit, skeleton: Skeleton, look: float, view: View) -> list[Part]:
    """The head with its hair and hat, which may look another way than the body faces."""
    turn = view.turn - look
    eye = View(turn, view.tilt, view.scale, view.foot, view.lean)
    left, up, front = skeleton.crown
    size = person.head
    length = HEAD * size
    half = eye.half(_HEAD_WIDE * size, _HEAD_DEEP * size)
    crown, chin = view.point((left, up, front)), view.point((left, up - length, front))
    parts = [Part(_HEAD, Tube(crown, chin, _egg(17, half), outfit.head, turn))]
    nose = eye.point((0.0, up - 0.62 * length, front + _HEAD_DEEP * size))
    side = math.sin(turn)
    if abs(side) > 0.55 and abs(look) < 1.2:
        tip = eye.scale * 0.011
        above, below = (nose[0], nose[1] - tip), (nose[0], nose[1] + tip)
        parts.append(Part(_HEAD - 0.01, Tube(above, below, (tip, tip * 1.2), outfit.skin, turn, (tip, tip))))
    parts += _hair(person, outfit, skeleton, half, eye, view)
    return parts + _hat(person, skeleton, half, eye, view)


def _hair(person: Person, outfit: Outfit, skeleton: Skeleton, half: float, eye: View, view: View) -> list[Part]:
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
    parts = [Part(_HEAD + 0.1, Tube(view.point(top), view.point(low), halves, outfit.hair, eye.turn))]
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
        parts.append(Part(_HEAD + 0.2 if eye.depth(start) > 0 else _HEAD - 0.2, tail))
    return parts


def _hat(person: Person, skeleton: Skeleton, half: float, eye: View, view: View) -> list[Part]:
    if person.hat == "none":
        return []
    left, up, front = skeleton.crown
    tall = {"cap": 0.012, "beanie": 0.024, "brim": 0.026}[person.hat]
    reach = 0.046 * person.head
    top, rim = (left, up + tall, front - 0.004), (left, up - reach, front - 0.004)
    dome = tuple(float(x) for x in half * 1.16 * np.sqrt(np.clip(1 - (1 - np.linspace(0, 1, 9)) ** 2.6, 0, 1)))
    cloth = flat(person.hat_colour)
    parts = [Part(_HEAD + 0.3, Tube(view.point(top), view.point(rim), dome, cloth, eye.turn, (0.0, 1.5)))]
    if person.hat == "beanie":
        fold = (left, up - reach + 0.022, front - 0.004)
        cuff, cloth = (half * 1.22, half * 1.22), flat(person.hat_colour, 0.8)
        parts.append(Part(_HEAD + 0.31, Tube(view.point(fold), view.point(rim), cuff, cloth, eye.turn, (1.0, 2.0))))
        return parts
    wide, deep, forwards = (0.052, 0.042, 0.075) if person.hat == "cap" else (0.105, 0.105, 0.0)
    centre = eye.point((left, up - reach + 0.004, front + forwards))
    span, thick = eye.half(wide, deep), view.scale * (0.009 + 0.06 * math.sin(view.tilt))
    left_end, right_end = (centre[0] - span, centre[1]), (centre[0] + span, centre[1])
    brim = Tube(left_end, right_end, (thick, thick), flat(person.hat_colour, 0.85), 0.0, (thick, thick))
    behind = person.hat == "cap" and eye.depth((0, 0, 1)) < -0.1
    parts.append(Part(_HEAD - 0.1 if behind else _HEAD + 0.32, brim))
    return parts
