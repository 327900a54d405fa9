"""Scores of many pairs: fast ones from a matrix product with a bound on their error, and exact ones of a few pairs.

Both metrics score higher what is nearer. The exact score of a pair is defined by `exact`: a float64 sum over the two
rows alone, hence the same bits wherever the rows stand.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from sil_cli.similarity.distance import check_embeddings, cosines, product_margin, scale_to_unit, squared_distances

if TYPE_CHECKING:
    from numpy.typing import NDArray

Metric = Literal["cosine", "euclidean"]

_REFERENCE_TERMS = 32  # roundings of NumPy's pairwise sum of a row, generously
_SAFE_VALUES = (1e-15, 1e15)  # if the largest lies within these, sums of squares don't leave float32


@dataclass(frozen=True)
class Operand:
    """Embeddings made ready for products.

    Attributes:
        rows: Shape (N, D), float32 or float64.
        squares: Shape (N,), float64, the rows' squared lengths.
    """

    rows: NDArray[np.floating]
    squares: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, at: slice | NDArray[np.int64]) -> Operand:
        """Some of the rows."""
        return Operand(self.rows[at], self.squares[at])

    @cached_property
    def widened(self) -> Operand:
        """The same values in float64."""
        return Operand(self.rows.astype(np.float64, copy=False), self.squares)


def make_scorer(metric: Metric, query: NDArray[np.floating], gallery: NDArray[np.floating]) -> Scorer:
    """The scorer of a metric for two sides, once their embeddings have been found usable.

    Raises:
        DataError: As `check_embeddings`; zero vectors have a distance but no cosine.
    """
    largest = [
        check_embeddings(side, what=what, zeros=metric == "euclidean")
        for what, side in (("query", query), ("gallery", gallery))
    ]
    if metric == "cosine":
        return CosineScorer()
    low, high = _SAFE_VALUES
    exponent = 0 if low <= max(largest) <= high or not any(largest) else -int(np.frexp(max(largest))[1])
    longest = query.shape[1] ** 0.5 * float(np.ldexp(max(largest), exponent))
    return EuclideanScorer(exponent, longest=longest)


class CosineScorer:
    """Cosine similarity, -1..1; the rows of operands have length 1, rounded to the embeddings' precision.

    Attributes:
        limits: Between which two values all scores lie, up to rounding.
    """

    limits = (-1.0, 1.0)

    def operand(self, embeddings: NDArray[np.floating], *, out: NDArray[np.floating] | None = None) -> Operand:
        """Make embeddings (N, D) of either side ready; each row depends on itself alone.

        Args:
            embeddings: To be scaled to length 1.
            out: Memory for the rows, where they change.
        """
        return Operand(scale_to_unit(embeddings, out=out), np.ones(len(embeddings)))

    def product(
        self, queries: Operand, gallery: Operand, *, out: NDArray[np.floating] | None = None
    ) -> tuple[NDArray[np.floating], NDArray[np.float64]]:
        """Scores (Q, G) of all pairs, and for each query (Q,) how far they are from the exact ones at most.

        Args:
            queries: Q of them.
            gallery: G of them, of the same precision.
            out: Where to write the scores.
        """
        scores: NDArray[np.floating] = np.matmul(queries.rows, gallery.rows.T, out=out)
        return scores, np.full(len(queries), _unit_error(queries.rows))

    def exact(self, query: NDArray[np.floating], rows: NDArray[np.floating]) -> NDArray[np.float64]:
        """The exact scores (N,) of one query's row (D,), or of N queries' rows (N, D), with rows (N, D) of operands."""
        return cosines(query, rows)


class EuclideanScorer:
    """The negative squared Euclidean distance of the embeddings as they are; what it does is what `CosineScorer` does.

    Args:
        exponent: The embeddings are multiplied by this power of two, which changes no order, so that squares of
            enormous or tiny values stay within float32.
        longest: No row of an operand is longer than this.
    """

    def __init__(self, exponent: int, *, longest: float) -> None:
        self._exponent = exponent
        self.limits = (-((2 * longest) ** 2) or -1.0, 0.0)

    def operand(self, embeddings: NDArray[np.floating], *, out: NDArray[np.floating] | None = None) -> Operand:
        """Scale by the power of two, and square."""
        if self._exponent:
            rows = np.ldexp(embeddings, self._exponent, out=out)
        else:
            rows = np.require(embeddings, requirements=["C", "A"])
        return Operand(rows, np.einsum("ij,ij->i", rows, rows, dtype=np.float64))

    def product(
        self, queries: Operand, gallery: Operand, *, out: NDArray[np.floating] | None = None
    ) -> tuple[NDArray[np.floating], NDArray[np.float64]]:
        """2·q·g − |g|² − |q|², whose error is bounded by that of the inner product times (|q| + |g|)²."""
        scores: NDArray[np.floating] = np.matmul(queries.rows, gallery.rows.T, out=out)
        scores *= 2
        scores -= gallery.squares.astype(scores.dtype)
        scores -= queries.squares.astype(scores.dtype)[:, None]
        reach = np.square(np.sqrt(queries.squares) + np.sqrt(gallery.squares.max(initial=0.0)))
        return scores, reach * _unit_error(queries.rows) * 1.001

    def exact(self, query: NDArray[np.floating], rows: NDArray[np.floating]) -> NDArray[np.float64]:
        """Sums of squared differences in float64, negated."""
        return -squared_distances(query, rows)


Scorer = CosineScorer | EuclideanScorer
"""A metric, bound to what it has to know of both sides."""


def _unit_error(rows: NDArray[np.floating]) -> float:
    """How far a product of rows of length 1 is from their exact score at most."""
    reference = _REFERENCE_TERMS * float(np.finfo(np.float64).eps)
    return product_margin(rows.shape[1], rows.dtype) / 2 + reference
