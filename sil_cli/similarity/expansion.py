"""Query expansion and database-side augmentation: embeddings drawn towards their nearest neighbours.

An embedding x becomes x + Σ_i max(0, <x, y_i>)^α · y_i over its n nearest gallery images y_i, scaled to length 1.
α = 0 is average query expansion (Chum et al., "Total Recall", ICCV 2007), α > 0 is αQE (Radenović, Tolias, Chum: TPAMI
2019, section 3.4); done to the gallery itself it is database-side augmentation (Arandjelović and Zisserman, CVPR 2012).

No identity is looked at. Cameras may be: the images of a query's own camera are what evaluation ignores when they
show the same person, so expansion leaves that camera out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sil_cli.runtime import SilentReporter
from sil_cli.similarity.distance import cosines, product_margin, unit_rows
from sil_cli.similarity.neighbours import BlockDistances, nearest_neighbours

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from sil_cli.runtime import Reporter

ALPHA = 3.0
_QUERIES_AT_ONCE = 256


def expand_queries(
    queries: NDArray[np.floating],
    gallery: NDArray[np.floating],
    count: int,
    *,
    alpha: float = ALPHA,
    unusable: Callable[[int], NDArray[np.int64]] | None = None,
    reporter: Reporter | None = None,
) -> NDArray[np.floating]:
    """Draw each query towards its nearest gallery images.

    Args:
        queries: Shape (Q, D), of unit length.
        gallery: Shape (G, D), of unit length and of the same precision.
        count: n, at least 1; fewer are used where fewer can be.
        alpha: α, 0 or more.
        unusable: The gallery images that a query, by its index, may not be expanded with.
        reporter: Hears of the progress.

    Returns:
        New queries of unit length. Each depends on itself and the gallery alone; equal scores stand in gallery order.
    """
    expanded = np.empty_like(queries)
    margin = product_margin(queries.shape[1], queries.dtype)
    with (reporter or SilentReporter()).task("Expanding", total=len(queries), unit="queries") as task:
        for start in range(0, len(queries), _QUERIES_AT_ONCE):
            part = queries[start : start + _QUERIES_AT_ONCE]
            for index, scores in enumerate(part @ gallery.T, start=start):
                if unusable is not None:
                    scores[unusable(index)] = -np.inf
                nearest, exact = best_matches(queries[index], gallery, scores, count, margin)
                expanded[index] = _drawn(queries[index], gallery[nearest], exact, alpha)
            task.advance(len(part))
    return unit_rows(expanded, what="expanded query")


def augment_gallery(
    gallery: NDArray[np.floating], count: int, *, alpha: float = ALPHA, reporter: Reporter | None = None
) -> NDArray[np.floating]:
    """Draw each gallery image towards its nearest ones, of any camera.

    Args:
        gallery: Shape (G, D), of unit length.
        count: n, at least 1.
        alpha: α, 0 or more.
        reporter: Hears of the progress.

    Returns:
        A new gallery of unit length.
    """
    neighbours = nearest_neighbours(BlockDistances(gallery), count + 1, reporter=reporter)
    augmented = np.empty_like(gallery)
    for index, rows in enumerate(neighbours.rows):
        others = rows[rows != index][:count]  # among equal images it may not be its own first neighbour
        augmented[index] = _drawn(gallery[index], gallery[others], cosines(gallery[index], gallery[others]), alpha)
    return unit_rows(augmented, what="augmented gallery")


def best_matches(
    query: NDArray[np.floating],
    gallery: NDArray[np.floating],
    scores: NDArray[np.floating],
    count: int,
    margin: float,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The best `count` images of a query and their exact cosines, from scores of a matrix product.

    Args:
        query: Shape (D,), of unit length.
        gallery: Shape (G, D), of unit length.
        scores: Shape (G,), the products; -inf for what may not be found.
        count: How many; fewer are found where fewer can be.
        margin: Two products that differ by more are in the right order for certain.
    """
    usable = np.flatnonzero(scores > -np.inf)
    if len(usable) > count:
        limit = np.partition(scores, len(scores) - count)[len(scores) - count]
        usable = np.flatnonzero(scores >= limit - scores.dtype.type(margin))
    exact = cosines(query, gallery[usable])
    order = np.lexsort((usable, -exact))[:count]
    return usable[order], exact[order]


def _drawn(
    one: NDArray[np.floating], others: NDArray[np.floating], similarities: NDArray[np.float64], alpha: float
) -> NDArray[np.float64]:
    weights = np.maximum(similarities, 0) ** alpha
    drawn: NDArray[np.float64] = one.astype(np.float64) + weights @ others.astype(np.float64)
    return drawn if drawn.any() else one.astype(np.float64)  # α = 0 and an opposite neighbour
