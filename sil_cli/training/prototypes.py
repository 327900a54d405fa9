"""Prototypes of a source domain: the memory that training keeps, and where it begins.

It begins at the identities' centroids, at random, or at vectors from a file (zero-shot).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor
from torch.nn import functional as F

from sil_cli.distributed.process_group import SINGLE_PROCESS
from sil_cli.errors import DataError, UsageError
from sil_cli.models.precision import to_device
from sil_cli.training.sources import embed_rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sil_cli.distributed.process_group import ProcessGroup
    from sil_cli.models.embedder import Embedder
    from sil_cli.runtime import Task
    from sil_cli.training.sources import Source


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


def centroids(
    embedder: Embedder,
    source: Source,
    *,
    device: torch.device,
    half: torch.dtype | None,
    group: ProcessGroup = SINGLE_PROCESS,
    task: Task | None = None,
) -> Tensor:
    """The normalised mean embedding of each identity, (K, D), by a model that is in eval mode: the paper's start."""
    rows = embed_rows(embedder, source.pixels, source.rows, device=device, half=half, group=group, task=task)
    return normalised_means(torch.from_numpy(rows).to(device), source.labels)


def normalised_means(embeddings: Tensor, labels: np.ndarray) -> Tensor:
    """The mean row of each label, scaled to unit length.

    Args:
        embeddings: (N, D), rows of unit length.
        labels: (N,), identities numbered 0..K-1, each at least once.

    Returns:
        (K, D).
    """
    index = torch.from_numpy(labels).to(embeddings.device)
    sums = embeddings.new_zeros(int(labels.max()) + 1, embeddings.shape[1]).index_add_(0, index, embeddings)
    return F.normalize(sums, dim=1)


def random_directions(identities: int, dimension: int, rng: np.random.Generator) -> Tensor:
    """Rows of unit length, uniform over the sphere, (identities, dimension), float32."""
    rows = rng.standard_normal((identities, dimension))
    return torch.from_numpy(rows / np.linalg.norm(rows, axis=1, keepdims=True)).float()


def read_prototypes(path: Path, sources: Sequence[Source], dimension: int) -> list[Tensor]:
    """The first prototypes of every source from a .safetensors file, scaled to unit length.

    The file holds one vector for each identity, named `SOURCE/IDENTITY` as in the manifests (for example
    `market1501/0002`): embeddings of a description of the person, or whatever else lies in the model's space.
    Vectors of others are not looked at, so that one file serves every choice of sources.

    Args:
        path: The file.
        sources: Whose identities are wanted.
        dimension: Length that the model's embeddings have.

    Returns:
        One (K, D) float32 tensor a source, in the order of its labels.

    Raises:
        UsageError: The file does not exist.
        DataError: It can't be read, lacks identities, or its vectors do not fit.
    """
    if not path.is_file():
        raise UsageError(
            f"There is no prototype file {path}.", "Set train.prototypes to centroids, random or a .safetensors file."
        )
    try:
        vectors = safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise DataError(
            f"{path} can't be read as prototypes: it is damaged or not a .safetensors file.",
            "Write one vector for each identity, named SOURCE/IDENTITY, with safetensors.",
        ) from error
    wanted = [[f"{source.name}/{identity}" for identity in source.identity_names] for source in sources]
    _check(path, vectors, [name for names in wanted for name in names], dimension)
    return [F.normalize(torch.stack([vectors[name].float() for name in names]), dim=1) for names in wanted]


def _check(path: Path, vectors: dict[str, Tensor], wanted: list[str], dimension: int) -> None:
    missing = [name for name in wanted if name not in vectors]
    if missing:
        raise DataError(
            f"{path} lacks {len(missing)} of {len(wanted)} identities: {_some(missing)}.",
            f"Add a vector for each, named SOURCE/IDENTITY; it has {_some(sorted(vectors)) or 'none'}.",
        )
    misshapen = [name for name in wanted if vectors[name].shape != (dimension,)]
    if misshapen:
        shape = "×".join(map(str, vectors[misshapen[0]].shape))
        raise DataError(
            f"{path} holds {misshapen[0]} with shape {shape}; this model's embeddings have {dimension} numbers.",
            "Give vectors of that length, or choose a backbone with the length of these.",
        )
    useless = [name for name in wanted if not 0 < float(vectors[name].double().norm()) < float("inf")]
    if useless:
        raise DataError(
            f"{path} holds vectors without a direction (zero or not finite): {_some(useless)}.", "Correct them."
        )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _turns(labels: np.ndarray) -> np.ndarray:
    """For every position, how many earlier positions hold the same label."""
    order = np.argsort(labels, kind="stable")
    ordered = labels[order]
    is_start = np.r_[True, ordered[1:] != ordered[:-1]]
    starts = np.maximum.accumulate(np.where(is_start, np.arange(len(labels)), 0))
    turns = np.empty(len(labels), dtype=np.int64)
    turns[order] = np.arange(len(labels)) - starts
    return turns
