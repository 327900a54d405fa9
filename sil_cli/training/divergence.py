"""When a loss has diverged for good."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

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
