"""From a loss to new weights: gradients, their sum over the processes, the optimiser, and its learning rate."""

from __future__ import annotations

import inspect
from bisect import bisect_right
from typing import TYPE_CHECKING, Any

import torch

from sil_cli.distributed.process_group import SINGLE_PROCESS

if TYPE_CHECKING:
    from torch import Tensor

    from sil_cli.distributed.process_group import ProcessGroup
    from sil_cli.settings import TrainSettings


class Adam(torch.optim.Adam):
    """torch's own. These methods keep torch.compile from looking into them, for which they import it, for a second."""

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)
    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))


class OptimizerStep:
    """An optimiser, and all that stands between a loss and its step.

    Float16 has no room for small gradients. The loss is then multiplied by a factor before the backward pass, and its
    gradients are divided by it after; a step whose gradients overflowed is left out, and the factor halved
    (Micikevicius et al., "Mixed Precision Training", ICLR 2018). Nothing of that waits for a GPU with fused Adam.

    Attributes:
        optimizer: Over the weights that are learnt.
        half: What convolutions are computed in; None for the weights' own precision.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, *, half: torch.dtype | None = None, group: ProcessGroup = SINGLE_PROCESS
    ) -> None:
        """Put them together.

        Args:
            optimizer: As the attribute.
            half: As the attribute; with float16 the loss is scaled.
            group: The processes that share a batch.
        """
        device = optimizer.param_groups[0]["params"][0].device.type
        self.optimizer = optimizer
        self.half = half
        self._group = group
        self._scaler = torch.amp.GradScaler(device) if half == torch.float16 else None

    def take(self, loss: Tensor) -> Tensor:
        """One step of the optimiser down the sum over the processes of their losses; returns that sum, detached."""
        self.optimizer.zero_grad(set_to_none=True)
        scaled = loss if self._scaler is None else self._scaler.scale(loss)
        scaled.backward()  # type: ignore[no-untyped-call]
        self._group.sum_gradients(each for weights in self.optimizer.param_groups for each in weights["params"])
        if self._scaler is None:
            self.optimizer.step()
        else:  # an overflow in one process is one in the sum, so that all of them leave the step out
            self._scaler.step(self.optimizer)
            self._scaler.update()
        return self._group.sum(loss.detach())

    def state(self) -> dict[str, Any]:
        """All that it must be given back to go on."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self._scaler.state_dict() if self._scaler is not None else {},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up a saved state."""
        self.optimizer.load_state_dict(state["optimizer"])
        if self._scaler is not None:
            self._scaler.load_state_dict(state["scaler"])


def learning_rate(epoch: int, train: TrainSettings) -> float:
    """The learning rate of an epoch, counted from 0: linear warm-up, then a fall at every milestone.

    From epoch number `milestone` on, the rate is lower.
    """
    warmth = 1.0
    if epoch < train.warmup_epochs:
        warmth = train.warmup_factor + (1.0 - train.warmup_factor) * epoch / train.warmup_epochs
    return train.learning_rate * warmth * train.decay ** bisect_right(sorted(train.milestones), epoch)
