"""Which entries can't show one person: two in a frame, and two taken at once by cameras that see different places.

That rests on clocks, and on which cameras overlap; nobody may know. So it is held against the entries: people who are
at two cameras at once turn up as links that are all but certain. Where more of the entries taken at once are linked so
than chance explains, the two cameras see the same place or their clocks disagree, and nothing is concluded from their
times. In the same way a camera's clock is found to be too coarse to tell its frames apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from sil_cli.data.images import Box
    from sil_cli.people.links import Links

_SURE = 0.1  # expected false matches up to which a link is all but certain
_DOUBTS = 3  # such links between entries taken at once, from which on times are doubted
_DOUBTFUL = 0.02  # and the share of all entries taken at once that they must be
_MOST_PAIRS = 20_000_000
_SAME_BOX = 0.5  # intersection over union from which on two boxes may be one person found twice


@dataclass(frozen=True)
class Sighting:
    """Where and when an entry was seen.

    Attributes:
        frame: What names the image that it was cut from.
        box: In that image; None for all of it.
        camera: With its network; None where unknown.
        start, end: Seconds; NaN where unknown. Of a tracklet its first and its last image.
    """

    frame: tuple[str, str]
    box: Box | None
    camera: tuple[str, str] | None
    start: float
    end: float


@dataclass(frozen=True)
class Apart:
    """Pairs of entries that can't show one person.

    Attributes:
        pairs: (P, 2) rows.
        doubted: Pairs of cameras, or a camera twice, from whose times nothing was concluded, and why.
    """

    pairs: NDArray[np.int64]
    doubted: list[tuple[str, str]]


def find_apart(sightings: Sequence[Sighting], links: Links, *, overlap: Sequence[str], at_once: float) -> Apart:
    """Which entries can't show one person, by where and when they were seen.

    Args:
        sightings: (N,) of all entries.
        links: Between them, by which times are doubted.
        overlap: Pairs of cameras that see the same place, `c1+c2`; `all`; or `auto`: as the entries show.
        at_once: Seconds between two images of different cameras that nobody can be in both of.
    """
    same_frame = _in_one_frame(sightings)
    timed = _taken_at_once(sightings, at_once)
    if timed is None:
        return Apart(same_frame, [("all cameras", "too many entries have the same time")])
    names = sorted({each.camera for each in sightings if each.camera is not None})
    numbers = {name: number for number, name in enumerate(names)}
    cameras = np.array([-1 if each.camera is None else numbers[each.camera] for each in sightings], dtype=np.int64)
    one, other = cameras[timed[:, 0]], cameras[timed[:, 1]]
    between = np.minimum(one, other) * max(len(names), 1) + np.maximum(one, other)
    sure = _is_sure(timed, links)
    kept = np.ones(len(timed), dtype=np.bool_)
    doubted: list[tuple[str, str]] = []
    told = {frozenset(each.split("+")) for each in overlap if "+" in each}
    for pair in np.unique(between).tolist():
        here = between == pair
        low, high = names[pair // len(names)], names[pair % len(names)]
        why = _doubt(low, high, int(sure[here].sum()), int(here.sum()), overlap, told)
        if why is not None:
            kept[here] = False
            doubted.append((" and ".join(dict.fromkeys((low[1], high[1]))), why))
    pairs = np.concatenate([same_frame, timed[kept]])
    return Apart(np.unique(pairs, axis=0) if len(pairs) else pairs, doubted)


def _doubt(
    low: tuple[str, str],
    high: tuple[str, str],
    sure: int,
    count: int,
    overlap: Sequence[str],
    told: set[frozenset[str]],
) -> str | None:
    """Why nothing is concluded from the times of two cameras; None where something is."""
    if low != high and ("all" in overlap or frozenset((low[1], high[1])) in told):
        return "they are said to see the same place"
    if "auto" not in overlap and low != high:
        return None
    if sure < _DOUBTS or sure < _DOUBTFUL * count:
        return None
    seen = f"{sure:,} of {count:,} pairs taken at once are surely one person"
    return f"{seen}: its clock is too coarse" if low == high else f"{seen}: they overlap, or their clocks disagree"


def _is_sure(pairs: NDArray[np.int64], links: Links) -> NDArray[np.bool_]:
    """Which of some pairs are linked all but certainly."""
    certain = links.expected(links.weights) <= _SURE
    keys = links.first[certain] * links.count + links.second[certain]
    return np.isin(pairs.min(axis=1) * links.count + pairs.max(axis=1), keys) if len(pairs) else np.empty(0, np.bool_)


def _in_one_frame(sightings: Sequence[Sighting]) -> NDArray[np.int64]:
    """Pairs cut from one image by boxes that don't cover each other."""
    frames: dict[tuple[str, str], list[int]] = {}
    for row, each in enumerate(sightings):
        if each.box is not None:
            frames.setdefault(each.frame, []).append(row)
    found = [np.empty((0, 2), dtype=np.int64)]
    for rows in frames.values():
        boxes = np.array([sightings[row].box for row in rows], dtype=np.float64)
        for at, row in enumerate(rows[:-1]):
            others = np.array(rows[at + 1 :])[_covered(boxes[at], boxes[at + 1 :]) < _SAME_BOX]
            found.append(np.stack([np.full(len(others), row), others], axis=1))
    return np.concatenate(found)


def _covered(one: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of a box, (4,), with each of others, (N, 4)."""
    ends = np.minimum(one[:2] + one[2:], others[:, :2] + others[:, 2:])
    both = np.maximum(ends - np.maximum(one[:2], others[:, :2]), 0).prod(axis=1)
    shares: NDArray[np.float64] = both / (one[2:].prod() + others[:, 2:].prod(axis=1) - both)
    return shares


def _taken_at_once(sightings: Sequence[Sighting], at_once: float) -> NDArray[np.int64] | None:
    """Pairs of one network taken at the same time, by one camera in the same moment; None where there are too many."""
    rows = np.array(
        [row for row, each in enumerate(sightings) if each.camera is not None and np.isfinite(each.start)],
        dtype=np.int64,
    )
    if not len(rows):
        return np.empty((0, 2), dtype=np.int64)
    start = np.array([sightings[row].start for row in rows])
    end = np.maximum(np.array([sightings[row].end for row in rows]), start)
    order = np.argsort(start, kind="stable")
    rows, start, end = rows[order], start[order], end[order]
    last = np.searchsorted(start, end + at_once, side="right")
    counts = last - np.arange(len(rows)) - 1
    if counts.sum() > _MOST_PAIRS:
        return None
    earlier = np.repeat(np.arange(len(rows)), counts)
    later = earlier + 1 + np.arange(len(earlier)) - np.repeat(np.cumsum(counts) - counts, counts)
    networks = np.unique([sightings[row].camera[0] for row in rows], return_inverse=True)[1]
    cameras = np.unique(["\0".join(sightings[row].camera or ()) for row in rows], return_inverse=True)[1]
    frames = np.unique(["\0".join(sightings[row].frame) for row in rows], return_inverse=True)[1]
    same = cameras[earlier] == cameras[later]
    overlapping = start[later] <= end[earlier]
    moment = start[later] == start[earlier]
    one_frame = frames[earlier] == frames[later]
    kept = np.where(same, overlapping & (moment | (start[later] < end[earlier])), networks[earlier] == networks[later])
    kept &= ~one_frame  # which its boxes decide
    return np.stack([rows[earlier[kept]], rows[later[kept]]], axis=1)


def as_matrix(count: int, pairs: Iterable[NDArray[np.int64]]) -> sparse.csr_matrix:
    """Pairs of rows as a symmetric matrix, (count, count), true where there is a pair."""
    whole = np.concatenate([np.empty((0, 2), dtype=np.int64), *pairs])
    rows, columns = np.concatenate([whole[:, 0], whole[:, 1]]), np.concatenate([whole[:, 1], whole[:, 0]])
    return sparse.csr_matrix((np.ones(len(rows), dtype=np.bool_), (rows, columns)), (count, count))
