"""Embeddings in two dimensions: t-SNE where scikit-learn is installed, principal components otherwise."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

import numpy as np

from sil_cli.errors import UsageError
from sil_cli.installing import extra_command

if TYPE_CHECKING:
    from numpy.typing import NDArray

Projection = Literal["pca", "tsne"]
FEWEST_FOR_TSNE = 10
_DIMENSIONS_FOR_TSNE = 50


def resolve_projection(name: Literal["auto", "pca", "tsne"]) -> Projection:
    """Which one is used.

    Raises:
        UsageError: t-SNE is asked for and scikit-learn is not installed.
    """
    there = find_spec("sklearn") is not None
    if name == "tsne" and not there:
        raise UsageError("t-SNE needs scikit-learn.", f"Install it with `{extra_command('report')}`, or use pca.")
    if name == "auto":
        return "tsne" if there else "pca"
    return name


def project(embeddings: NDArray[np.floating], how: Projection) -> NDArray[np.float64]:
    """A point in the plane for each embedding; the same embeddings give the same points.

    t-SNE (van der Maaten and Hinton, JMLR 2008) starts from the principal components, with perplexity 30 or a third
    of the points. Distances between its clusters mean little; few points are always shown by principal components.

    Args:
        embeddings: (N, D), of unit length, so that their distances order pairs as cosines do.
        how: The method.

    Returns:
        (N, 2).
    """
    rows = embeddings.astype(np.float64)
    if how == "pca" or len(rows) < FEWEST_FOR_TSNE:
        return principal_components(rows, 2)
    from sklearn.manifold import TSNE

    reduced = principal_components(rows, min(_DIMENSIONS_FOR_TSNE, *rows.shape))
    perplexity = min(30.0, (len(rows) - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", learning_rate="auto", random_state=0)
    points: NDArray[np.float64] = tsne.fit_transform(reduced).astype(np.float64)
    return points


def principal_components(rows: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """The first principal components of each row, (N, count); each axis points to its largest weight."""
    if len(rows) == 0:
        return np.zeros((0, count))
    centred = rows - rows.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:count]
    axes *= np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]
    points = centred @ axes.T
    return np.pad(points, ((0, 0), (0, count - points.shape[1])))
