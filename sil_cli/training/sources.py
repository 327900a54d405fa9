"""What training sees of a source domain: pixels in memory order, labels, and who is held out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from sil_cli.data.images import MAX_PIXELS
from sil_cli.data.manifest import load_dataset
from sil_cli.data.pixels import open_pixels
from sil_cli.data.protocol import read_protocol
from sil_cli.data.sampling import IdentitySampler, held_out_identities
from sil_cli.distributed.batch_shard import WHOLE_BATCH, BatchShard
from sil_cli.distributed.process_group import shares
from sil_cli.errors import DataError, UsageError
from sil_cli.files import refuse_links
from sil_cli.models.engines.torch_engine import embed_pixels
from sil_cli.runtime import cpu_count

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sil_cli.data.manifest import Dataset, ImageRecord
    from sil_cli.data.sampling import CameraRule, SingleImageRule
    from sil_cli.distributed.process_group import ProcessGroup
    from sil_cli.models.embedder import Embedder
    from sil_cli.runtime import Reporter, Task
    from sil_cli.settings import Settings, TrainSettings


EMBED_BATCH = 128
"""Images that are embedded at once."""


@dataclass(frozen=True)
class Source:
    """A source domain that is ready to be learnt from.

    Attributes:
        name: The domain's name.
        pixels: (N, H, W, 3) uint8, the training split (usually a memory map).
        rows: (n,) positions in `pixels` that are trained on.
        labels: (n,) identities of those, numbered 0..K-1.
        identity_names: The K identities as the manifest has them, by their numbers.
        sampler: Draws positions in `rows`.
        held_out_rows: Positions in `pixels` of identities kept from training.
        held_out_identities: Their identities.
        held_out_cameras: Their cameras.
    """

    name: str
    pixels: np.ndarray
    rows: np.ndarray
    labels: np.ndarray
    identity_names: list[str]
    sampler: IdentitySampler
    held_out_rows: np.ndarray
    held_out_identities: list[str]
    held_out_cameras: list[str | None]

    @property
    def identities(self) -> int:
        """K, the number of identities trained on."""
        return len(self.identity_names)

    def batch(self, iteration: int, shard: BatchShard = WHOLE_BATCH) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (b, H, W, 3) of a part, and labels (B,) of the whole batch; pure functions of the iteration."""
        chosen = self.sampler.batch(iteration)
        return self.pixels[self.rows[chosen[shard.rows]]], self.labels[chosen]


def make_source(
    name: str,
    records: Sequence[ImageRecord],
    pixels: np.ndarray,
    *,
    identities_per_batch: int,
    instances: int,
    seed: int,
    held_out: float = 0.0,
    cameras: CameraRule = "spread",
    single_images: SingleImageRule = "repeat",
) -> Source:
    """Number the identities of a training split and set some aside.

    Args:
        name: The domain's name.
        records: Those of its training split; distractors and junk are left out.
        pixels: (N, H, W, 3), in the order of `records`.
        identities_per_batch: P.
        instances: K.
        seed: Of the sampler and the choice of held-out identities.
        held_out: Share of identities to keep from training, at least one where it is above 0.
        cameras: Of the sampler.
        single_images: Of the sampler.

    Raises:
        DataError: Too few identities remain to tell people apart.
    """
    usable = [(row, record) for row, record in enumerate(records) if record.is_named]
    everyone = sorted({record.identity for _, record in usable})
    aside = held_out_identities(everyone, held_out, seed)
    numbers = {identity: number for number, identity in enumerate(each for each in everyone if each not in aside)}
    if len(numbers) < 2:
        raise DataError(
            f"{name} has {len(numbers)} identities to train on; training takes at least two.",
            "Prepare it with more people to train on (`sil prepare-data --split`), or leave it out of --source.",
        )
    kept = [(row, record) for row, record in usable if record.identity in numbers]
    tested = [(row, record) for row, record in usable if record.identity in aside]
    return Source(
        name=name,
        pixels=pixels,
        rows=np.array([row for row, _ in kept], dtype=np.int64),
        labels=np.array([numbers[record.identity] for _, record in kept], dtype=np.int64),
        identity_names=list(numbers),
        sampler=IdentitySampler(
            [record.identity for _, record in kept],
            [record.camera for _, record in kept],
            identities_per_batch=identities_per_batch,
            instances=instances,
            seed=seed,
            camera_rule=cameras,
            single_images=single_images,
        ),
        held_out_rows=np.array([row for row, _ in tested], dtype=np.int64),
        held_out_identities=[record.identity for _, record in tested],
        held_out_cameras=[record.camera for _, record in tested],
    )


def load_sources(folders: Sequence[Path], *, max_pixels: int = MAX_PIXELS) -> list[Dataset]:
    """Load the data sets to learn from.

    Args:
        folders: Where they lie.
        max_pixels: The most pixels of an image that is read of them.

    Raises:
        UsageError: Two have one name.
        DataError: One can't be read.
    """
    datasets = [load_dataset(folder, max_pixels=max_pixels) for folder in folders]
    names = [dataset.name for dataset in datasets]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"Two sources are called {twice}.", "Prepare one of them with `sil prepare-data --name NAME`.")
    return datasets


def warn_of_targets(datasets: Sequence[Dataset], reporter: Reporter) -> None:
    """Say which sources are data sets that the protocol beside them leaves out for testing."""
    for dataset in datasets:
        protocol = read_protocol(dataset.folder.parent)
        if protocol is not None and dataset.folder.name in protocol.targets:
            reporter.warn(
                f"{dataset.name} is the network that {dataset.folder.parent} leaves out for testing: once trained on, "
                "it can no longer show generalisation."
            )


def check_images(datasets: Sequence[Dataset], train: TrainSettings) -> None:
    """Refuse sources that nothing, or the same, would be learnt from.

    Raises:
        UsageError: Two hold the same images.
        DataError: One has no image that is learnt from.
    """
    seen: dict[object, str] = {}
    for dataset in datasets:
        learnt = [record for record in dataset.records if is_learnt_from(record, train)]
        if not learnt:
            raise DataError(
                f"{dataset.folder} has no training images.",
                "Name another --source, or prepare it with `sil prepare-data --split train` or `--split half`.",
            )
        root = dataset.root.resolve()
        for record in learnt:
            owner = seen.setdefault((root, record.path, record.box), dataset.name)
            if owner != dataset.name:
                raise UsageError(
                    f"{owner} and {dataset.name} share training images, {record.path} among them: the same people "
                    "would count as different ones.",
                    "Name only one of the two as --source.",
                )


def open_source(dataset: Dataset, settings: Settings, reporter: Reporter, group: ProcessGroup) -> Source:
    """Decode a data set's images to learn from, and number its identities.

    Args:
        dataset: One of those that `check_images` has nothing against.
        settings: Those of the training and of the pixel cache.
        reporter: Shows progress, and hears of small batches.
        group: The processes that share each batch.

    Raises:
        UsageError: Its batches would be too small, also for the processes.
        DataError: It has too few identities, or its images can't be read.
    """
    train = settings.train
    positions = [position for position, record in enumerate(dataset.records) if is_learnt_from(record, train)]
    cache = settings.data.cache or dataset.folder / "cache"
    if settings.data.cache is None:
        refuse_links(cache, within=dataset.folder)
    pixels = open_pixels(
        dataset,
        height=settings.model.height,
        width=settings.model.width,
        folder=cache,
        reporter=reporter,
        workers=cpu_count(),
        positions=positions,
        check_all=settings.data.check_cache,
        interpolation=settings.model.interpolation,
    )
    source = make_source(
        dataset.name,
        [dataset.records[position] for position in positions],
        pixels,
        identities_per_batch=train.identities,
        instances=train.instances,
        seed=train.seed,
        cameras=train.cameras,
        single_images=train.single_images,
        held_out=train.held_out if train.select == "held-out" else 0.0,
    )
    _check_batches(source, settings, reporter)
    _check_shards(source, settings, group)
    return source


def _check_shards(source: Source, settings: Settings, group: ProcessGroup) -> None:
    """Refuse more processes than can share a source's batch."""
    people = source.sampler.identities_per_batch
    if people < group.world_size:
        raise UsageError(
            f"There are {group.world_size} processes, but a batch of {source.name} has {people} identities; each "
            "process takes at least one.",
            f"Start at most {people} processes, or set train.identities to {group.world_size} or more.",
        )
    smallest = people // group.world_size * source.sampler.instances
    if group.world_size > 1 and smallest < 2 and settings.train.batch_norm == "per-process":
        raise UsageError(
            f"With {group.world_size} processes one of them has a single image of {source.name} in a batch: too few "
            "for a batch norm of its own.",
            "Start fewer processes, or set train.batch_norm to synchronised.",
        )


def _check_batches(source: Source, settings: Settings, reporter: Reporter) -> None:
    train = settings.train
    people = source.sampler.identities_per_batch
    if people < train.identities:
        reporter.warn(
            f"{source.name} has {source.identities} identities, fewer than the {train.identities} that a batch takes; "
            f"its batches are smaller."
        )
    most = int(np.bincount(source.labels).max())
    if most < train.instances:
        reporter.warn(
            f"No identity of {source.name} has the {train.instances} images that a batch takes of each (at most "
            f"{most}); its batches repeat images."
        )
    if people * train.instances < 2 or (train.method == "supervised" and people < 2):
        least = "two identities, for the triplet loss" if train.method == "supervised" else "two images, for batch norm"
        raise UsageError(
            f"train.identities = {train.identities} and train.instances = {train.instances} make batches too small: "
            f"a source's batch needs at least {least}.",
            "Set train.identities to 2 or more.",
        )


def is_learnt_from(record: ImageRecord, train: TrainSettings) -> bool:
    """Whether a source's image is one that the run learns from; junk and distractors of the test never are."""
    if record.split == "train":
        return True
    return train.source_splits == "train+test" and record.is_named


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
        task: Shows the progress.
    """
    edges = np.minimum(shares(-(-len(rows) // EMBED_BATCH), group.world_size) * EMBED_BATCH, len(rows))
    own = rows[edges[group.rank] : edges[group.rank + 1]]
    parts = [np.empty((0, embedder.dimension), dtype=np.float32)]
    for start in range(0, len(own), EMBED_BATCH):
        batch = pixels[own[start : start + EMBED_BATCH]]
        parts.append(embed_pixels(embedder, batch, device=device, half=half))
        if task is not None:
            task.advance(len(batch))
    everyone = group.gather_rows(torch.from_numpy(np.concatenate(parts)), np.diff(edges).tolist())
    if task is not None:
        task.advance(len(rows) - len(own))
    return everyone.numpy()
