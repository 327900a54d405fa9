"""From the CPU to a device, without waiting for what the device still has to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Values on a device; they may still be on their way.

    CUDA copies memory that is not pinned only after everything that was asked of it before, and the CPU waits for that:
    a step would stop in its middle.
    """
    if device.type != "cuda" or values.device.type != "cpu":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)
