"""How well boxes and tracklets agree with the truth: detection rates, IDF1 and HOTA, as TrackEval defines them.

Counts of several cameras are added up before a rate is made of them, as TrackEval's COMBINED row does.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.optimize import linear_sum_assignment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

THRESHOLD: Final = 0.5
"""The intersection over union from which on a box is the one of a person, but for HOTA."""

ALPHAS: Final[NDArray[np.float64]] = np.arange(0.05, 0.99, 0.05)
"""The thresholds that HOTA is the mean over: 0.05, 0.10, …, 0.95."""

_SLACK: Final = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class Boxes:
    """The boxes of people in the frames of one camera, or of several whose frames are numbered apart.

    Attributes:
        frames: (boxes) which frame each is in.
        people: (boxes) whose it is: an identity or a tracklet; nobody is twice in a frame.
        boxes: (boxes, 4) left, top, width, height.
    """

    frames: Ints
    people: Ints
    boxes: Floats


@dataclass(frozen=True)
class DetectionCounts:
    """Boxes found, boxes that are nobody's, and people not found."""

    found: int = 0
    false: int = 0
    missed: int = 0

    def __add__(self, other: DetectionCounts) -> DetectionCounts:
        return DetectionCounts(self.found + other.found, self.false + other.false, self.missed + other.missed)

    @property
    def precision(self) -> float:
        """The part of boxes that are somebody's; NaN without a box."""
        return _share(self.found, self.found + self.false)

    @property
    def recall(self) -> float:
        """The part of people that are found; NaN without one."""
        return _share(self.found, self.found + self.missed)

    @property
    def f1(self) -> float:
        """The harmonic mean of both; for identities, IDF1."""
        return _share(2 * self.found, 2 * self.found + self.false + self.missed)


@dataclass(frozen=True)
class HotaCounts:
    """What HOTA is made of, at each of `ALPHAS`.

    Attributes:
        found, false, missed: (19) as in `DetectionCounts`.
        association: (19) the sum over found boxes of how well their tracklet and their person agree, A(c).
    """

    found: Floats = field(default_factory=lambda: np.zeros(len(ALPHAS)))
    false: Floats = field(default_factory=lambda: np.zeros(len(ALPHAS)))
    missed: Floats = field(default_factory=lambda: np.zeros(len(ALPHAS)))
    association: Floats = field(default_factory=lambda: np.zeros(len(ALPHAS)))

    def __add__(self, other: HotaCounts) -> HotaCounts:
        return HotaCounts(
            self.found + other.found,
            self.false + other.false,
            self.missed + other.missed,
            self.association + other.association,
        )

    @property
    def detection_accuracies(self) -> Floats:
        """DetA at each threshold: TP / (TP + FN + FP)."""
        accuracies: Floats = self.found / np.maximum(1, self.found + self.false + self.missed)
        return accuracies

    @property
    def association_accuracies(self) -> Floats:
        """AssA at each threshold: the mean of A(c) over true positives."""
        accuracies: Floats = self.association / np.maximum(1, self.found)
        return accuracies

    @property
    def detection_accuracy(self) -> float:
        """DetA."""
        return float(self.detection_accuracies.mean())

    @property
    def association_accuracy(self) -> float:
        """AssA."""
        return float(self.association_accuracies.mean())

    @property
    def hota(self) -> float:
        """HOTA: the mean over thresholds of √(DetA · AssA)."""
        return float(np.sqrt(self.detection_accuracies * self.association_accuracies).mean())


def overlaps(one: Floats, other: Floats) -> Floats:
    """Intersection over union of each two boxes, (N, 4) and (M, 4) to (N, M)."""
    near, far = one[:, None, :2], one[:, None, :2] + one[:, None, 2:]
    size = np.minimum(far, other[None, :, :2] + other[None, :, 2:]) - np.maximum(near, other[None, :, :2])
    shared = np.prod(np.maximum(size, 0), axis=2)
    union = np.prod(one[:, 2:], axis=1)[:, None] + np.prod(other[:, 2:], axis=1)[None] - shared
    share: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return share


def count_detections(truth: Boxes, found: Boxes, threshold: float = THRESHOLD) -> DetectionCounts:
    """Match boxes and people of each frame one to one, as many as can be, at a least intersection over union."""
    hits = sum(len(match_boxes(similarity, threshold)[0]) for _, _, similarity in _in_frames(truth, found))
    return DetectionCounts(hits, len(found.frames) - hits, len(truth.frames) - hits)


def match_boxes(similarity: Floats, threshold: float = THRESHOLD) -> tuple[Ints, Ints]:
    """As many pairs as can be at a least similarity, and of such matchings the one that is most alike in all."""
    possible = similarity >= threshold - _SLACK
    rows, columns = linear_sum_assignment(np.where(possible, 1000 + similarity, 0), maximize=True)
    kept = possible[rows, columns]
    return rows[kept], columns[kept]


def count_identities(truth: Boxes, found: Boxes, threshold: float = THRESHOLD) -> DetectionCounts:
    """IDTP, IDFP and IDFN: with people and tracklets matched one to one over all frames, so that IDF1 is greatest.

    Ristani et al., Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking, ECCV workshops 2016,
    equations 1 to 11. For groups of tracklets over several cameras, number the frames of each camera apart, and let
    `people` be the groups.
    """
    shared = np.zeros((_count(truth.people), _count(found.people)))
    truth, found = _renumbered(truth), _renumbered(found)
    for ours, theirs, similarity in _in_frames(truth, found):
        rows, columns = np.nonzero(similarity >= threshold - _SLACK)
        pairs = np.column_stack([truth.people[ours[rows]], found.people[theirs[columns]]])
        shared[tuple(np.unique(pairs, axis=0).T)] += 1  # once, also where a group of tracklets is twice in a frame
    rows, columns = linear_sum_assignment(shared, maximize=True)
    hits = int(shared[rows, columns].sum())
    return DetectionCounts(hits, len(found.frames) - hits, len(truth.frames) - hits)


def count_hota(truth: Boxes, found: Boxes) -> HotaCounts:
    """What HOTA is made of (Luiten et al., IJCV 2021, arXiv 2009.07736, section 5, equations 4 to 8 and 11 to 14).

    As in TrackEval, boxes of a frame are matched once for all thresholds, by similarity times how well person and
    tracklet agree over the whole footage.
    """
    truth, found = _renumbered(truth), _renumbered(found)
    lengths = np.bincount(truth.people)[:, None], np.bincount(found.people)[None]
    potential = np.zeros((lengths[0].size, lengths[1].size))
    frames = list(_in_frames(truth, found))
    for ours, theirs, similarity in frames:
        sums = similarity.sum(axis=0)[None] + similarity.sum(axis=1)[:, None] - similarity
        share = np.divide(similarity, sums, out=np.zeros_like(similarity), where=sums > _SLACK)
        potential[truth.people[ours][:, None], found.people[theirs][None]] += share
    alignment = potential / (lengths[0] + lengths[1] - potential)
    matches = np.zeros((len(ALPHAS), *potential.shape))
    for ours, theirs, similarity in frames:
        people, tracklets = truth.people[ours], found.people[theirs]
        rows, columns = linear_sum_assignment(alignment[people[:, None], tracklets[None]] * similarity, maximize=True)
        reached = similarity[rows, columns][None] >= ALPHAS[:, None] - _SLACK
        for at, hit in enumerate(reached):
            matches[at, people[rows[hit]], tracklets[columns[hit]]] += 1
    hits = matches.sum(axis=(1, 2))
    agreement = matches / np.maximum(1, lengths[0] + lengths[1] - matches)
    association = (matches * agreement).sum(axis=(1, 2))
    return HotaCounts(hits, len(found.frames) - hits, len(truth.frames) - hits, association)


def without_distractors(found: Boxes, truth: Boxes, distractors: Boxes) -> Boxes:
    """What was found without what is no pedestrian, but so much like one that it counts for nothing, as MOTChallenge
    has it: a box that is matched to such a thing rather than to a person.
    """
    both = Boxes(
        np.concatenate([truth.frames, distractors.frames]),
        np.concatenate([np.zeros(len(truth.frames), np.int64), np.ones(len(distractors.frames), np.int64)]),
        np.concatenate([truth.boxes, distractors.boxes]),
    )
    kept = np.ones(len(found.frames), bool)
    for ours, theirs, similarity in _in_frames(both, found):
        rows, columns = match_boxes(similarity)
        kept[theirs[columns[both.people[ours[rows]] == 1]]] = False
    return Boxes(found.frames[kept], found.people[kept], found.boxes[kept])


def joined(parts: Sequence[Boxes], apart: int) -> Boxes:
    """Several cameras' boxes as one's: people as they are, and each camera's frames `apart` from the one's before."""
    return Boxes(
        np.concatenate([each.frames + apart * at for at, each in enumerate(parts)]),
        np.concatenate([each.people for each in parts]),
        np.concatenate([each.boxes for each in parts]),
    )


def _in_frames(truth: Boxes, found: Boxes) -> Iterator[tuple[Ints, Ints, Floats]]:
    """Of each frame that has boxes of both, which these are, and how much each two overlap."""
    ours, theirs = (np.argsort(each.frames, kind="stable") for each in (truth, found))
    for frame in np.intersect1d(truth.frames, found.frames):
        part = [
            order[slice(*np.searchsorted(each.frames[order], [frame, frame + 1]))]
            for each, order in ((truth, ours), (found, theirs))
        ]
        yield part[0], part[1], overlaps(truth.boxes[part[0]], found.boxes[part[1]])


def _renumbered(boxes: Boxes) -> Boxes:
    """With people numbered from 0 without gaps."""
    return Boxes(boxes.frames, np.unique(boxes.people, return_inverse=True)[1].astype(np.int64), boxes.boxes)


def _count(people: Ints) -> int:
    return len(np.unique(people))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
