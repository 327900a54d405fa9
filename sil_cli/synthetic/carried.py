"""What people carry: backpacks, bags and suitcases."""

from __future__ import annotations

import numpy as np

from sil_cli.synthetic.body import Place, Skeleton, View
from sil_cli.synthetic.fabric import Array
from sil_cli.synthetic.identity import PALETTE, Person
from sil_cli.synthetic.outfit import flat
from sil_cli.synthetic.parts import Part
from sil_cli.synthetic.tube import Tube


def carried_parts(person: Person, skeleton: Skeleton, view: View) -> list[Part]:
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
