"""The nearest neighbours of every row among all rows, without the N×N matrix.

Distances come from matrix products over blocks of rows, each block above the diagonal serving its rows and its
columns. What float32 can't order is ordered by `squared_distances` in float64, so the neighbours are those of exact
arithmetic, equal distances standing in the order of rows.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.runtime import SilentReporter, cpu_count
from sil_cli.similarity.distance import product_margin

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

    from sil_cli.runtime import Reporter

BLOCK = 2048  # rows a product: 16 MiB of float32
_TILE = 128  # rows of a block looked at by one thread at a time: 1 MiB of float32
_SPARE = 8  # candidates kept beyond the wanted ones, so that a tie at the cut is seen
_PRIMING = 1024  # columns from which a block's first thresholds are taken
_DECIMALS = 12  # float64 sums in another order agree to that many
_WIDE_ROWS = 256  # rows compared with all others in float64 at a time
_PAIR_VALUES = 2**18  # differences held at a time


@dataclass(frozen=True)
class Neighbours:
    """The k nearest of N rows for each of them; a row is its own neighbour.

    Attributes:
        rows: Shape (N, k), int32, nearest first; equal distances in the order of rows.
        squared: Shape (N, k), their squared distances.
        farthest: Shape (N,), the squared distance of each row's farthest row, 0 or more.
    """

    rows: NDArray[np.int32]
    squared: NDArray[np.floating]
    farthest: NDArray[np.floating]


class BlockDistances:
    """Squared Euclidean distances among rows, a block at a time, in the rows' own precision.

    The rows' mean is taken off first: that changes no distance, and embeddings that all point nearly the same way
    keep their digits.

    Attributes:
        units: Shape (N, D), float32 or float64, lengths near 1.
        margin: Two distances that differ by more than this are in the right order for certain, as far as
            `product_margin` is.
    """

    def __init__(self, units: NDArray[np.floating]) -> None:
        self.units = units
        mean = units.mean(axis=0, dtype=np.float64).astype(units.dtype)
        self._centred = units - mean
        self._squares = np.einsum("ij,ij->i", self._centred, self._centred)
        self._centred *= np.sqrt(2)  # the product of two rows is then what a distance takes off
        # The product's error counts twice in a distance; the rest covers centring, scaling and the sums after it.
        rounding = 16.0 * float(np.finfo(units.dtype).eps)
        self.margin = float(self._squares.max()) * (2.0 * product_margin(units.shape[1], units.dtype) + rounding)

    def __len__(self) -> int:
        return len(self.units)

    def between(
        self, rows: slice | NDArray[np.int64], columns: slice, out: NDArray[np.floating] | None = None
    ) -> NDArray[np.floating]:
        """Distances of some rows to a range of rows, shape (rows, columns); 0 may come out as a hair below it.

        Args:
            rows: Which rows.
            columns: Which range of rows.
            out: Where to write them.
        """
        found = self.products(rows, columns, out)
        self.finish(found, rows, columns)
        return found

    def products(
        self, rows: slice | NDArray[np.int64], columns: slice, out: NDArray[np.floating] | None = None
    ) -> NDArray[np.floating]:
        """The first half of `between`: what `finish` makes into distances."""
        found: NDArray[np.floating] = np.matmul(self._centred[rows], self._centred[columns].T, out=out)
        return found

    def finish(self, found: NDArray[np.floating], rows: slice | NDArray[np.int64], columns: slice) -> None:
        """The second half of `between`, in place; may be done in parts."""
        np.subtract(self._squares[rows][:, None], found, out=found)
        found += self._squares[columns]


def squared_of_pairs(
    units: NDArray[np.floating],
    left: NDArray[np.integer],
    right: NDArray[np.integer],
    dtype: DTypeLike,
) -> NDArray[np.floating]:
    """Squared distances of pairs of rows by differences, in the precision of `dtype`."""
    found = np.empty(len(left), dtype=dtype)
    size = max(1, _PAIR_VALUES // units.shape[1])
    for start in range(0, len(left), size):
        part = slice(start, start + size)
        difference = units[left[part]].astype(dtype, copy=False) - units[right[part]]
        found[part] = np.einsum("ij,ij->i", difference, difference)
    return found


def nearest_neighbours(
    distances: BlockDistances,
    k: int,
    *,
    keep: NDArray[np.floating] | None = None,
    reporter: Reporter | None = None,
    block: int = BLOCK,
) -> Neighbours:
    """The k nearest rows of every row, itself among them.

    Args:
        distances: Of the rows.
        k: At least 1; cut to the number of rows.
        keep: Shape (Q, N - Q): where to write the distances of the first Q rows to all others, as `between` gives them.
        reporter: Hears of the progress.
        block: Rows a product; memory grows with its square, the neighbours don't depend on it.
    """
    count = len(distances)
    k = min(k, count)
    pool = _Pool(count, min(count, k + _SPARE), distances.units.dtype)
    starts = range(0, count, block)
    buffer = np.empty(min(block, count) ** 2, dtype=distances.units.dtype)
    # Those on the diagonal come first: afterwards every row has a threshold that few others pass.
    pairs = [(start, start) for start in starts]
    pairs += [(first, second) for first in starts for second in starts if first < second]
    with (
        ThreadPoolExecutor(cpu_count()) as workers,
        (reporter or SilentReporter()).task("Neighbours", total=len(pairs), unit="blocks") as task,
    ):
        for first, second in pairs:
            rows, columns = slice(first, min(first + block, count)), slice(second, min(second + block, count))
            found = buffer[: (rows.stop - rows.start) * (columns.stop - columns.start)]
            found = distances.products(rows, columns, out=found.reshape(rows.stop - rows.start, -1))
            _scan(distances, pool, found, rows, columns, keep, workers)
            task.advance()
    rows_found, squared = pool.in_order()
    _settle(distances, rows_found, squared, k, reporter or SilentReporter())
    return Neighbours(rows_found[:, :k].copy(), np.maximum(squared[:, :k], 0), pool.farthest)


def _scan(
    distances: BlockDistances,
    pool: _Pool,
    found: NDArray[np.floating],
    rows: slice,
    columns: slice,
    keep: NDArray[np.floating] | None,
    workers: ThreadPoolExecutor,
) -> None:
    """Make a block's products into distances, and take from them what both its rows and its columns need."""

    def of_rows(start: int) -> None:
        part = slice(rows.start + start, min(rows.start + start + _TILE, rows.stop))
        tile = found[start : start + _TILE]
        distances.finish(tile, part, columns)
        if keep is not None:
            _keep(keep, tile, part.start, columns.start)
        pool.offer(part, columns.start, tile)

    def of_columns(start: int) -> None:
        part = slice(columns.start + start, min(columns.start + start + _TILE, columns.stop))
        pool.offer(part, rows.start, found[:, start : start + _TILE].T)

    list(workers.map(of_rows, range(0, len(found), _TILE)))
    if rows != columns:
        list(workers.map(of_columns, range(0, found.shape[1], _TILE)))


def _keep(keep: NDArray[np.floating], tile: NDArray[np.floating], row: int, column: int) -> None:
    """Write those of a tile's distances that are between one of the first Q rows and one of the others."""
    queries = len(keep)
    rows, skipped = max(0, queries - row), max(0, queries - column)
    wanted = tile[:rows, skipped:]
    at = max(0, column - queries)
    keep[row : row + len(wanted), at : at + wanted.shape[1]] = wanted


class _Pool:
    """The nearest candidates of each row so far, and its farthest distance.

    Different rows may be dealt with in different threads.

    Attributes:
        farthest: Shape (N,).
    """

    def __init__(self, count: int, size: int, dtype: np.dtype[np.floating]) -> None:
        self._size = size
        self._rows = np.full((count, size), -1, dtype=np.int32)
        self._squared = np.full((count, size), np.inf, dtype=dtype)
        self._limit = np.full(count, np.inf, dtype=dtype)
        self.farthest = np.zeros(count, dtype=dtype)

    def offer(self, rows: slice, first: int, found: NDArray[np.floating]) -> None:
        """Take what is near enough from distances of `rows` to the rows from `first` on."""
        np.maximum(self.farthest[rows], found.max(axis=1), out=self.farthest[rows])
        limit = self._limit[rows]
        if np.isinf(limit).any():
            few = found[:, :_PRIMING]
            if few.shape[1] >= self._size:
                limit = np.partition(few, self._size - 1, axis=1)[:, self._size - 1]
        at, column = _where(found <= limit[:, None])
        self._merge(rows.start, at, first + column, found[at, column])

    def _merge(
        self, start: int, at: NDArray[np.int64], candidates: NDArray[np.int64], squared: NDArray[np.floating]
    ) -> None:
        """Put candidates, grouped by row, beside those that are kept, and keep the nearest."""
        if not len(at):
            return
        touched, begins, counts = np.unique(at, return_index=True, return_counts=True)
        slots = self._size + np.arange(len(at)) - np.repeat(begins, counts)
        line = np.repeat(np.arange(len(touched)), counts)
        rows = np.full((len(touched), self._size + int(counts.max())), -1, dtype=np.int32)
        values = np.full(rows.shape, np.inf, dtype=squared.dtype)
        touched = touched + start
        rows[:, : self._size], values[:, : self._size] = self._rows[touched], self._squared[touched]
        rows[line, slots], values[line, slots] = candidates, squared
        best = np.argpartition(values, self._size - 1, axis=1)[:, : self._size]
        self._rows[touched] = np.take_along_axis(rows, best, axis=1)
        self._squared[touched] = np.take_along_axis(values, best, axis=1)
        self._limit[touched] = self._squared[touched].max(axis=1)

    def in_order(self) -> tuple[NDArray[np.int32], NDArray[np.floating]]:
        """Rows and squared distances of all candidates, both (N, size), nearest first."""
        order = np.argsort(self._squared, axis=1, kind="stable")
        return np.take_along_axis(self._rows, order, axis=1), np.take_along_axis(self._squared, order, axis=1)


def _where(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`np.nonzero` of a matrix with few true entries, several times as fast."""
    rows, columns = np.divmod(np.flatnonzero(mask), mask.shape[1])
    return rows, columns


def _settle(
    distances: BlockDistances,
    rows: NDArray[np.int32],
    squared: NDArray[np.floating],
    k: int,
    reporter: Reporter,
) -> None:
    """Put right, in place, whatever the block distances can't tell apart among the first k."""
    margin = distances.margin
    open_ended = np.zeros(len(rows), dtype=bool)
    if rows.shape[1] < len(distances):
        open_ended = ~(squared[:, -1] - squared[:, k - 1] > margin)
        _search_wide(distances.units, np.flatnonzero(open_ended), rows, squared, k, reporter)
    near = (np.diff(squared, axis=1) <= margin) & ~open_ended[:, None]
    _order_near(distances.units, near, rows, squared)


def _order_near(
    units: NDArray[np.floating], near: NDArray[np.bool_], rows: NDArray[np.int32], squared: NDArray[np.floating]
) -> None:
    """Measure neighbours again that are too near to the next one, (N, size - 1) flags, and put them in order."""
    doubtful = np.zeros(rows.shape, dtype=bool)
    doubtful[:, :-1] |= near
    doubtful[:, 1:] |= near
    which = np.flatnonzero(doubtful.any(axis=1))
    for start in range(0, len(which), BLOCK):
        part = which[start : start + BLOCK]
        at, column = np.nonzero(doubtful[part])
        values, others = squared[part].astype(np.float64), rows[part]
        values[at, column] = squared_of_pairs(units, part[at], others[at, column], np.float64).round(_DECIMALS)
        order = np.lexsort((others, values), axis=1)
        rows[part] = np.take_along_axis(others, order, axis=1)
        squared[part] = np.take_along_axis(values, order, axis=1)


def _search_wide(
    units: NDArray[np.floating],
    which: NDArray[np.int64],
    rows: NDArray[np.int32],
    squared: NDArray[np.floating],
    k: int,
    reporter: Reporter,
) -> None:
    """Find the first k of some rows again in float64; of what even that calls equal, the first rows."""
    if not len(which):
        return
    with reporter.task("Near ties", total=len(which), unit="images") as task:
        for start in range(0, len(which), _WIDE_ROWS):
            part = which[start : start + _WIDE_ROWS]
            for row, found in zip(part, _wide_distances(units, part), strict=True):
                limit = np.partition(found, k - 1)[k - 1]
                certain = np.flatnonzero(found < limit)
                tied = np.flatnonzero(found == limit)[: k - len(certain)]
                chosen = np.concatenate([certain, tied])
                chosen = chosen[np.lexsort((chosen, found[chosen]))]
                rows[row, :k], squared[row, :k] = chosen, found[chosen]
            task.advance(len(part))


def _wide_distances(units: NDArray[np.floating], which: NDArray[np.int64]) -> NDArray[np.float64]:
    left = units[which].astype(np.float64)
    own = (left * left).sum(axis=1)
    found = np.empty((len(which), len(units)))
    for start in range(0, len(units), BLOCK):
        right = units[start : start + BLOCK].astype(np.float64)
        found[:, start : start + BLOCK] = own[:, None] + (right * right).sum(axis=1) - 2 * (left @ right.T)
    return found.round(_DECIMALS)
