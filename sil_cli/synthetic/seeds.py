"""Independent streams of random numbers, one for each thing drawn.

Whatever is drawn has a stream of its own, named by what it is and never by when it was drawn. So the order of
work and the number of processes change nothing, and asking for more people leaves the first ones as they were.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What a stream is for."""

    SEASON = 1
    PERSON = 2
    ROUTE = 3
    NETWORK_STYLE = 4
    CAMERA = 5
    PLATE = 6
    SHOT = 7
    NETWORK_VIEW = 8
    FOOTAGE = 9


def stream(purpose: Purpose, seed: int, *keys: int) -> np.random.Generator:
    """The generator for one thing: the same purpose, seed and keys (each 0 to 2³² − 1) give the same numbers.

    The number of keys goes in too, since NumPy takes [1] and [1, 0] for the same seed.
    """
    return np.random.default_rng([int(purpose), len(keys), seed, *keys])


def choose(rng: np.random.Generator, weights: dict[str, float]) -> str:
    """One of the names, with a probability in proportion to its weight."""
    names = list(weights)
    edges = np.cumsum([weights[name] for name in names])
    return names[int(np.searchsorted(edges, rng.random() * edges[-1], side="right"))]
