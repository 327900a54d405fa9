"""Similarities and distances that depend on the two embeddings alone, not on what else is in the batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from sil_cli.errors import DataError
from sil_cli.runtime import map_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

Float = TypeVar("Float", bound=np.floating)

_BLOCK_VALUES = 2**16  # values converted to float64 at a time: 512 KiB stay in the cache
_PART_VALUES = 2**21  # values that are worth a thread
_PROBLEMS = ("hold NaN or infinite values", "are all zeros")


def check_embeddings(embeddings: NDArray[np.floating], *, what: str, zeros: bool = False) -> float:
    """Refuse what isn't a matrix of usable embeddings.

    Args:
        embeddings: To be of shape (N, D), float32 or float64, D ≥ 1.
        what: What they are, for the message ("query").
        zeros: Rows of zeros are usable: they have distances, though no cosine.

    Returns:
        The largest absolute value among them.

    Raises:
        DataError: The shape or type is another, a value isn't finite, or a row is all zeros; the message
            says how many rows and names the first.
    """
    if embeddings.ndim != 2 or embeddings.shape[1] == 0 or embeddings.dtype not in (np.float32, np.float64):
        raise DataError(
            f"The {what} embeddings have shape {embeddings.shape} and type {embeddings.dtype}.",
            "They must be a matrix of float32 or float64 with one row per image.",
        )
    parts = map_threads(lambda part: _look(embeddings[part], part.start), _parts(embeddings))
    for at, problem in enumerate(_PROBLEMS):
        bad = np.concatenate([np.empty(0, dtype=np.int64), *(found[at] for _, found in parts)])
        if len(bad) and not (zeros and problem == "are all zeros"):
            raise DataError(
                f"{len(bad)} of {len(embeddings)} {what} embeddings {problem} (the first is row {bad[0]}).",
                "Leave these images out, or look for a model whose training has diverged.",
            )
    return max((largest for largest, _ in parts), default=0.0)


def _look(embeddings: NDArray[np.floating], start: int) -> tuple[float, list[NDArray[np.int64]]]:
    """The largest absolute value of some rows, the first being row `start`, and which rows have each of `_PROBLEMS`."""
    peaks = np.empty(len(embeddings), dtype=embeddings.dtype)
    for first, block in _blocks(embeddings):
        peaks[first : first + len(block)] = np.maximum(block.max(axis=1), -block.min(axis=1))
    return float(peaks.max()), [start + np.flatnonzero(bad) for bad in (~np.isfinite(peaks), peaks == 0)]


def unit_rows(embeddings: NDArray[Float], *, what: str = "given") -> NDArray[Float]:
    """The embeddings scaled to length 1, in their own precision; each row depends on itself alone.

    Args:
        embeddings: Shape (N, D), float32 or float64.
        what: What they are, for the message.

    Returns:
        A new contiguous array of the same shape and type.

    Raises:
        DataError: As `check_embeddings`.
    """
    check_embeddings(embeddings, what=what)
    return scale_to_unit(embeddings)


def scale_to_unit(embeddings: NDArray[Float], *, out: NDArray[Float] | None = None) -> NDArray[Float]:
    """As `unit_rows`, of embeddings that `check_embeddings` has found usable, written to `out` where it is given."""
    units = np.empty(embeddings.shape, dtype=embeddings.dtype) if out is None else out

    def scale(part: slice) -> None:
        held = np.empty((2, _block_rows(embeddings.shape[1]), embeddings.shape[1]))
        for start, block in _blocks(embeddings[part]):
            wide, squares = held[:, : len(block)]
            wide[...] = block
            if embeddings.dtype == np.float64:  # squares can then neither overflow nor vanish; those of float32 can't
                wide /= np.abs(wide).max(axis=1, keepdims=True)
            np.multiply(wide, wide, out=squares)
            wide /= np.sqrt(squares.sum(axis=1, keepdims=True))
            units[part][start : start + len(block)] = wide

    map_threads(scale, _parts(embeddings))
    return units


def mean_direction(embeddings: NDArray[np.floating]) -> NDArray[np.floating]:
    """The mean of unit vectors, scaled to length 1 again; of a single one, itself.

    Args:
        embeddings: Shape (n, D), n ≥ 1, rows of unit length.

    Returns:
        Shape (D,), in the same precision. Vectors that cancel out have no mean direction: then the first one.
    """
    total: NDArray[np.floating] = embeddings.astype(np.float64).sum(axis=0)
    length = float(np.sqrt((total * total).sum()))
    if len(embeddings) == 1 or length < 1e-6 * len(embeddings):
        first: NDArray[np.floating] = embeddings[0]
        return first
    return (total / length).astype(embeddings.dtype)


def cosines(query: NDArray[np.floating], rows: NDArray[np.floating]) -> NDArray[np.float64]:
    """The exact reference score: float64 inner products of one unit query with unit rows, or of pairs of rows.

    The sum is NumPy's pairwise one over each row alone, so a row's score is the same bits wherever the row
    stands and however many others are scored with it. A matrix product doesn't promise that.

    Args:
        query: Shape (D,), of length 1; or (N, D), a query for each row.
        rows: Shape (N, D), each of length 1.

    Returns:
        Shape (N,), in -1..1 up to rounding.
    """
    return _sums(query, rows, lambda block, other, out: np.multiply(block, other, out=out))


def squared_distances(query: NDArray[np.floating], rows: NDArray[np.floating]) -> NDArray[np.float64]:
    """The exact reference distance: as `cosines`, of sums of squared differences; rows may have any length.

    Returns:
        Shape (N,); exactly 0 for an equal row.
    """

    def square(block: NDArray[np.floating], other: NDArray[np.float64], out: NDArray[np.float64]) -> None:
        np.subtract(block, other, out=out)
        np.multiply(out, out, out=out)

    return _sums(query, rows, square)


def _sums(
    query: NDArray[np.floating],
    rows: NDArray[np.floating],
    make_terms: Callable[[NDArray[np.floating], NDArray[np.float64], NDArray[np.float64]], object],
) -> NDArray[np.float64]:
    """Sums over each row of terms in float64, made from a block of rows and the query or queries."""
    sums = np.empty(len(rows), dtype=np.float64)
    wide = query.astype(np.float64)
    held = np.empty((min(len(rows), _block_rows(rows.shape[1])), rows.shape[1]))
    for start, block in _blocks(rows):
        part, terms = slice(start, start + len(block)), held[: len(block)]
        if rows.dtype != np.float64:  # first converted, then multiplied: faster than a product that converts
            terms[...] = block
            block = terms
        make_terms(block, wide[part] if wide.ndim == 2 else wide, terms)
        terms.sum(axis=1, out=sums[part])
    return sums


def product_margin(dimension: int, dtype: np.dtype[np.floating]) -> float:
    """How far two scores of a matrix product must lie apart to be in the right order for certain.

    A product of unit vectors summed in any order is within n·u of the true value, with u the unit roundoff
    and n the number of terms that one running sum adds (Higham, Accuracy and Stability of Numerical
    Algorithms, §3.1). float64 takes n = D. In float32 that would be needlessly wide: matrix kernels sum in
    blocks, so n is at most about 8·√D, which is also eight times what independent roundings come to
    (Higham and Mary, SIAM J. Sci. Comput. 2019).

    Returns:
        The margin between two scores, thus twice the error of one.
    """
    terms = float(dimension) if dtype == np.float64 else min(float(dimension), 8.0 * dimension**0.5)
    return 2.0 * (terms + 4.0) * float(np.finfo(dtype).eps) / 2.0


def _blocks(rows: NDArray[np.floating]) -> Iterator[tuple[int, NDArray[np.floating]]]:
    size = _block_rows(rows.shape[1])
    return ((start, rows[start : start + size]) for start in range(0, len(rows), size))


def _block_rows(dimension: int) -> int:
    return max(1, _BLOCK_VALUES // dimension)


def _parts(rows: NDArray[np.floating]) -> list[slice]:
    """All rows, in parts for threads."""
    size = max(1, _PART_VALUES // rows.shape[1])
    return [slice(start, start + size) for start in range(0, len(rows), size)]
