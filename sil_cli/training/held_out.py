"""Choosing a model without the target: mAP on source identities that were kept from training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sil_cli.distributed.process_group import SINGLE_PROCESS
from sil_cli.evaluation.metrics import mean_scores, score_queries
from sil_cli.evaluation.pairs import EmbeddingSet, PairRules
from sil_cli.evaluation.ranking import rank_matches
from sil_cli.training.sources import embed_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from sil_cli.distributed.process_group import ProcessGroup
    from sil_cli.models.embedder import Embedder
    from sil_cli.training.sources import Source


def can_be_scored(source: Source) -> bool:
    """Whether any held-out image of the source has a match: one across cameras, or any other where none is known."""
    everyone = _everyone(source, np.empty((len(source.held_out_rows), 0), dtype=np.float32))
    rules = PairRules(everyone, everyone)
    return any(len(rules.matches(image)) for image in range(len(everyone)))


def held_out_map(
    embedder: Embedder,
    sources: Sequence[Source],
    *,
    device: torch.device,
    half: torch.dtype | None,
    group: ProcessGroup = SINGLE_PROCESS,
) -> float:
    """The mean over the sources that can be scored of their held-out identities' mAP, 0..1.

    Every held-out image is a query against all the others of its source; those of the query's identity and camera
    are ignored, so that a match is a match across cameras. A source whose held-out identities have no such match
    says nothing of the model and is left out; one at least must have some.
    """
    embedder.eval()
    scores = []
    for source in filter(can_be_scored, sources):
        rows = source.held_out_rows
        scores.append(
            _source_map(source, embed_rows(embedder, source.pixels, rows, device=device, half=half, group=group))
        )
    return float(np.mean(scores))


def _source_map(source: Source, embeddings: np.ndarray) -> float:
    everyone = _everyone(source, embeddings)
    return mean_scores(score_queries(rank_matches(everyone, everyone))).mAP


def _everyone(source: Source, embeddings: np.ndarray) -> EmbeddingSet:
    """The held-out images as queries and gallery in one; each is named, so that none finds itself."""
    return EmbeddingSet(
        embeddings=embeddings,
        identities=source.held_out_identities,
        cameras=source.held_out_cameras,
        keys=[str(row) for row in source.held_out_rows],
    )
