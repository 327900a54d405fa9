"""P×K sampling: every batch holds P identities with K images each, and can be computed from its number alone."""

from __future__ import annotations

from math import gcd
from typing import TYPE_CHECKING, Literal

import numpy as np

from sil_cli.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

CameraRule = Literal["spread", "others"]
SingleImageRule = Literal["repeat", "once"]

_ORDER, _REST, _IMAGES = 0, 1, 2
"""What a stream of random numbers is for, so that the three never share one."""


class IdentitySampler:
    """Draws batches of P identities × K images of one domain.

    A batch is a pure function of the seed and its number, so that a resumed run and every rank see the same
    batches. Identities are walked in rounds of floor(n / P) batches. Within a round none comes twice; the
    n mod P that a round leaves out rotate, so that after every round all n identities have been used equally
    often, give or take one. The K images of an identity come from as many cameras as there are, then from as
    many images as there are; an image is repeated only when its identity has fewer than K. Images without a
    camera count as taken by one.

    That is the default. The code that the authors of the paper published draws otherwise, in two respects: of an
    identity one image, and K − 1 of those by other cameras than its (or, where there are none, of its other images),
    without repetition where they are at least K; and one pass over all identities as a stream of images that is cut
    into batches of P·K, in which an identity of a single image comes once. The stream's rest is left out.

    Args:
        identities: The identity of each image, (N,).
        cameras: The camera of each image or None, (N,).
        identities_per_batch: P; with fewer identities than that, P becomes their number.
        instances: K.
        seed: Not negative.
        camera_rule: `spread`, or `others` as in the authors' code.
        single_images: `repeat`, or `once` as in the authors' code.

    Attributes:
        identities_per_batch: P as it is used: min(P, n).
        instances: K.
        camera_rule: As given.
        single_images: As given.
        batches_per_round: floor(n / P) batches use each identity at most once; of a stream, its whole batches.

    Raises:
        DataError: There is no image.
        ValueError: P or K is below 1, the seed is negative, or the lengths differ.
    """

    def __init__(
        self,
        identities: Sequence[str],
        cameras: Sequence[str | None],
        *,
        identities_per_batch: int,
        instances: int,
        seed: int,
        camera_rule: CameraRule = "spread",
        single_images: SingleImageRule = "repeat",
    ) -> None:
        if len(identities) != len(cameras):
            raise ValueError(f"{len(identities)} identities, but {len(cameras)} cameras")
        if min(identities_per_batch, instances) < 1 or seed < 0:
            raise ValueError("identities_per_batch and instances must be at least 1, and seed not negative")
        if not identities:
            raise DataError("There are no training images.", "Check the splits that `sil prepare-data` printed.")
        codes = _codes(identities)
        self._cameras = _codes(["" if camera is None else f"={camera}" for camera in cameras])
        self._images = np.argsort(codes, kind="stable")  # grouped by identity
        self._sizes = np.bincount(codes)
        self._starts = np.cumsum(self._sizes) - self._sizes
        self._seed = seed
        self._count = len(self._sizes)
        self.identities_per_batch = min(identities_per_batch, self._count)
        self.instances = instances
        self.batches_per_round = self._count // self.identities_per_batch
        self.camera_rule = camera_rule
        self.single_images = single_images
        self._passed: tuple[int, NDArray[np.int64]] | None = None  # the latest stream
        if single_images == "once":
            images = int(np.where(self._sizes == 1, 1, instances).sum())
            self.batches_per_round = max(1, images // (self.identities_per_batch * instances))

    def batch(self, iteration: int) -> NDArray[np.int64]:
        """The images of batch number `iteration`, counted from 0.

        Returns:
            Positions in `identities`, (P·K,): K images of one identity, then K of the next.
        """
        if iteration < 0:
            raise ValueError(f"iteration must not be negative: {iteration}")
        round_number, step = divmod(iteration, self.batches_per_round)
        size = self.identities_per_batch
        if self.single_images == "once":
            return self._stream(round_number, step * size * self.instances)
        chosen = self._round(round_number)[step * size : (step + 1) * size]
        return self._draw(chosen, self._random(_IMAGES, iteration))

    def _draw(self, chosen: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
        """K images of each chosen identity, (P·K,), by the rule."""
        by_rule = self._evenly_by_cameras if self.camera_rule == "spread" else self._by_other_cameras
        return by_rule(chosen, random)

    def _stream(self, number: int, start: int) -> NDArray[np.int64]:
        """A batch's stretch of a pass over all identities; images come again where there are too few for one batch."""
        passed = self._passed
        if passed is None or passed[0] != number:
            order = self._random(_ORDER, number).permutation(self._count)
            drawn = self._draw(order, self._random(_IMAGES, number))
            counts = np.where(self._sizes[order] == 1, 1, self.instances)
            kept = (np.arange(self.instances) < counts[:, None]).ravel()
            self._passed = passed = (number, drawn[kept])
        length = self.identities_per_batch * self.instances
        return np.resize(passed[1][start : start + length], length)

    def _by_other_cameras(self, chosen: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
        """One image of each chosen identity and K − 1 by other cameras than its, (P·K,)."""
        taken = np.empty((len(chosen), self.instances), dtype=np.int64)
        for row, identity in zip(taken, chosen.tolist(), strict=True):
            images = self._images[self._starts[identity] :][: self._sizes[identity]]
            first = int(random.integers(len(images)))
            others = np.flatnonzero(self._cameras[images] != self._cameras[images[first]])
            if not len(others):
                others = np.delete(np.arange(len(images)), first)
            if not len(others):
                others = np.array([first])
            more = random.choice(others, self.instances - 1, replace=len(others) < self.instances)
            row[:] = images[[first, *more]]
        return taken.ravel()

    def _round(self, number: int) -> NDArray[np.int64]:
        """The identities of one round in their order: all but the n mod P whose turn it is to rest."""
        order: NDArray[np.int64] = self._random(_ORDER, number).permutation(self._count)
        resting = self._count % self.identities_per_batch
        if not resting:
            return order
        # The rests are consecutive stretches of a ring of all identities; after a whole number of turns
        # everyone has rested equally often, and the ring is drawn again.
        rounds = self._count // gcd(self._count, resting)
        ring_number, place = divmod(number, rounds)
        ring = self._random(_REST, ring_number).permutation(self._count)
        rests = np.zeros(self._count, dtype=bool)
        rests[ring[(place * resting + np.arange(resting)) % self._count]] = True
        return order[~rests[order]]

    def _evenly_by_cameras(self, chosen: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
        """K images of each chosen identity from as many cameras as there are, (P·K,)."""
        sizes = self._sizes[chosen]
        ends = np.cumsum(sizes)
        owner = np.repeat(np.arange(len(chosen)), sizes)
        place = np.arange(ends[-1]) - np.repeat(ends - sizes, sizes)
        images = self._images[np.repeat(self._starts[chosen], sizes) + place]
        images = images[np.lexsort((random.random(len(images)), owner))]
        # Each image's rank within its identity and camera; by that rank every camera comes once, then twice, …
        cameras = self._cameras[images]
        grouped = np.lexsort((cameras, owner))
        is_first = np.ones(len(images), dtype=bool)
        is_first[1:] = np.any(np.diff(np.stack((owner, cameras))[:, grouped]) != 0, axis=0)
        counter = np.arange(len(images))
        rank = np.empty(len(images), dtype=np.int64)
        rank[grouped] = counter - np.maximum.accumulate(np.where(is_first, counter, 0))
        images = images[np.lexsort((rank, owner))]
        wanted = np.arange(self.instances) % sizes[:, None]
        taken: NDArray[np.int64] = images[((ends - sizes)[:, None] + wanted).ravel()]
        return taken

    def _random(self, purpose: int, number: int) -> np.random.Generator:
        return np.random.default_rng((self._seed, purpose, number))


def _codes(names: Sequence[str]) -> NDArray[np.int64]:
    """Number the distinct names in sorted order."""
    numbers = {name: number for number, name in enumerate(sorted(set(names)))}
    return np.array([numbers[name] for name in names], dtype=np.int64)


def held_out_identities(identities: Iterable[str], share: float, seed: int) -> frozenset[str]:
    """Which of a training split's identities are kept from training; their order doesn't matter.

    Args:
        identities: All usable ones: distractors and junk are left out.
        share: How many, at least one where it is above 0.
        seed: That of the training.
    """
    if share <= 0.0:
        return frozenset()
    everyone = sorted(set(identities))
    count = max(1, round(share * len(everyone)))
    chosen = np.random.default_rng(seed).permutation(len(everyone))[:count]
    return frozenset(everyone[index] for index in chosen)
