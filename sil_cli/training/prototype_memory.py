"""The prototype memory of one source domain."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sil_cli.models.precision import to_device


class PrototypeMemory:
    """One L2-normalised prototype for each identity of a source; no gradient flows into it.

    Attributes:
        prototypes: (K, D), rows of unit length.
    """

    def __init__(self, prototypes: Tensor) -> None:
        """Take prototypes (K, D) whose rows are already of unit length."""
        self.prototypes = prototypes

    def loss(self, embeddings: Tensor, labels: Tensor, *, temperature: float) -> Tensor:
        """mean_i −log( exp(⟨f_i, c_+⟩/τ) / Σ_k exp(⟨f_i, c_k⟩/τ) ), with k over this source's identities.

        Args:
            embeddings: (B, D), rows of unit length.
            labels: (B,), the identity of each row.
            temperature: τ.
        """
        return F.cross_entropy(embeddings @ self.prototypes.T / temperature, labels)

    @torch.no_grad()
    def update(self, embeddings: Tensor, labels: Tensor, *, momentum: float) -> None:
        """For each row in turn: c_y ← m·c_y + (1 − m)·f, then c_y ← c_y / ‖c_y‖.

        Identities are independent of each other, so the rows that come first for their identity are applied
        together, then those that come second, and so on: as many rounds as the most repeated identity has rows,
        with the result of the loop over rows.

        Args:
            embeddings: (B, D), rows of unit length.
            labels: (B,), the identity of each row, on the CPU, where the turns are counted.
            momentum: m, the weight of the old prototype.
        """
        device = self.prototypes.device
        turns = _turns(labels.numpy())
        embeddings = embeddings.to(self.prototypes.dtype)
        for turn in range(int(turns.max()) + 1):
            rows = torch.from_numpy(np.flatnonzero(turns == turn))
            chosen = to_device(labels[rows], device)
            own = embeddings[to_device(rows, device)]
            mixed = momentum * self.prototypes[chosen] + (1 - momentum) * own
            self.prototypes[chosen] = F.normalize(mixed, dim=1)


def _turns(labels: np.ndarray) -> np.ndarray:
    """For every position, how many earlier positions hold the same label."""
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    is_start = np.r_[True, ordered[1:] != ordered[:-1]]
    starts = np.maximum.accumulate(np.where(is_start, np.arange(len(labels)), 0))
    turns = np.empty(len(labels), dtype=np.int64)
    turns[order] = np.arange(len(labels)) - starts
    return turns
