"""What the loop needs to know of a way to train; and style interleaved learning as one, with the paper's step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

import numpy as np

from sil_cli.distributed.process_group import SINGLE_PROCESS
from sil_cli.models.precision import half_precision
from sil_cli.models.styles import make_style
from sil_cli.training.prototypes import PrototypeMemory, centroids, random_directions
from sil_cli.training.step import interleaved_step

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    import torch
    from torch import Tensor, nn

    from sil_cli.distributed.process_group import ProcessGroup
    from sil_cli.models.embedder import Embedder
    from sil_cli.runtime import Reporter
    from sil_cli.settings import StyleSettings, TrainSettings
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


class Interleaved:
    """The method of the paper, and its baselines FB and FBF.

    Attributes:
        memories: One for each source, in their order; empty before `start` or `restore`.
    """

    def __init__(
        self,
        train: TrainSettings,
        styling: StyleSettings,
        *,
        device: torch.device,
        vectors: Sequence[Tensor] | None = None,
    ) -> None:
        """Choose settings and style.

        Args:
            train: The constants of a step, and where prototypes begin: at each identity's mean embedding, or at
                random.
            styling: The stylisation.
            device: Where the prototypes are kept.
            vectors: The first prototypes (K, D) of each source, where they come from a file.
        """
        self.train = train
        self.styling = styling
        self.style = make_style(styling)
        self.device = device
        self.vectors = vectors
        self.memories: list[PrototypeMemory] = []

    @property
    def chance(self) -> float:
        """The mean over the sources of ln K: every prototype equally near."""
        return sum(math.log(len(memory.prototypes)) for memory in self.memories) / len(self.memories)

    def parameters(self) -> tuple[nn.Parameter, ...]:
        """None: prototypes are not learnt by gradient."""
        return ()

    def start(
        self, embedder: Embedder, sources: Sequence[Source], reporter: Reporter, group: ProcessGroup = SINGLE_PROCESS
    ) -> None:
        """Set the first prototypes."""
        if self.vectors is not None:
            rows = list(self.vectors)
        elif self.train.prototypes == "random":
            rng = np.random.default_rng(self.train.seed)
            rows = [random_directions(source.identities, embedder.dimension, rng) for source in sources]
        else:
            half = half_precision(self.train.precision, self.device)
            with reporter.task("First prototypes", sum(len(source.rows) for source in sources), "images") as task:
                rows = [
                    centroids(embedder, source, device=self.device, half=half, group=group, task=task)
                    for source in sources
                ]
        self.memories = [PrototypeMemory(each.to(self.device)) for each in rows]

    def step(
        self, embedder: Embedder, batches: Sequence[Batch], optimizer_step: OptimizerStep, rng: np.random.Generator
    ) -> Tensor:
        """One `interleaved_step`."""
        return interleaved_step(
            embedder, self.memories, batches, self.style, optimizer_step, self.train, self.styling, rng
        )

    def state(self) -> dict[str, Tensor]:
        """The prototypes, by the number of their source."""
        return {str(number): memory.prototypes for number, memory in enumerate(self.memories)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up saved prototypes."""
        self.memories = [PrototypeMemory(state[str(number)].to(self.device)) for number in range(len(state))]
