"""Images that are there more than once: equal ones by a hash of their pixels, similar ones by a perceptual hash.

Similar images are found without comparing all with all. Two 64-bit hashes that differ in at most `FAR` bits agree
in at least one of FAR + 1 bands of bits (by the pigeonhole principle), so only images that agree in a band are
compared; what their hashes suggest, their thumbnails confirm.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, product
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from sil_cli.data.manifest import ImageRecord

FAR = 4
"""Bits of 64 in which the hashes of similar images may differ."""

UNLIKE = 6.0
"""Grey levels by which thumbnails of similar images may differ in the mean, and five times that anywhere."""

Doubt = Literal["train-test", "data-sets", "identities", "cameras", "query-gallery"]
"""Why an image that is there twice is a problem: it is both trained on and tested; it is in two data sets; it
stands for two people, or for two cameras; it is a query and in the gallery that the query is searched in."""

DOUBTS: tuple[Doubt, ...] = get_args(Doubt)

MOST_PAIRS = 1_000_000
"""The search for similar images ends after so many pairs: then they are not the exception that it looks for."""


@dataclass(frozen=True)
class Duplicate:
    """Images that are the same, or nearly.

    Attributes:
        kind: `exact`, equal pixels; `near`, similar ones.
        members: Positions of at least two records, ascending.
        doubts: Why that is a problem; none for neighbouring shots of one person by one camera.
    """

    kind: Literal["exact", "near"]
    members: tuple[int, ...]
    doubts: tuple[Doubt, ...]


def find_duplicates(
    records: Sequence[ImageRecord],
    digests: NDArray[np.uint8],
    dhashes: NDArray[np.uint64],
    thumbnails: NDArray[np.uint8],
) -> tuple[list[Duplicate], bool]:
    """Find equal and similar images, those with warnings first.

    Args:
        records: Of one data set, or of several one after another.
        digests: (n, 16) uint8, hashes of the pixels.
        dhashes: (n,) uint64.
        thumbnails: (n, h, w, 3) uint8.

    Returns:
        A group for all images that are equal, and one for every two (groups of) images that are similar; and
        whether all were found (see `MOST_PAIRS`).
    """
    groups = equal_rows(digests)
    firsts = np.array([group[0] for group in groups], dtype=np.int64)
    found = [
        Duplicate("exact", tuple(group), doubts_of([records[member] for member in group]))
        for group in groups
        if len(group) > 1
    ]
    pairs = similar_pairs(dhashes[firsts], thumbnails[firsts])
    for one, other in pairs:
        members = sorted([*groups[one], *groups[other]])
        found.append(Duplicate("near", tuple(members), doubts_of([records[member] for member in members])))
    return sorted(found, key=lambda each: (not each.doubts, each.kind, each.members)), len(pairs) < MOST_PAIRS


def doubts_of(records: Sequence[ImageRecord]) -> tuple[Doubt, ...]:
    """Why it is a problem that these records show one image."""
    named = [record for record in records if record.is_named]
    domains = {record.domain for record in records}
    splits = {record.split for record in records}
    found = {
        "train-test": "train" in splits and len(splits) > 1 and len(domains) == 1,
        "data-sets": len(domains) > 1,
        "identities": len(domains) == 1 and len({record.identity for record in named}) > 1,
        "cameras": len(domains) == 1 and len({record.camera for record in named}) > 1,
        "query-gallery": len(domains) == 1 and _counts_as_match(records),
    }
    return tuple(doubt for doubt in DOUBTS if found[doubt])


def _counts_as_match(records: Sequence[ImageRecord]) -> bool:
    """Whether a query is compared with one of the gallery: its own camera's images of its person and junk are not."""
    sides = [
        {(record.identity, record.camera) for record in records if record.split == split and not record.junk}
        for split in ("query", "gallery")
    ]
    return any(one != other or one[1] is None for one, other in product(*sides))


def equal_rows(digests: NDArray[np.uint8]) -> list[list[int]]:
    """Group equal rows: every position is in one group, groups and members are ascending."""
    groups: dict[bytes, list[int]] = {}
    for position, digest in enumerate(digests):
        groups.setdefault(digest.tobytes(), []).append(position)
    return list(groups.values())


def similar_pairs(
    dhashes: NDArray[np.uint64], thumbnails: NDArray[np.uint8], *, far: int = FAR, unlike: float = UNLIKE
) -> list[tuple[int, int]]:
    """All pairs whose hashes and thumbnails are alike, ascending; `MOST_PAIRS` of them where there are more.

    Args:
        dhashes: (n,) uint64.
        thumbnails: (n, h, w, 3) uint8.
        far: Bits in which the hashes may differ.
        unlike: Grey levels by which the thumbnails may differ in the mean, and five times that in any value.
    """
    pairs: set[tuple[int, int]] = set()
    for one, other in _agreeing_in_a_band(dhashes, far + 1):
        differing = (dhashes[one] ^ dhashes[other]).view(np.uint8).reshape(-1, 8)
        close = np.unpackbits(differing, axis=1).sum(axis=1) <= far
        one, other = one[close], other[close]
        apart = np.abs(thumbnails[one].astype(np.int16) - thumbnails[other])
        alike = (apart.mean(axis=(1, 2, 3)) <= unlike) & (apart.max(axis=(1, 2, 3), initial=0) <= 5 * unlike)
        low, high = np.minimum(one, other)[alike], np.maximum(one, other)[alike]
        pairs.update(zip(low.tolist(), high.tolist(), strict=True))
        if len(pairs) >= MOST_PAIRS:
            break
    return sorted(pairs)[:MOST_PAIRS]


def _agreeing_in_a_band(
    dhashes: NDArray[np.uint64], bands: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield arrays of pairs that agree in all bits of a band, band after band; a pair may come once for each band."""
    edges = np.linspace(0, 64, bands + 1).astype(int)
    for low, high in pairwise(edges.tolist()):
        keys = (dhashes >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        ends = np.searchsorted(keys, keys, side="right")
        alive = np.arange(len(keys))
        step = 1  # the neighbours `step` places on, for as long as they have the same key
        while (alive := alive[alive + step < ends[alive]]).size:
            yield order[alive], order[alive + step]
            step += 1
