"""What training sees of a source domain: pixels in memory order, labels, and who is held out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.data.sampling import IdentitySampler, held_out_identities
from sil_cli.distributed.batch_shard import WHOLE_BATCH, BatchShard
from sil_cli.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sil_cli.data.manifest import ImageRecord


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


def pixel_batches(pixels: np.ndarray, rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """The images at `rows`, in order, in batches of at most `size`."""
    for start in range(0, len(rows), size):
        yield pixels[rows[start : start + size]]


def make_source(
    name: str,
    records: Sequence[ImageRecord],
    pixels: np.ndarray,
    *,
    identities_per_batch: int,
    instances: int,
    seed: int,
    held_out: float = 0.0,
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

    Raises:
        DataError: Too few identities remain to tell people apart.
    """
    usable = [(row, record) for row, record in enumerate(records) if not (record.distractor or record.junk)]
    everyone = sorted({record.identity for _, record in usable})
    aside = held_out_identities(everyone, held_out, seed)
    numbers = {identity: number for number, identity in enumerate(each for each in everyone if each not in aside)}
    if len(numbers) < 2:
        raise DataError(
            f"{name} has {len(numbers)} identities to train on; telling people apart takes at least two.",
            "Prepare it with more people in its train split (see --split), or leave it out of --source.",
        )
    kept = [(row, record) for row, record in usable if record.identity in numbers]
    held = [(row, record) for row, record in usable if record.identity in aside]
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
        ),
        held_out_rows=np.array([row for row, _ in held], dtype=np.int64),
        held_out_identities=[record.identity for _, record in held],
        held_out_cameras=[record.camera for _, record in held],
    )
