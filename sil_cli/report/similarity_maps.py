"""What of a report needs the model itself: where two images agree, and embeddings of the sources' images.

Where two images agree is the cosine similarity of their embeddings as an exact sum over places. With global average
pooling and a batch norm neck, an embedding is itself a sum over the L places of the feature map. The neck in eval mode
is affine, neck(p) = a ⊙ p + c, and p = (1/L) Σ_l m_l, so that

    f = neck(p) / ‖neck(p)‖ = Σ_l u_l   with   u_l = (a ⊙ m_l + c) / (L · ‖neck(p)‖),

and for any other embedding g

    <f, g> = Σ_l <u_l, g>.

Each term is what one place of the image contributes to the similarity; it may be negative. This is the decomposition
of Stylianou, Souvenir and Pless, "Visualizing Deep Similarity Networks" (WACV 2019), carried through the neck. Places
of the last stage see beyond their own square of the image, so a map shows roughly where, not sharply.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageOps

from sil_cli.data.images import ImageError, quiet_decoders, resize_to
from sil_cli.data.manifest import is_dataset, load_dataset
from sil_cli.errors import ModelError, quoted
from sil_cli.models.embed import embed_batches
from sil_cli.models.embedder import load_embedder
from sil_cli.models.engines.torch_engine import TorchEngine
from sil_cli.models.precision import to_images
from sil_cli.report.contact_sheet import IMAGE_SIZE
from sil_cli.runs.run_folder import source_folder

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sil_cli.data.manifest import Dataset
    from sil_cli.models.embedder import Embedder
    from sil_cli.report.rank_lists import RankedImage, RankList
    from sil_cli.report.run_inputs import RunInputs


MATCHES = 5
BATCH = 64

AGREES, DISAGREES = (230, 97, 1), (0, 84, 166)
STRONGEST = 0.75


@dataclass(frozen=True)
class MatchMaps:
    """Where a query and one of its matches agree.

    Attributes:
        rank: Of the match, from 1.
        match: The match.
        maps: (h, w) of query and match; the sum of either is `similarity`.
        overlays: Query and match under the colours of their maps.
        similarity: Their cosine.
    """

    rank: int
    match: RankedImage
    maps: tuple[np.ndarray, np.ndarray]
    overlays: tuple[Image.Image, Image.Image]
    similarity: float


def open_model(run: RunInputs, device: torch.device) -> Embedder:
    """The model that was evaluated, in eval mode on the device.

    Raises:
        SilError: It is no longer in the run folder.
    """
    embedder, record = load_embedder(run.folder)
    if record.fingerprint != run.scores.fingerprint:
        raise ModelError(
            f"{run.folder} holds another model than the one evaluated.",
            f"Run `sil evaluate --model {quoted(run.folder)}`.",
        )
    return embedder.to(device)


def map_matches(embedder: Embedder, one: RankList, dataset: Dataset) -> list[MatchMaps]:
    """Similarity maps between a query and its first matches; none where an image can't be opened.

    Raises:
        ModelError: The model's similarities can't be attributed to places.
    """
    matches = one.matches[:MATCHES]
    records = [one.query, *(match.record for match in matches)]
    try:
        with quiet_decoders():
            images = [dataset.load_image(record) for record in records]
    except ImageError:
        return []
    size = embedder.architecture
    pixels = np.stack([resize_to(image, size.height, size.width, size.interpolation) for image in images])
    local = local_embeddings(embedder, pixels, device=embedder.mean.device)
    whole = local.sum(axis=(1, 2))
    pairs = []
    for rank, match in enumerate(matches, start=1):
        maps = (similarity_map(local[0], whole[rank]), similarity_map(local[rank], whole[0]))
        scale = max(float(np.abs(contributions).max()) for contributions in maps) or 1.0
        overlays = (overlay(images[0], maps[0], scale=scale), overlay(images[rank], maps[1], scale=scale))
        pairs.append(MatchMaps(rank, match, maps, overlays, float(whole[0] @ whole[rank])))
    return pairs


def overlay(image: Image.Image, contributions: np.ndarray, *, scale: float) -> Image.Image:
    """The image, paled and in grey, under the colours of what each place contributes.

    Orange where the two images agree, blue where they speak against each other.

    Args:
        image: Of any size.
        contributions: (h, w), in the image's orientation; enlarged bilinearly.
        scale: The absolute contribution that is coloured most strongly, above 0. The strength grows with the square
            of the share in it: where most of an image agrees, that leaves the places that agree most to be seen.

    Returns:
        An RGB image of the size that sheets show.
    """
    sized = ImageOps.grayscale(image).resize(IMAGE_SIZE, Image.Resampling.BICUBIC)
    ground = np.asarray(sized, dtype=np.float32)[:, :, None] * 0.85 + 38.0
    coarse = Image.fromarray(np.ascontiguousarray(contributions, dtype=np.float32))
    fine = np.asarray(coarse.resize(IMAGE_SIZE, Image.Resampling.BILINEAR))[:, :, None] / scale
    strength = STRONGEST * np.clip(np.abs(fine), 0.0, 1.0) ** 2
    colour = np.where(fine >= 0, np.array(AGREES, np.float32), np.array(DISAGREES, np.float32))
    mixed = (1 - strength) * ground + strength * colour
    return Image.fromarray(np.clip(np.rint(mixed), 0, 255).astype(np.uint8))


def source_embeddings(embedder: Embedder, run: RunInputs, count: int, *, known: set[str]) -> dict[str, np.ndarray]:
    """Embeddings of some training images of each source that is still there; (n, D) by the source's name.

    Args:
        embedder: In eval mode.
        run: The run whose sources they are.
        count: Images of each, drawn at random with a fixed seed.
        known: Names to leave out.
    """
    embedded: dict[str, np.ndarray] = {}
    for source in run.facts.sources if run.facts else ():
        folder = source_folder(run.folder, source)
        if source.name in known or not is_dataset(folder):
            continue
        dataset = load_dataset(folder, max_pixels=run.images.max_pixels)
        records = [record for record in dataset.of_split("train") if record.is_named]
        rng = np.random.default_rng(0)
        rows = np.sort(rng.choice(len(records), min(count, len(records)), replace=False))
        files = [(dataset.image_path(records[row]), records[row].box) for row in rows]
        engine = TorchEngine(embedder, run.scores.fingerprint or "", device=embedder.mean.device)
        engine.max_pixels = dataset.max_pixels
        parts = list(embed_batches(engine, files, batch=BATCH))
        embedded[source.name] = np.concatenate([part.embeddings for part in parts])
    return embedded


TOLERANCE = 1e-3


@torch.inference_mode()
def local_embeddings(embedder: Embedder, pixels: np.ndarray, *, device: torch.device) -> np.ndarray:
    """What each place of the feature map contributes to its image's embedding.

    Args:
        embedder: In eval mode, on `device`.
        pixels: (B, height, width, 3) uint8.
        device: Where the model is.

    Returns:
        (B, h, w, D) float32; the sum over h and w is the embedding.

    Raises:
        ModelError: The embedding is no such sum: the model doesn't pool by the mean over a feature map.
    """
    seen: list[Tensor] = []

    def keep(module: nn.Module, given: object, maps: Tensor) -> None:
        del module, given
        seen.append(maps)

    handle = embedder.backbone.register_forward_hook(keep)
    try:
        embeddings = embedder(to_images(pixels, device)).float()
    finally:
        handle.remove()
    maps = seen[-1]
    if maps.ndim == 4 and maps.shape[1] == embeddings.shape[1]:
        local = _shares(embedder.neck, maps.float())
        if torch.allclose(local.sum(dim=(1, 2)), embeddings, atol=TOLERANCE):
            return local.cpu().numpy()
    raise ModelError(
        "This model does not average over a feature map, so its similarities can't be attributed to places.",
        "Use --no-similarity-maps.",
    )


def similarity_map(local: np.ndarray, embedding: np.ndarray) -> np.ndarray:
    """What each place of one image contributes to its similarity with another.

    Args:
        local: (h, w, D), `local_embeddings` of the one image.
        embedding: (D,), of the other one.

    Returns:
        (h, w); the sum is the cosine similarity of the two images.
    """
    shares: np.ndarray = local @ embedding
    return shares


def _shares(neck: nn.Module, maps: Tensor) -> Tensor:
    """u_l of every place, (B, h, w, D)."""
    _, channels, height, width = maps.shape
    offset = neck(maps.new_zeros(1, channels))
    scale = neck(maps.new_ones(1, channels)) - offset
    rows = maps.permute(0, 2, 3, 1) * scale + offset
    lengths = rows.mean(dim=(1, 2)).norm(dim=1).clamp_min(1e-12)  # as F.normalize has it
    shares: Tensor = rows / (height * width * lengths[:, None, None, None])
    return shares
