"""The one shape that everything is built from: a tube, seen from the side.

A tube runs along a straight axis, has a half-width at each point of it, and carries a texture wrapped around it:
rows run along the axis, columns once around. Seen from another side another part of the texture shows, so that a
print on the chest vanishes from behind and a stripe goes all the way round, as they do on people.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Point = tuple[float, float]

_ALONG = 96  # entries of the table of half-widths
_ACROSS = 128  # entries of the tables over the tube's visible half
_SIDE = np.linspace(-1.0, 1.0, _ACROSS)
_BEND = np.arcsin(_SIDE)
_STEPS = np.linspace(0.0, 1.0, _ALONG)


@dataclass(frozen=True)
class Light:
    """Where the light comes from.

    Attributes:
        angle: Radians to the right of the viewer.
        ambient: Brightness of the side in shadow, 0 to 1.
    """

    angle: float
    ambient: float


@lru_cache(maxsize=64)
def _shade(light: Light) -> Array:
    """Brightness over the visible half of an upright tube, from its left edge to its right."""
    facing = np.maximum(np.cos(_BEND - light.angle), 0.0)
    edge = 0.72 + 0.28 * np.sqrt(np.cos(_BEND))
    shade: Array = ((light.ambient + (1.06 - light.ambient) * facing) * edge).astype(np.float32)
    return shade[:, None]


@dataclass(frozen=True)
class Tube:
    """A tube on the canvas.

    Attributes:
        start, end: The axis, (x, y) in pixels.
        halves: Half-widths in pixels at equal steps along the axis.
        texture: (rows, columns, 3 or 4) in 0..1; the fourth channel is opacity. The middle column is the front.
        turn: The angle around the tube that faces the viewer, in radians; 0 is the front.
        caps: The length in pixels of the rounded cap before the start and after the end; 0 is cut off flat.
        rows: The part of the texture's rows used, as fractions.
    """

    start: Point
    end: Point
    halves: tuple[float, ...]
    texture: Array
    turn: float = 0.0
    caps: tuple[float, float] = (0.0, 0.0)
    rows: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True)
class Part:
    """One part of a figure.

    Attributes:
        layer: Parts are drawn from the lowest layer to the highest; around 0 it is the depth in body heights.
        tube: Its shape and texture.
    """

    layer: float
    tube: Tube


def _half_widths(tube: Tube, length: float) -> tuple[Array, Array]:
    """Half-widths at equal steps from the tip of the first cap to the tip of the last, and those without caps.

    The outline follows the first; the texture and the light follow the second, lest a joint shows as a seam.
    """
    head, tail = tube.caps
    total = head + length + tail
    reach = _STEPS * total - head
    last = len(tube.halves) - 1
    bare = np.interp(reach, _STEPS[: last + 1] * (length * (_ALONG - 1) / max(last, 1)), tube.halves)
    outline = bare.copy()
    if head > 0:
        outline *= np.sqrt(1.0 - np.minimum(np.maximum(-reach / head, 0.0), 1.0) ** 2)
    if tail > 0:
        outline *= np.sqrt(1.0 - np.minimum(np.maximum((reach - length) / tail, 0.0), 1.0) ** 2)
    return outline.astype(np.float32), np.maximum(bare, 0.5).astype(np.float32)


def _box(tube: Tube, direction: Point, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """The part of the canvas that the tube can touch: left, right, top and bottom."""
    (x0, y0), (x1, y1) = tube.start, tube.end
    (ux, uy), (head, tail) = direction, tube.caps
    reach = max(tube.halves) + 1.0
    wide, high = reach * abs(uy) + 1.0, reach * abs(ux) + 1.0
    xs, ys = (x0 - ux * head, x1 + ux * tail), (y0 - uy * head, y1 + uy * tail)
    return (
        max(int(min(xs) - wide), 0),
        min(int(max(xs) + wide) + 1, shape[1]),
        max(int(min(ys) - high), 0),
        min(int(max(ys) + high) + 1, shape[0]),
    )


def draw_tube(canvas: Array, tube: Tube, light: Light) -> None:
    """Paint a tube over `canvas` (height, width, 3) in place, with smooth edges and a lit side."""
    (x0, y0), (x1, y1) = tube.start, tube.end
    length = math.hypot(x1 - x0, y1 - y0)
    ux, uy = ((x1 - x0) / length, (y1 - y0) / length) if length > 0.5 else (0.0, 1.0)
    length = max(length, 0.5)
    left, right, top, bottom = _box(tube, (ux, uy), canvas.shape)
    if left >= right or top >= bottom:
        return
    dx = np.arange(left, right, dtype=np.float32) + np.float32(0.5 - x0)
    dy = (np.arange(top, bottom, dtype=np.float32) + np.float32(0.5 - y0))[:, None]
    head, tail = tube.caps
    total = head + length + tail
    along = (dx * np.float32(ux) + np.float32(head)) + dy * np.float32(uy)
    aside = dx * np.float32(uy) - dy * np.float32(ux)
    index = np.minimum(np.maximum(along * np.float32((_ALONG - 1) / total), 0), _ALONG - 1).astype(np.intp)
    outline, bare = _half_widths(tube, length)
    alpha = np.minimum(outline.take(index) - np.abs(aside), np.minimum(along, np.float32(total) - along))
    alpha = np.minimum(np.maximum(alpha + np.float32(0.5), 0), 1)
    side = aside * np.float32((_ACROSS - 1) / 2) / bare.take(index) + np.float32(_ACROSS / 2)
    side = np.minimum(np.maximum(side, 0), _ACROSS - 1).astype(np.intp)
    _lay(canvas[top:bottom, left:right], tube, light, index, side, alpha)


def _lay(patch: Array, tube: Tube, light: Light, index: NDArray[np.intp], side: NDArray[np.intp], alpha: Array) -> None:
    """Blend the tube's lit texture into its part of the canvas."""
    rows, columns, channels = tube.texture.shape
    if rows * columns == 1:
        colour = (_shade(light) * tube.texture[0, :, :3]).take(side, axis=0)
    else:
        low, high = tube.rows
        row_table = ((low + (high - low) * _STEPS) * (rows - 1e-3)).astype(np.intp) * columns
        around = (_BEND + tube.turn) / (2 * np.pi) + 0.5
        column_table = ((around - np.floor(around)) * columns).astype(np.intp) % columns
        texels = tube.texture.reshape(rows * columns, channels)
        colour = texels.take(row_table.take(index) + column_table.take(side), axis=0)
        if channels == 4:
            alpha = alpha * colour[..., 3]
            colour = colour[..., :3]
        colour = colour * _shade(light).take(side, axis=0)
    colour -= patch
    colour *= alpha[..., None]
    patch += colour
