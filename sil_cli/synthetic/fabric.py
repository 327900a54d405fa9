"""Cloth: patterns by their geometry, in units of the body's height.

A pattern is a function of the place on the cloth (`a` around the body from the front, `b` down from its top edge)
and of its size, and gives how much of the second colour shows there, 0 to 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float32]
Colour = tuple[float, float, float]
PatternKind = Literal[
    "plain", "hoops", "stripes", "checks", "tartan", "dots", "diagonal", "chevron", "block", "band", "halves",
    "gradient", "patches", "diamonds",
]  # fmt: skip
_Weave = Callable[[Array, Array, float, float], Array]


@dataclass(frozen=True)
class Pattern:
    """A pattern of two colours.

    Attributes:
        kind: Its geometry.
        period: The distance after which it repeats, in body heights (for blocks: where they meet).
        share: The part of a period in the second colour, 0 to 1.
        texture_seed: For patterns that are drawn by chance.
    """

    kind: PatternKind
    period: float
    share: float
    texture_seed: int


def value_noise(rng: np.random.Generator, shape: tuple[int, int], cells: tuple[int, int]) -> Array:
    """Smooth noise in 0..1 of `shape`, from `cells` random values down and across."""
    coarse = Image.fromarray((rng.random(cells) * 255).astype(np.uint8))
    fine = coarse.resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    return np.asarray(fine, np.float32) * np.float32(1 / 255)


def _pulse(x: Array, period: float, share: float) -> Array:
    """1 in the first `share` of each period, else 0."""
    pulse: Array = (np.mod(x / period, 1.0) < share).astype(np.float32)
    return pulse


def _dots(a: Array, b: Array, period: float, share: float) -> Array:
    row = np.floor(b / period)
    x = np.mod(a / period + 0.5 * np.mod(row, 2), 1.0) - 0.5
    y = np.mod(b / period, 1.0) - 0.5
    dots: Array = (np.hypot(x, y) < 0.22 + 0.25 * share).astype(np.float32)
    return dots


def _checks(a: Array, b: Array, period: float, share: float) -> Array:
    checks: Array = np.abs(_pulse(a, period, 0.5) - _pulse(b, period, 0.5)) * (0.7 + 0.3 * share)
    return checks


def _diamonds(a: Array, b: Array, period: float, share: float) -> Array:
    x = np.abs(np.mod(a / period, 1.0) - 0.5)
    y = np.abs(np.mod(b / period / 1.6, 1.0) - 0.5)
    diamonds: Array = (x + y < 0.3 + 0.2 * share).astype(np.float32)
    return diamonds


def _chevron(a: Array, b: Array, period: float, share: float) -> Array:
    zigzag = np.abs(np.mod(a / (period * 1.6), 1.0) - 0.5) * period * 1.6
    return _pulse(b + zigzag, period, share)


_WEAVES: dict[str, _Weave] = {
    "plain": lambda a, b, period, share: np.zeros_like(a + b),
    "hoops": lambda a, b, period, share: _pulse(b + 0 * a, period, share),
    "stripes": lambda a, b, period, share: _pulse(a + 0 * b + period * share / 2, period, share),
    "checks": _checks,
    "tartan": lambda a, b, period, share: (
        0.55 * _pulse(a + 0 * b, period, 0.3 + 0.3 * share) + 0.45 * _pulse(b + 0 * a, period, 0.3 + 0.3 * share)
    ),
    "dots": _dots,
    "diagonal": lambda a, b, period, share: _pulse(a + b, period * 1.3, share),
    "chevron": _chevron,
    "block": lambda a, b, period, share: (b + 0 * a > 0.08 + 1.6 * period).astype(np.float32),
    "band": lambda a, b, period, share: (np.abs(b + 0 * a - 0.07 - period) < 0.02 + 0.04 * share).astype(np.float32),
    "halves": lambda a, b, period, share: ((a if share > 0.5 else -a) + 0 * b > 0).astype(np.float32),
    "gradient": lambda a, b, period, share: np.clip((b + 0 * a - 0.05) / 0.25, 0.0, 1.0),
    "diamonds": _diamonds,
}


def weave(
    pattern: Pattern, first: Colour, second: Colour, *, around: float, along: float, texels: tuple[int, int]
) -> Array:
    """A piece of cloth as a texture.

    Args:
        pattern: Its pattern.
        first: Its main colour.
        second: Its second colour.
        around: The way round the body, in body heights.
        along: The way down, in body heights.
        texels: Rows and columns of the texture.

    Returns:
        (rows, columns, 3) in 0..1; the middle column lies at the front.
    """
    rows, columns = texels
    a: Array = (((np.arange(columns) + 0.5) / columns - 0.5)[None, :] * around).astype(np.float32)
    b: Array = (((np.arange(rows) + 0.5) / rows)[:, None] * along).astype(np.float32)
    rng = np.random.default_rng(pattern.texture_seed)
    if pattern.kind == "patches":
        cells = (max(int(along / pattern.period) + 2, 2), max(int(around / pattern.period) + 2, 2))
        mask = (value_noise(rng, texels, cells) > 0.62 - 0.2 * pattern.share).astype(np.float32)
    else:
        mask = _WEAVES[pattern.kind](a, b, pattern.period, pattern.share)
    cloth = np.asarray(first, np.float32) + mask[..., None] * (
        np.asarray(second, np.float32) - np.asarray(first, np.float32)
    )
    thread = 1.0 + 0.07 * (rng.random((rows, columns, 1), dtype=np.float32) - 0.5)
    fold = 1.0 + 0.16 * (value_noise(rng, texels, (6, 5))[..., None] - 0.5)
    woven: Array = np.clip(cloth * thread * fold, 0.0, 1.0).astype(np.float32)
    return woven
