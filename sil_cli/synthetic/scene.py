"""Places: what a camera sees behind, beside and before the people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from sil_cli.synthetic.fabric import Array, Colour, value_noise
from sil_cli.synthetic.outfit import flat
from sil_cli.synthetic.tube import Light, Tube, draw_tube

PLATE_WIDTH, PLATE_HEIGHT = 4.0, 1.5  # in crop widths and crop heights


@dataclass(frozen=True)
class Material:
    """A surface.

    Attributes:
        kind: Its geometry: tiles, planks, bricks, rough, grass, panels, hedge or glass.
        base, joint: The colours of the surface and of its joints or spots.
        size: The distance after which it repeats, in body heights.
        grain: The strength of its irregularity, 0 to 1.
    """

    kind: str
    base: Colour
    joint: Colour
    size: float
    grain: float


@dataclass(frozen=True)
class Scenery:
    """What one network is built of."""

    floor: Material
    wall: Material


SCENERIES: tuple[Scenery, ...] = (
    Scenery(
        Material("tiles", (0.66, 0.62, 0.56), (0.50, 0.47, 0.43), 0.42, 0.35),
        Material("bricks", (0.60, 0.38, 0.30), (0.72, 0.66, 0.60), 0.13, 0.5),
    ),
    Scenery(
        Material("grass", (0.50, 0.53, 0.38), (0.40, 0.44, 0.30), 0.10, 0.9),
        Material("hedge", (0.28, 0.36, 0.24), (0.50, 0.56, 0.42), 0.12, 1.0),
    ),
    Scenery(
        Material("planks", (0.62, 0.45, 0.30), (0.40, 0.28, 0.18), 0.16, 0.5),
        Material("panels", (0.86, 0.84, 0.80), (0.68, 0.66, 0.64), 0.75, 0.1),
    ),
    Scenery(
        Material("rough", (0.36, 0.37, 0.39), (0.50, 0.51, 0.53), 0.06, 0.8),
        Material("glass", (0.45, 0.55, 0.62), (0.22, 0.25, 0.28), 0.55, 0.5),
    ),
    Scenery(
        Material("tiles", (0.86, 0.87, 0.88), (0.60, 0.62, 0.66), 0.24, 0.08),
        Material("tiles", (0.70, 0.78, 0.80), (0.88, 0.90, 0.90), 0.16, 0.1),
    ),
    Scenery(
        Material("bricks", (0.52, 0.48, 0.46), (0.36, 0.33, 0.32), 0.16, 0.6),
        Material("rough", (0.78, 0.70, 0.55), (0.68, 0.60, 0.46), 0.30, 0.5),
    ),
)


def _surface(material: Material, a: Array, b: Array, rng: np.random.Generator) -> Array:
    """The colour of a surface, (rows, columns, 3) in 0..1, at places across and along, in body heights."""
    shape = (a.shape[0], a.shape[1])
    u, v = a / material.size, b / material.size
    fine = value_noise(rng, shape, (shape[0] // 3, shape[1] // 3))
    coarse = value_noise(rng, shape, (9, 15))
    joint, tone = _geometry(material.kind, u, v, fine, coarse, rng)
    colour = np.asarray(material.base, np.float32) + joint[..., None] * (
        np.asarray(material.joint, np.float32) - np.asarray(material.base, np.float32)
    )
    light = 1 + 0.3 * tone + material.grain * (0.34 * (fine - 0.5) + 0.36 * (coarse - 0.5))
    lit: Array = np.clip(colour * light[..., None], 0, 1).astype(np.float32)
    return lit


def _geometry(
    kind: str, u: Array, v: Array, fine: Array, coarse: Array, rng: np.random.Generator
) -> tuple[Array, Array]:
    """How much of a joint each place is (0..1), and how bright its tile is (−0.5..0.5)."""
    tones = rng.random(1024).astype(np.float32) - 0.5
    if kind in ("grass", "rough", "hedge"):
        mix = fine if kind == "rough" else 0.5 * fine + 0.5 * coarse
        return np.clip((mix - 0.3) * 1.8, 0, 1), np.zeros_like(u)
    if kind == "bricks":
        u = (u / 2 + 0.5 * np.mod(np.floor(v), 2)).astype(np.float32)
    elif kind == "planks":
        v = (v / 8 + 0.37 * np.floor(u)).astype(np.float32)
    cell = (np.floor(u) * 31 + np.floor(v) * 17).astype(np.int64) % 1024
    width = {"tiles": 0.06, "bricks": 0.09, "planks": 0.08, "panels": 0.03, "glass": 0.10}[kind]
    gap = np.maximum(np.abs(np.mod(u, 1) - 0.5), np.abs(np.mod(v, 1) - 0.5))
    joint = (gap > 0.5 - width / 2).astype(np.float32)
    return joint, tones[cell] * (1.6 if kind == "glass" else 0.6)


@dataclass(frozen=True)
class Plate:
    """A camera's whole background, from which each image shows a part.

    Attributes:
        image: (1.5 crop heights, 4 crop widths, 3) in 0..255.
        horizon: Where the floor begins, as a fraction of its height.
    """

    image: Image.Image
    horizon: float


def scenery_of(rng: np.random.Generator, domain: int, own: float) -> Scenery:
    """What a camera's place is built of: the network's own material with probability `own`, else any."""
    number = domain if rng.random() < own else int(rng.integers(len(SCENERIES)))
    return SCENERIES[number % len(SCENERIES)]


def draw_plate(
    rng: np.random.Generator, place: Scenery, tilt: float, size: tuple[int, int], *, unit: float | None = None
) -> Plate:
    """A place for one camera.

    Args:
        rng: The camera's own chance.
        place: What it is built of.
        tilt: How far the camera looks down, radians: the higher it hangs, the less of the wall it sees.
        size: Height and width of a crop in pixels.
        unit: Pixels of a body height at the wall; None: as crops of this size show it.
    """
    rows, columns = int(size[0] * PLATE_HEIGHT), int(size[1] * PLATE_WIDTH)
    unit = size[0] * 0.85 if unit is None else unit
    horizon = float(np.clip(0.60 - 1.1 * tilt + rng.normal(0, 0.05), 0.12, 0.62))
    edge = int(horizon * rows)
    x = (np.arange(columns, dtype=np.float32)[None, :] - columns * np.float32(rng.uniform(0.2, 0.8))) / unit
    wall_y = (np.arange(edge, dtype=np.float32)[:, None] - edge) / unit
    slope = float(rng.normal(0, 0.08))
    wall = _surface(place.wall, x + 0 * wall_y, wall_y + slope * x, rng)
    away = 1.0 / (0.35 + (np.arange(rows - edge, dtype=np.float32)[:, None] / unit))
    skew = float(rng.normal(0, 0.5))
    floor = _surface(place.floor, x * away * 0.9 + skew * away, 2.2 * away + 0 * x, rng)
    near = np.linspace(0.86, 1.06, rows - edge, dtype=np.float32)[:, None, None]
    picture = np.concatenate([wall, floor * near])
    picture *= 1 + float(rng.uniform(-0.25, 0.25)) * np.linspace(-1, 1, columns, dtype=np.float32)[None, :, None]
    image = Image.fromarray((np.clip(picture, 0, 1) * 255).astype(np.uint8))
    _furnish(rng, image, edge, unit)
    return Plate(image, horizon)


def _furnish(rng: np.random.Generator, image: Image.Image, edge: int, unit: float) -> None:
    """Doors, windows, posters, posts and bins along the wall."""
    pen = ImageDraw.Draw(image)
    columns = image.width

    def tint(low: float, high: float) -> tuple[int, int, int]:
        grey = rng.uniform(low, high)
        red, green, blue = (int(np.clip(grey + rng.normal(0, 0.08), 0.03, 1) * 255) for _ in range(3))
        return red, green, blue

    for _ in range(int(rng.integers(2, 6))):
        left = int(rng.uniform(-0.05, 1) * columns)
        wide = int(unit * rng.uniform(0.12, 0.5))
        kind = rng.integers(4)
        if kind == 0:  # door
            pen.rectangle([left, edge - int(unit * 1.05), left + wide, edge], tint(0.15, 0.6), tint(0.1, 0.9), 2)
        elif kind == 1:  # window or poster
            base = edge - int(unit * rng.uniform(0.35, 0.6))
            pen.rectangle([left, base - int(unit * 0.4), left + wide, base], tint(0.3, 0.95), tint(0.1, 0.9), 2)
        elif kind == 2:  # post
            thick = max(int(unit * rng.uniform(0.015, 0.04)), 2)
            foot = edge + int(unit * rng.uniform(0, 0.2))
            pen.rectangle([left, 0, left + thick, foot], tint(0.15, 0.7))
        else:  # bin or box
            foot = edge + int(unit * rng.uniform(0.03, 0.2))
            pen.rectangle([left, foot - int(unit * 0.3), left + int(wide * 0.6), foot], tint(0.12, 0.6))


def cut_background(rng: np.random.Generator, plate: Plate, size: tuple[int, int]) -> Array:
    """A part of the plate for one image: (height, width, 3) in 0..1 (size is height and width)."""
    zoom = float(rng.uniform(0.85, 1.15))
    wide, high = size[1] * zoom, min(size[0] * zoom, plate.image.height)
    left = float(rng.uniform(0, plate.image.width - wide))
    top = float(rng.uniform(0.25, 0.9)) * (plate.image.height - high)
    cut = plate.image.resize((size[1], size[0]), Image.Resampling.BILINEAR, box=(left, top, left + wide, top + high))
    return np.asarray(cut, np.float32) * np.float32(1 / 255)


def cast_shadow(canvas: Array, foot: tuple[float, float], scale: float, angle: float, strength: float) -> None:
    """Darken the floor around the feet, away from the light, in place."""
    rows = slice(max(int(foot[1] - 0.1 * scale), 0), min(int(foot[1] + 0.09 * scale) + 1, canvas.shape[0]))
    if rows.start >= rows.stop:
        return
    y = (np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] - np.float32(foot[1])) / np.float32(0.032 * scale)
    x = np.arange(canvas.shape[1], dtype=np.float32)[None, :] - np.float32(foot[0] - 0.13 * scale * np.sin(angle))
    dark = np.exp(-(y**2) - (x / np.float32(0.17 * scale)) ** 2)
    canvas[rows] *= 1 - np.float32(strength) * dark[..., None]


def cast_shade(canvas: Array, rng: np.random.Generator) -> None:
    """Let a wall or a tree shade a part of the picture, with a soft and slanted edge, in place."""
    rows, columns = canvas.shape[:2]
    angle = float(rng.uniform(0, 2 * np.pi))
    y = (np.arange(rows, dtype=np.float32)[:, None] / rows - 0.5) * np.float32(np.sin(angle))
    x = (np.arange(columns, dtype=np.float32)[None, :] / columns - 0.5) * np.float32(np.cos(angle))
    edge = np.clip((x + y - np.float32(rng.uniform(-0.2, 0.2))) / np.float32(rng.uniform(0.05, 0.3)) + 0.5, 0, 1)
    blue = np.asarray([1.04, 1.0, 0.92], np.float32) * np.float32(rng.uniform(0.2, 0.5))
    canvas *= 1 - edge[..., None] * blue


OCCLUDERS = ("pole", "planter", "railing", "bin", "board")


def draw_occluder(canvas: Array, kind: str, rng: np.random.Generator, light: Light, colour: Colour) -> None:
    """Put something between the camera and the person, in place."""
    rows, columns = canvas.shape[:2]
    x = float(rng.uniform(0.05, 0.95)) * columns
    if kind == "pole":
        half = columns * float(rng.uniform(0.035, 0.08))
        draw_tube(canvas, Tube((x, -5.0), (x + float(rng.normal(0, 2)), rows + 5.0), (half, half), flat(colour)), light)
    elif kind in ("planter", "bin"):
        half = columns * float(rng.uniform(0.16, 0.3))
        top = rows * float(rng.uniform(0.66, 0.84))
        if kind == "planter":
            for _ in range(9):
                tip = (x + float(rng.normal(0, 0.7)) * half, top - rows * float(rng.uniform(0.03, 0.12)))
                leaf = columns * float(rng.uniform(0.02, 0.05))
                green = (0.2 + 0.2 * float(rng.random()), 0.36 + 0.2 * float(rng.random()), 0.17)
                draw_tube(canvas, Tube((x, top + 4), tip, (leaf * 0.4, leaf), flat(green), caps=(0.0, leaf)), light)
        draw_tube(canvas, Tube((x, top), (x, rows + 5.0), (half, half * 0.85), flat(colour)), light)
    elif kind == "railing":
        top = rows * float(rng.uniform(0.6, 0.8))
        thin = columns * 0.022
        for level in (top, top + rows * 0.12):
            draw_tube(canvas, Tube((-5.0, level), (columns + 5.0, level), (thin, thin), flat(colour)), light)
        for step in np.arange(x % (columns * 0.3), columns, columns * 0.3):
            draw_tube(canvas, Tube((float(step), top), (float(step), rows + 5.0), (thin, thin), flat(colour)), light)
    else:  # a board that hides one side
        side = 0.0 if x < columns / 2 else float(columns)
        half = columns * float(rng.uniform(0.14, 0.3))
        top = rows * float(rng.uniform(0.1, 0.55))
        draw_tube(canvas, Tube((side, top), (side, rows + 5.0), (half, half), flat(colour), turn=0.0), light)


def halve(canvas: Array) -> Array:
    """The mean of each 2×2 block: (2h, 2w, 3) to (h, w, 3)."""
    small: Array = (canvas[::2, ::2] + canvas[1::2, ::2] + canvas[::2, 1::2] + canvas[1::2, 1::2]) * np.float32(0.25)
    return small
