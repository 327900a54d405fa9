"""When a loss has diverged for good, or numbers have overflowed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

EPOCHS = 3
FALLING = 0.99


def has_diverged(losses: Sequence[float], *, chance: float, factor: float) -> bool:
    """Whether the last three epochs lie far above chance and do not fall.

    A loss above chance is no failure in itself: with a low temperature a network with random weights begins there
    and comes down. So all three must lie above `factor` times chance, and the last must not be at least 1 % below
    the first of them.

    Args:
        losses: The mean loss of every epoch so far.
        chance: The loss of a model that can't tell anybody apart, for example ln K.
        factor: 0 for never.
    """
    recent = losses[-EPOCHS:]
    if factor <= 0 or len(recent) < EPOCHS:
        return False
    return min(recent) > factor * chance and recent[-1] > FALLING * recent[0]


def first_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first floating tensor that holds an infinity or no number; None where all are finite.

    The device is waited for once, however many tensors there are.

    Args:
        tensors: On one device, by their names.
    """
    floating = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    if not floating:
        return None
    finite = torch.stack([torch.isfinite(tensor).all() for tensor in floating.values()]).tolist()
    return next((name for name, whole in zip(floating, finite, strict=True) if not whole), None)
