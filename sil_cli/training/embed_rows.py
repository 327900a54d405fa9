"""Embeddings of many of a source's images, shared out over the processes of a training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from sil_cli.distributed.process_group import shares
from sil_cli.models.engines.torch_engine import embed_pixels

if TYPE_CHECKING:
    from sil_cli.distributed.process_group import ProcessGroup
    from sil_cli.models.embedder import Embedder
    from sil_cli.runtime import Task

BATCH = 128


def embed_rows(
    embedder: Embedder,
    pixels: np.ndarray,
    rows: np.ndarray,
    *,
    device: torch.device,
    half: torch.dtype | None,
    group: ProcessGroup,
    task: Task | None = None,
) -> np.ndarray:
    """The embeddings of images, (N, D) float32, by a model that is in eval mode.

    The batches are the same for any number of processes, and each embeds a stretch of them; so the result is the same
    too.

    Args:
        embedder: The model.
        pixels: (M, H, W, 3) uint8.
        rows: (N,) positions in `pixels`.
        device: Where the model is.
        half: What convolutions are computed in; None for float32.
        group: The processes; all get all embeddings.
        task: Is told the progress.
    """
    edges = np.minimum(shares(-(-len(rows) // BATCH), group.world_size) * BATCH, len(rows))
    own = rows[edges[group.rank] : edges[group.rank + 1]]
    parts = [np.empty((0, embedder.dimension), dtype=np.float32)]
    for start in range(0, len(own), BATCH):
        batch = pixels[own[start : start + BATCH]]
        parts.append(embed_pixels(embedder, batch, device=device, half=half))
        if task is not None:
            task.advance(len(batch))
    everyone = group.gather_rows(torch.from_numpy(np.concatenate(parts)), np.diff(edges).tolist())
    if task is not None:
        task.advance(len(rows) - len(own))
    return everyone.numpy()
