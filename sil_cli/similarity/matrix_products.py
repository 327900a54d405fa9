"""The best inner products of some queries with many rows, without the whole matrix.

FAISS can do the same. Its packages bring a BLAS library of their own though, which takes processors that it
doesn't know for very old ones: on a Sapphire Rapids its product ran at 27 Gflop/s a core, NumPy's at 100 to 125.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import faiss
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_faiss: Any = faiss  # it makes much of itself while it is imported, which type checkers don't see
_BLOCK = 4_096  # rows at a time, whose products stay in the cache


def best_products(
    queries: NDArray[np.float32], rows: NDArray[np.float32], k: int, keep: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k rows with the largest inner products with each query.

    Args:
        queries: Shape (Q, D).
        rows: Shape (N, D); may be a memory map.
        k: At least 1.
        keep: Shape (N,), which rows may be found; None for all.

    Returns:
        Products and rows, both (Q, k), best first; where there are fewer rows, -inf and -1.
    """
    best = _faiss.ResultHeap(len(queries), k, keep_max=True)
    block = np.empty((min(len(rows), _BLOCK), queries.shape[1]), dtype=np.float32)
    for start in range(0, len(rows), _BLOCK):
        some = rows[start : start + _BLOCK]
        # As bytes: in a file the values lie at odd addresses, from which NumPy would copy them one by one.
        block[: len(some)].view(np.uint8)[:] = some.view(np.uint8)
        products = queries @ block[: len(some)].T
        if keep is not None:
            products[:, ~keep[start : start + _BLOCK]] = -np.inf
        best.heaps.addn(products.shape[1], _faiss.swig_ptr(products), start)
    best.finalize()
    found = best.I >= 0  # a heap never takes -inf
    return np.where(found, best.D, -np.inf), np.where(found, best.I, -1)
