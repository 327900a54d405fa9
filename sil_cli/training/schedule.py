"""The learning rate over the epochs."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def learning_rate(
    epoch: int,
    *,
    base: float,
    warmup_epochs: int,
    warmup_factor: float,
    milestones: Sequence[int],
    decay: float,
) -> float:
    """The learning rate of an epoch: linear warm-up, then a fall by `decay` at every milestone.

    Args:
        epoch: From 0.
        base: The rate after the warm-up.
        warmup_epochs: Over how many epochs it rises from `warmup_factor`·base.
        warmup_factor: In 0..1.
        milestones: Rising; from epoch number `milestone` (counted from 0) on, the rate is lower.
        decay: The factor of each fall.
    """
    warmth = 1.0
    if epoch < warmup_epochs:
        warmth = warmup_factor + (1.0 - warmup_factor) * epoch / warmup_epochs
    return base * warmth * decay ** bisect_right(sorted(milestones), epoch)
