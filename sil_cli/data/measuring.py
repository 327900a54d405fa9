"""What the images of a data set look like: every image opened once, measured, and let go of.

Sizes are those of the crops as they are. Colours are measured on the image resized to `LOOK` pixels, which is how
a network sees it, so that a camera's resolution does not count as its style. Memory does not depend on the size of
the images: about 1 kB an image is kept.

An image's style here is what style transfer takes for it: the means and standard deviations of its channels. A
camera's style is the normal distribution of its images' styles.
"""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from sil_cli.data.images import ImageError, quiet_decoders
from sil_cli.data.manifest import Skipped
from sil_cli.runtime import map_in_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sil_cli.data.manifest import Dataset, ImageRecord
    from sil_cli.runtime import Reporter

LOOK = (128, 64)
"""Height and width at which colours are measured."""

MEAN_IMAGE = (64, 32)
THUMBNAIL = (16, 8)
BINS = 32
"""Of a camera's histograms, over 0..256."""

_ROW = np.dtype(
    [
        ("size", np.int64, (2,)),
        ("style", np.float32, (6,)),
        ("brightness", np.float64),
        ("contrast", np.float64),
        ("digest", np.uint8, (16,)),
        ("dhash", np.uint64),
        ("thumbnail", np.uint8, (*THUMBNAIL, 3)),
    ]
)
"""What is kept of each image, by the names that `Look` gives it."""

_LEVELS = np.arange(256, dtype=np.float64)
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as in JPEG


@dataclass(frozen=True)
class Look:
    """What one image looks like.

    Attributes:
        size: Width and height in pixels.
        style: Means and standard deviations of red, green and blue, (6,), in grey levels 0..255.
        brightness: Mean luma, 0..255.
        contrast: Standard deviation of luma.
        digest: A hash of its pixels, (16,) uint8: equal for equal images, however they are stored.
        dhash: 64 bits, each saying whether the image gets brighter from one place to the next (N. Krawetz, "Kind
            of Like That", 2013).
        thumbnail: (16, 8, 3) uint8.
        histogram: (3, 32) counts of red, green and blue.
        small: (64, 32, 3) uint8, for a mean image.
    """

    size: tuple[int, int]
    style: NDArray[np.float32]
    brightness: float
    contrast: float
    digest: NDArray[np.uint8]
    dhash: int
    thumbnail: NDArray[np.uint8]
    histogram: NDArray[np.int64]
    small: NDArray[np.uint8]


@dataclass(frozen=True)
class CameraLook:
    """What the images of one camera have in common.

    Attributes:
        images: How many were measured.
        mean_image: (64, 32, 3) float, 0..255.
        histogram: (3, 32) shares of red, green and blue; each row adds up to 1.
    """

    images: int
    mean_image: NDArray[np.float64]
    histogram: NDArray[np.float64]


@dataclass(frozen=True)
class Measures:
    """What the images of a data set look like; row i of every array is `records[i]`.

    Attributes:
        records: Those that could be opened.
        sizes: (n, 2) widths and heights.
        styles: (n, 6), see `Look.style`.
        brightness: (n,).
        contrast: (n,).
        digests: (n, 16) uint8.
        dhashes: (n,) uint64.
        thumbnails: (n, 16, 8, 3) uint8.
        cameras: By camera, None where it is unknown.
        unreadable: The others, and why.
    """

    records: list[ImageRecord]
    sizes: NDArray[np.int64]
    styles: NDArray[np.float32]
    brightness: NDArray[np.float64]
    contrast: NDArray[np.float64]
    digests: NDArray[np.uint8]
    dhashes: NDArray[np.uint64]
    thumbnails: NDArray[np.uint8]
    cameras: dict[str | None, CameraLook]
    unreadable: list[Skipped]


def look_at(image: Image.Image) -> Look:
    """Measure one RGB image."""
    height, width = LOOK
    seen = image.resize((width, height), Image.Resampling.BILINEAR)  # as `resize_to` does
    grey = seen.convert("L")
    counts = np.array(seen.histogram(), dtype=np.int64).reshape(3, 256)
    means, deviations = _moments(counts)
    steps = np.asarray(grey.resize((9, 8), Image.Resampling.BOX))
    digest = hashlib.blake2b(image.tobytes(), digest_size=16, key=b"%d" % image.width).digest()
    bits = np.packbits((steps[:, 1:] > steps[:, :-1]).ravel())
    return Look(
        size=image.size,
        style=np.concatenate([means, deviations]).astype(np.float32),
        brightness=float(means @ _LUMA),
        contrast=float(_moments(np.array([grey.histogram()], dtype=np.int64))[1][0]),
        digest=np.frombuffer(digest, dtype=np.uint8),
        dhash=int.from_bytes(bits.tobytes(), "big"),
        thumbnail=_reduced(seen, THUMBNAIL),
        histogram=counts.reshape(3, BINS, -1).sum(axis=2),
        small=_reduced(seen, MEAN_IMAGE),
    )


def measure(dataset: Dataset, records: Sequence[ImageRecord], *, reporter: Reporter, workers: int) -> Measures:
    """Open and measure images; one that can't be opened is named and left out.

    Args:
        dataset: A prepared data set.
        records: Which of its records to look at.
        reporter: Shows the progress.
        workers: How many threads decode.
    """

    def look(record: ImageRecord) -> tuple[ImageRecord, Look | str]:
        try:
            return record, look_at(dataset.load_image(record))
        except ImageError as error:
            return record, error.reason

    rows = np.zeros(len(records), dtype=_ROW)
    opened: list[ImageRecord] = []
    unreadable: list[Skipped] = []
    sums: dict[str | None, tuple[int, NDArray[np.float64], NDArray[np.float64]]] = {}
    with (
        reporter.task(f"Looking at {dataset.name}", len(records), "images") as task,
        quiet_decoders(),
        closing(map_in_order(look, records, workers=workers)) as results,
    ):
        for looks in results:
            for record, seen in looks:
                if isinstance(seen, str):
                    unreadable.append(Skipped(path=record.path, reason=seen))
                    continue
                rows[len(opened)] = tuple(getattr(seen, name) for name in _ROW.fields or ())
                opened.append(record)
                count, image, histogram = sums.get(record.camera, (0, np.zeros((*MEAN_IMAGE, 3)), np.zeros((3, BINS))))
                sums[record.camera] = (count + 1, image + seen.small, histogram + seen.histogram)
            task.advance(len(looks))
    rows = rows[: len(opened)]
    return Measures(
        records=opened,
        sizes=rows["size"],
        styles=rows["style"],
        brightness=rows["brightness"],
        contrast=rows["contrast"],
        digests=rows["digest"],
        dhashes=rows["dhash"],
        thumbnails=rows["thumbnail"],
        cameras={
            camera: CameraLook(count, image / count, histogram / histogram.sum(axis=1, keepdims=True))
            for camera, (count, image, histogram) in sums.items()
        },
        unreadable=unreadable,
    )


def _moments(counts: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means and standard deviations of the levels 0..255 that were counted, (c,) each, from (c, 256)."""
    shares = counts / counts.sum(axis=1, keepdims=True)
    means = shares @ _LEVELS
    squares = shares @ _LEVELS**2
    return means, np.sqrt((squares - means**2).clip(0.0))


def _reduced(image: Image.Image, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Means over equal boxes, (height, width, 3)."""
    return np.array(image.reduce((image.width // shape[1], image.height // shape[0])), dtype=np.uint8)


def style_distance(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """The 2-Wasserstein distance of the normal distributions fitted to two sets of styles, in grey levels.

    √(‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁^½ Σ₂ Σ₁^½)^½)), which is the root of Fréchet's distance (Dowson and Landau,
    "The Fréchet distance between multivariate normal distributions", 1982). Σ are population covariances.

    Args:
        one: (n, d) styles, n ≥ 1.
        other: (m, d) likewise.
    """
    first, second = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    root = _root(_covariance(first))
    cross = _root(root @ _covariance(second) @ root)
    spread = first.var(axis=0).sum() + second.var(axis=0).sum() - 2 * np.trace(cross)
    shift = float(((first.mean(axis=0) - second.mean(axis=0)) ** 2).sum())
    return float(np.sqrt(max(shift + spread, 0.0)))


def style_distances(groups: Sequence[NDArray[np.floating]]) -> NDArray[np.float64]:
    """`style_distance` of every two groups, symmetric, (k, k)."""
    matrix = np.zeros((len(groups), len(groups)))
    for row, one in enumerate(groups):
        for column in range(row):
            matrix[row, column] = matrix[column, row] = style_distance(one, groups[column])
    return matrix


def explained_share(groups: Sequence[NDArray[np.floating]]) -> float | None:
    """How much of the variance of style lies between the groups, 0..1 (η²: 0, all alike; 1, the group says all).

    Args:
        groups: Styles (n_i, d) of each group.

    Returns:
        None where there are fewer than two groups, or no variance at all.
    """
    if len(groups) < 2:
        return None
    stacked = np.concatenate(groups).astype(np.float64)
    total = float(((stacked - stacked.mean(axis=0)) ** 2).sum())
    if total == 0.0:
        return None
    within = sum(float(((group - group.mean(axis=0, dtype=np.float64)) ** 2).sum()) for group in groups)
    return min(max(1.0 - within / total, 0.0), 1.0)


NEIGHBOURS = 5
_TORSO, _LEGS, _MIDDLE = slice(4, 8), slice(9, 13), slice(3, 5)
"""Rows and columns of a thumbnail."""


def clothes_colours(measures: Measures) -> NDArray[np.float64]:
    """The colours of people's clothes, as far as they differ within the data set.

    Means of red, green and blue where a crop shows torso and legs, over all images of a person; then each of the six is
    taken relative to its mean and standard deviation over people, which takes off what a camera network does to colours
    (and what all its people have in common).

    Returns:
        (people, 6), in the order of their names; people whom nobody can name left out.
    """
    images = measures.thumbnails.astype(np.float64)[:, :, _MIDDLE]
    colours = np.concatenate([images[:, rows].mean(axis=(1, 2)) for rows in (_TORSO, _LEGS)], axis=1)
    rows_of: dict[str, list[int]] = {}
    for row, record in enumerate(measures.records):
        if record.is_named:
            rows_of.setdefault(record.identity, []).append(row)
    people = np.array([colours[rows_of[name]].mean(axis=0) for name in sorted(rows_of)]).reshape(-1, 6)
    if not len(people):
        return people
    spread = people.std(axis=0)
    relative: NDArray[np.float64] = (people - people.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return relative


def told_apart(groups: Sequence[NDArray[np.float64]], *, most: int = 200, seed: int = 0) -> float | None:
    """How far points tell which group they are of: 0 for not at all (chance), 1 for without fail.

    The share of a point's five nearest others that are of its own group, relative to what chance gives. As many points
    of each group take part: of larger ones as many as the smallest has, drawn ten times.

    Args:
        groups: (n_i, d) each.
        most: Points of a group that take part.
        seed: Draws them.

    Returns:
        None where there are fewer than two groups, or one of fewer than ten points.
    """
    count = min([most, *map(len, groups)])
    if len(groups) < 2 or count <= 2 * NEIGHBOURS:
        return None
    rng = np.random.default_rng(seed)
    owners = np.repeat(np.arange(len(groups)), count)
    shares = []
    for _ in range(10 if max(map(len, groups)) > count else 1):
        points = np.concatenate([group[rng.permutation(len(group))[:count]] for group in groups])
        squares = (points**2).sum(axis=1)
        distances = squares[:, None] + squares - 2 * points @ points.T
        np.fill_diagonal(distances, np.inf)
        nearest = np.argpartition(distances, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        shares.append(float((owners[nearest] == owners[:, None]).mean()))
    chance = (count - 1) / (len(owners) - 1)
    return (float(np.mean(shares)) - chance) / (1.0 - chance)


def _covariance(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = rows - rows.mean(axis=0)
    product: NDArray[np.float64] = centred.T @ centred / len(rows)
    return product


def _root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The square root of a symmetric matrix without negative eigenvalues, save for rounding."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    root: NDArray[np.float64] = (vectors * np.sqrt(values.clip(0.0))) @ vectors.T
    return root
