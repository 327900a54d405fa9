"""What the loop needs to know of a way to train."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from sil_cli.distributed.process_group import SINGLE_PROCESS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from torch import Tensor, nn

    from sil_cli.distributed.process_group import ProcessGroup
    from sil_cli.models.embedder import Embedder
    from sil_cli.runtime import Reporter
    from sil_cli.training.optimizer_step import OptimizerStep
    from sil_cli.training.sources import Source
    from sil_cli.training.step import Batch


class Method(Protocol):
    """A way to train, with whatever it learns besides the embedder."""

    @property
    def chance(self) -> float:
        """The loss of a model that can't tell anybody apart; valid after `start` or `restore`."""

    def parameters(self) -> Iterable[nn.Parameter]:
        """What the optimiser learns besides the embedder."""

    def start(
        self, embedder: Embedder, sources: Sequence[Source], reporter: Reporter, group: ProcessGroup = SINGLE_PROCESS
    ) -> None:
        """Set what is learnt besides the embedder to its beginning; the embedder is on its device, in eval mode."""

    def step(
        self, embedder: Embedder, batches: Sequence[Batch], optimizer_step: OptimizerStep, rng: np.random.Generator
    ) -> Tensor:
        """One iteration with the embedder in train mode; returns the loss before it, a detached scalar."""

    def state(self) -> dict[str, Tensor]:
        """All that it must be given back to go on."""

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up a saved state."""
