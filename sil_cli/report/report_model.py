"""The parts of a report that need the model itself: where images agree, and how the sources' images lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.data.images import ImageError, load_image, quiet_decoders, resize_to
from sil_cli.data.manifest import is_dataset, load_dataset
from sil_cli.errors import ModelError
from sil_cli.models.embed import embed_batches
from sil_cli.models.embedder import load_embedder
from sil_cli.models.engines.torch_engine import make_torch_engine
from sil_cli.models.similarity_maps import local_embeddings, similarity_map

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from sil_cli.data.manifest import Dataset, ImageRecord
    from sil_cli.models.embedder import Embedder
    from sil_cli.report.rank_lists import Found, RankList
    from sil_cli.report.report_inputs import RunInputs

MATCHES = 5
BATCH = 64


@dataclass(frozen=True)
class Agreement:
    """Where a query and one of its matches agree.

    Attributes:
        rank: Of the match, from 1.
        found: The match.
        pictures: Query and match, as the network sees them.
        maps: (h, w) of each; the sum of either is `similarity`.
        similarity: Their cosine.
    """

    rank: int
    found: Found
    pictures: tuple[Image.Image, Image.Image]
    maps: tuple[np.ndarray, np.ndarray]
    similarity: float


def open_model(run: RunInputs, device: torch.device) -> Embedder:
    """The model that was evaluated, in eval mode on the device.

    Raises:
        SilError: It is no longer in the run folder.
    """
    embedder, record = load_embedder(run.folder)
    if record.fingerprint != run.scores.fingerprint:
        raise ModelError(
            f"{run.folder} holds another model than the one evaluated.", f"Run `sil evaluate --model {run.folder}`."
        )
    return embedder.to(device)


def agreements(embedder: Embedder, one: RankList, dataset: Dataset, device: torch.device) -> list[Agreement]:
    """Similarity maps between a query and its first matches; none where an image can't be opened.

    Raises:
        ModelError: The model's similarities can't be divided among places.
    """
    found = one.found[:MATCHES]
    try:
        with quiet_decoders():
            pictures = [_open(dataset, record) for record in (one.query, *(match.record for match in found))]
    except ImageError:
        return []
    size = embedder.architecture
    pixels = np.stack([resize_to(picture, size.height, size.width) for picture in pictures])
    local = local_embeddings(embedder, pixels, device=device)
    whole = local.sum(axis=(1, 2))
    return [
        Agreement(
            rank=rank,
            found=match,
            pictures=(pictures[0], pictures[rank]),
            maps=(similarity_map(local[0], whole[rank]), similarity_map(local[rank], whole[0])),
            similarity=float(whole[0] @ whole[rank]),
        )
        for rank, match in enumerate(found, start=1)
    ]


def source_embeddings(
    embedder: Embedder, run: RunInputs, count: int, device: torch.device, *, known: set[str]
) -> dict[str, np.ndarray]:
    """Embeddings of some training images of each source that is still there; (n, D) by the source's name.

    Args:
        embedder: In eval mode, on the device.
        run: The run whose sources they are.
        count: Images of each, drawn at random with a fixed seed.
        device: Where the model is.
        known: Names to leave out.
    """
    embedded: dict[str, np.ndarray] = {}
    for source in run.facts.sources if run.facts else ():
        folder = Path(source.folder)
        if source.name in known or not is_dataset(folder):
            continue
        dataset = load_dataset(folder)
        records = [record for record in dataset.of_split("train") if not (record.junk or record.distractor)]
        rng = np.random.default_rng(0)
        rows = np.sort(rng.choice(len(records), min(count, len(records)), replace=False))
        files = [(dataset.image_path(records[row]), records[row].box) for row in rows]
        engine = make_torch_engine(embedder, run.scores.fingerprint or "", device=device)
        parts = list(embed_batches(engine, files, batch=BATCH))
        embedded[source.name] = np.concatenate([part.embeddings for part in parts])
    return embedded


def _open(dataset: Dataset, record: ImageRecord) -> Image.Image:
    return load_image(dataset.root / record.path, box=record.box)
