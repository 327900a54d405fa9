"""The best inner products of some queries with many rows, without the whole matrix.

FAISS can do the same. Its packages bring a BLAS library of their own though, which takes processors that it
doesn't know for very old ones: on a Sapphire Rapids its product ran at 27 Gflop/s a core, NumPy's at 100 to 125.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.retrieval.neighbours import Pool
from sil_cli.runtime import cpu_count

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BLOCK_VALUES = 2**21  # products at a time: 8 MiB of float32
_TILE = 64  # queries of a block looked at by one thread at a time


def best_products(
    queries: NDArray[np.float32], rows: NDArray[np.float32], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The k rows with the largest inner products with each query.

    Args:
        queries: Shape (Q, D).
        rows: Shape (N, D).
        k: At least 1.

    Returns:
        Products and rows, both (Q, k), best first; where there are fewer rows, -inf and -1.
    """
    negated = -queries  # a pool keeps the least
    pool = Pool(len(queries), k, queries.dtype)
    tiles = [slice(start, min(start + _TILE, len(queries))) for start in range(0, len(queries), _TILE)]
    block = max(4 * k, _BLOCK_VALUES // len(queries))
    with ThreadPoolExecutor(cpu_count()) as workers:
        for start in range(0, len(rows), block):
            found = negated @ rows[start : start + block].T
            list(workers.map(lambda tile, found=found, start=start: pool.offer(tile, start, found[tile]), tiles))
    best, products = pool.in_order()
    return -products, best.astype(np.int64)
