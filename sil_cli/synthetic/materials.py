"""Surfaces of the places that people walk through: floors and walls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sil_cli.synthetic.fabric import Array, Colour, value_noise


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
class Surroundings:
    """What one network is built of."""

    floor: Material
    wall: Material


SURROUNDINGS: tuple[Surroundings, ...] = (
    Surroundings(
        Material("tiles", (0.66, 0.62, 0.56), (0.50, 0.47, 0.43), 0.42, 0.35),
        Material("bricks", (0.60, 0.38, 0.30), (0.72, 0.66, 0.60), 0.13, 0.5),
    ),
    Surroundings(
        Material("grass", (0.50, 0.53, 0.38), (0.40, 0.44, 0.30), 0.10, 0.9),
        Material("hedge", (0.28, 0.36, 0.24), (0.50, 0.56, 0.42), 0.12, 1.0),
    ),
    Surroundings(
        Material("planks", (0.62, 0.45, 0.30), (0.40, 0.28, 0.18), 0.16, 0.5),
        Material("panels", (0.86, 0.84, 0.80), (0.68, 0.66, 0.64), 0.75, 0.1),
    ),
    Surroundings(
        Material("rough", (0.36, 0.37, 0.39), (0.50, 0.51, 0.53), 0.06, 0.8),
        Material("glass", (0.45, 0.55, 0.62), (0.22, 0.25, 0.28), 0.55, 0.5),
    ),
    Surroundings(
        Material("tiles", (0.86, 0.87, 0.88), (0.60, 0.62, 0.66), 0.24, 0.08),
        Material("tiles", (0.70, 0.78, 0.80), (0.88, 0.90, 0.90), 0.16, 0.1),
    ),
    Surroundings(
        Material("bricks", (0.52, 0.48, 0.46), (0.36, 0.33, 0.32), 0.16, 0.6),
        Material("rough", (0.78, 0.70, 0.55), (0.68, 0.60, 0.46), 0.30, 0.5),
    ),
)


def surface(material: Material, a: Array, b: Array, rng: np.random.Generator) -> Array:
    """The colour of a surface at places in body heights.

    Args:
        material: What it is made of.
        a: (rows, columns) places across.
        b: (rows, columns) places along.
        rng: For its irregularities.

    Returns:
        (rows, columns, 3) in 0..1.
    """
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
