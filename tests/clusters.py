"""Generated vectors with the structure of a gallery's: people, seen by cameras, with some noise."""

from __future__ import annotations

import numpy as np


def clustered(count: int, dimension: int, *, people: int, cameras: int = 8, noise: float = 1.0, seed: int = 0):
    """Unit vectors (count, dimension), and for each the person and the camera that it shows.

    Vectors vary in 48 directions, as embeddings do, and a little in all others.
    """
    rng = np.random.default_rng(seed)
    latent = min(48, dimension)
    spread = np.random.default_rng(12345).standard_normal((latent, dimension), dtype=np.float32) / latent**0.5
    centres = np.random.default_rng(54321).standard_normal((people, latent), dtype=np.float32)
    views = np.random.default_rng(99).standard_normal((cameras, latent), dtype=np.float32) / 2
    who, where = rng.integers(people, size=count), rng.integers(cameras, size=count)
    rows = np.empty((count, dimension), dtype=np.float32)
    for start in range(0, count, 65536):
        part = slice(start, start + 65536)
        inner = centres[who[part]] + views[where[part]]
        inner += noise * rng.standard_normal(inner.shape, dtype=np.float32)
        rows[part] = inner @ spread
        rows[part] += 0.05 * rng.standard_normal(rows[part].shape, dtype=np.float32)
        rows[part] /= np.linalg.norm(rows[part], axis=1, keepdims=True)
    return rows, who, where
