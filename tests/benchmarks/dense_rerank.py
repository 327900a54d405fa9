"""k-reciprocal re-ranking as it is usually computed: dense N×N arrays, one image after another.

The oracle of tests/similarity/test_rerank.py and the baseline of bench_rerank.py.
"""

from __future__ import annotations

import numpy as np


def squared_by_differences(units: np.ndarray) -> np.ndarray:
    """All squared distances in float64, to 12 decimals, so that what is equal on paper is equal here. Slow."""
    wide = units.astype(np.float64)
    return np.array([((wide - row) ** 2).sum(axis=1) for row in wide]).round(12)


def squared_by_product(units: np.ndarray) -> np.ndarray:
    """All squared distances the usual, fast way."""
    squares = (units * units).sum(axis=1)
    return squares[:, None] + squares[None, :] - 2 * (units @ units.T)


def dense_k_reciprocal(
    squared: np.ndarray, queries: int, *, k1: int = 20, k2: int = 6, weight: float = 0.3, sort: str | None = None
) -> np.ndarray:
    """Final distances of queries to gallery, shape (queries, N - queries).

    Args:
        squared: Shape (N, N), symmetric; the queries come first.
        sort: NumPy's sorting algorithm: "stable" puts ties in the order of images.
    """
    count = len(squared)
    largest = squared.max(axis=0)
    # Sorted before the division, which changes no order but may round two distances to one.
    order = np.argsort(squared, axis=1, kind=sort).astype(np.int32)
    original = (squared / np.where(largest > 0, largest, 1)).T
    encoded = np.zeros_like(original)
    for image in range(count):
        reciprocal = mutual(order, image, k1)
        expanded = reciprocal
        for candidate in reciprocal:
            others = mutual(order, candidate, int(np.around(k1 / 2)))
            if len(np.intersect1d(others, reciprocal)) > 2 / 3 * len(others):
                expanded = np.append(expanded, others)
        expanded = np.unique(expanded)
        weights = np.exp(-original[image, expanded])
        encoded[image, expanded] = weights / weights.sum()
    original = original[:queries]
    if k2 != 1:
        averaged = np.zeros_like(encoded)
        for image in range(count):
            averaged[image] = encoded[order[image, :k2]].mean(axis=0)
        encoded = averaged
    del order
    having = [np.where(encoded[:, image] != 0)[0] for image in range(count)]
    jaccard = np.zeros_like(original)
    for query in range(queries):
        shared = np.zeros(count, dtype=encoded.dtype)
        for image in np.where(encoded[query] != 0)[0]:
            rows = having[image]
            shared[rows] += np.minimum(encoded[query, image], encoded[rows, image])
        jaccard[query] = 1 - shared / (2 - shared)
    return (jaccard * (1 - weight) + original * weight)[:, queries:]


def mutual(order: np.ndarray, image: int, k: int) -> np.ndarray:
    """The image's k-reciprocal neighbours, itself among them."""
    forward = order[image, : k + 1]
    backward = order[forward, : k + 1]
    return forward[np.where(backward == image)[0]]
