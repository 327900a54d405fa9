"""Which samples of a batch this process holds, where several processes share it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


class BatchShard:
    """The part of a batch that this process holds: all of it. `process_group.DistributedShard` holds less.

    Attributes:
        rows: The positions in the whole batch of the samples held, in the order in which they are held.
        weight: Their share of the batch, 0..1.
    """

    rows: slice | NDArray[np.int64] = slice(None)
    weight: float = 1.0

    def size(self, held: int) -> int:
        """How many samples the whole batch has, where `held` are held."""
        return held

    def own(self, everyone: Tensor) -> Tensor:
        """Of one row for each sample of the batch, those of the samples held."""
        return everyone

    def gather(self, own: Tensor) -> Tensor:
        """One row for each sample of the batch, in its order, from those of the samples held; without gradient."""
        return own

    def gather_with_gradient(self, own: Tensor) -> Tensor:
        """As `gather`; the gradients that all processes' losses have in a row come back to who holds it."""
        return own

    def shuffled(self, order: NDArray[np.int64]) -> tuple[Self, NDArray[np.int64]]:
        """The part held of the batch in another order, and the order to bring the samples held into.

        Args:
            order: For each new position, the old one.
        """
        return self, order

    def joined(self, others: Sequence[BatchShard]) -> BatchShard:
        """The part of this batch and others, one behind the other."""
        del others
        return self


WHOLE_BATCH = BatchShard()
