"""How far apart the looks of cameras and of data sets are, as numbers.

An image's style here is what style transfer takes for it: the means and standard deviations of its channels. A
camera's style is the normal distribution of its images' styles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def style_distance(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """The 2-Wasserstein distance of the normal distributions fitted to two sets of styles, in grey levels.

    √(‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁^½ Σ₂ Σ₁^½)^½)), which is the root of Fréchet's distance (Dowson and Landau,
    "The Fréchet distance between multivariate normal distributions", 1982). Σ are population covariances.

    Args:
        one: (n, d) styles, n ≥ 1.
        other: (m, d) likewise.
    """
    first, second = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    root = _root(_covariance(first))
    cross = _root(root @ _covariance(second) @ root)
    spread = first.var(axis=0).sum() + second.var(axis=0).sum() - 2 * np.trace(cross)
    shift = float(((first.mean(axis=0) - second.mean(axis=0)) ** 2).sum())
    return float(np.sqrt(max(shift + spread, 0.0)))


def style_distances(groups: Sequence[NDArray[np.floating]]) -> NDArray[np.float64]:
    """`style_distance` of every two groups, symmetric, (k, k)."""
    matrix = np.zeros((len(groups), len(groups)))
    for row, one in enumerate(groups):
        for column in range(row):
            matrix[row, column] = matrix[column, row] = style_distance(one, groups[column])
    return matrix


def explained_share(groups: Sequence[NDArray[np.floating]]) -> float | None:
    """How much of the variance of style lies between the groups, 0..1 (η²: 0, all alike; 1, the group says all).

    Args:
        groups: Styles (n_i, d) of each group.

    Returns:
        None where there are fewer than two groups, or no variance at all.
    """
    if len(groups) < 2:
        return None
    stacked = np.concatenate(groups).astype(np.float64)
    total = float(((stacked - stacked.mean(axis=0)) ** 2).sum())
    if total == 0.0:
        return None
    within = sum(float(((group - group.mean(axis=0, dtype=np.float64)) ** 2).sum()) for group in groups)
    return min(max(1.0 - within / total, 0.0), 1.0)


def _covariance(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = rows - rows.mean(axis=0)
    product: NDArray[np.float64] = centred.T @ centred / len(rows)
    return product


def _root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The square root of a symmetric matrix without negative eigenvalues, save for rounding."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    root: NDArray[np.float64] = (vectors * np.sqrt(values.clip(0.0))) @ vectors.T
    return root
