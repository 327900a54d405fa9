"""Style interleaved learning as the loop runs it: a prototype memory for each source, and the paper's step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sil_cli.distributed.process_group import SINGLE_PROCESS
from sil_cli.training.prototype_memory import PrototypeMemory
from sil_cli.training.prototypes import centroids, random_directions
from sil_cli.training.step import StepOptions, interleaved_step

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from torch import Tensor, nn

    from sil_cli.distributed.process_group import ProcessGroup
    from sil_cli.models.embedder import Embedder
    from sil_cli.models.styles import Style
    from sil_cli.runtime import Reporter
    from sil_cli.training.optimizer_step import OptimizerStep
    from sil_cli.training.sources import Source
    from sil_cli.training.step import Batch


class Interleaved:
    """The method of the paper, and its baselines FB and FBF.

    Attributes:
        memories: One for each source, in their order; empty before `start` or `restore`.
    """

    def __init__(
        self,
        style: Style,
        options: StepOptions,
        *,
        device: torch.device,
        seed: int,
        prototypes: Literal["centroids", "random"] | Sequence[Tensor] = "centroids",
    ) -> None:
        """Choose style and constants.

        Args:
            style: The stylisation.
            options: The constants of a step.
            device: Where the prototypes are kept.
            seed: Of random prototypes.
            prototypes: Where they begin: each identity's mean embedding, random directions, or given rows (K, D)
                for each source.
        """
        self.style = style
        self.options = options
        self.device = device
        self.seed = seed
        self.prototypes = prototypes
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
        if self.prototypes == "random":
            rng = np.random.default_rng(self.seed)
            rows = [random_directions(source.identities, embedder.dimension, rng) for source in sources]
        elif self.prototypes == "centroids":
            with reporter.task("First prototypes", sum(len(source.rows) for source in sources), "images") as task:
                with_them: dict[str, Any] = {"half": self.options.half, "group": group, "task": task}
                rows = [centroids(embedder, source, device=self.device, **with_them) for source in sources]
        else:
            rows = list(self.prototypes)
        self.memories = [PrototypeMemory(each.to(self.device)) for each in rows]

    def step(
        self,
        embedder: Embedder,
        batches: Sequence[Batch],
        optimizer_step: OptimizerStep,
        rng: np.random.Generator,
    ) -> Tensor:
        """One `interleaved_step`."""
        return interleaved_step(embedder, self.memories, batches, self.style, optimizer_step, self.options, rng)

    def state(self) -> dict[str, Tensor]:
        """The prototypes, by the number of their source."""
        return {str(number): memory.prototypes for number, memory in enumerate(self.memories)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take up saved prototypes."""
        self.memories = [PrototypeMemory(state[str(number)].to(self.device)) for number in range(len(state))]
