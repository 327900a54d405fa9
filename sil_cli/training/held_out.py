"""Choosing a model without the target: mAP on source identities that were kept from training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sil_cli.evaluation.metrics import EmbeddingSet, mean_scores, score_queries
from sil_cli.evaluation.ranking import rank_matches
from sil_cli.training.embed_rows import embed_rows
from sil_cli.training.ranks import ALONE

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from sil_cli.models.embedder import Embedder
    from sil_cli.training.ranks import Ranks
    from sil_cli.training.sources import Source


def held_out_map(
    embedder: Embedder,
    sources: Sequence[Source],
    *,
    device: torch.device,
    half: torch.dtype | None,
    ranks: Ranks = ALONE,
) -> float:
    """The mean over the sources of their held-out identities' mAP, 0..1.

    Every held-out image is a query against all the others of its source; those of the query's identity and camera
    are ignored, so that a match is a match across cameras. A source whose held-out identities have no such match
    counts as 0.
    """
    embedder.eval()
    scores = []
    for source in sources:
        rows = source.held_out_rows
        scores.append(
            _source_map(source, embed_rows(embedder, source.pixels, rows, device=device, half=half, ranks=ranks))
        )
    return float(np.mean(scores))


def _source_map(source: Source, embeddings: np.ndarray) -> float:
    everyone = EmbeddingSet(
        embeddings=embeddings,
        identities=source.held_out_identities,
        cameras=source.held_out_cameras,
        keys=[str(row) for row in source.held_out_rows],
    )
    scores = score_queries(rank_matches(everyone, everyone))
    return mean_scores(scores).mAP if len(scores.queries) else 0.0
