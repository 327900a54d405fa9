"""HOTA and IDF1 as the papers' equations say them, box by box, against the quick way; and cases worked by hand.

Compared once with TrackEval itself (github.com/JonathonLuiten/TrackEval) on 60 random cases: no difference in IDTP,
IDFP, IDFN, HOTA, DetA and AssA.
"""

from __future__ import annotations

import itertools
import math
from functools import partial

import numpy as np
import pytest

from sil_cli.footage.track_metrics import (
    ALPHAS,
    Boxes,
    DetectionCounts,
    HotaCounts,
    count_detections,
    count_hota,
    count_identities,
    joined,
    overlaps,
    without_distractors,
)

Line = tuple[int, int, float]


def boxes(lines: list[Line]) -> Boxes:
    """Boxes of 10 × 10 from (frame, whose, left)."""
    return Boxes(
        np.asarray([line[0] for line in lines], np.int64),
        np.asarray([line[1] for line in lines], np.int64),
        np.asarray([[line[2], 0, 10, 10] for line in lines], np.float64).reshape(-1, 4),
    )


def iou(one: np.ndarray, other: np.ndarray) -> float:
    wide = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    high = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(wide, 0) * max(high, 0)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def matchings(rows: int, columns: int) -> list[list[tuple[int, int]]]:
    """All that match as many as can be."""
    if rows <= columns:
        return [list(enumerate(chosen)) for chosen in itertools.permutations(range(columns), rows)]
    return [[(row, at) for at, row in enumerate(chosen)] for chosen in itertools.permutations(range(rows), columns)]


def detections_by_hand(truth: Boxes, found: Boxes) -> DetectionCounts:
    hits = 0
    for frame in set(truth.frames.tolist()):
        ours, theirs = truth.boxes[truth.frames == frame], found.boxes[found.frames == frame]
        hits += max(
            sum(iou(ours[a], theirs[b]) >= 0.5 for a, b in pairs) for pairs in matchings(len(ours), len(theirs))
        )
    return DetectionCounts(hits, len(found.frames) - hits, len(truth.frames) - hits)


def identities_by_hand(truth: Boxes, found: Boxes) -> DetectionCounts:
    """Ristani et al.: of all ways to match people and tracklets one to one, the one with the most true positives."""
    people, tracklets = sorted(set(truth.people.tolist())), sorted(set(found.people.tolist()))
    best = 0
    for pairs in matchings(len(people), len(tracklets)):
        hits = 0
        for a, b in pairs:
            for at in np.flatnonzero(truth.people == people[a]):
                same = np.flatnonzero((found.people == tracklets[b]) & (found.frames == truth.frames[at]))
                hits += any(iou(truth.boxes[at], found.boxes[one]) >= 0.5 for one in same)
        best = max(best, hits)
    return DetectionCounts(best, len(found.frames) - best, len(truth.frames) - best)


def total(worth: dict[tuple[int, int], float], pairs: list[tuple[int, int]]) -> float:
    return sum(worth[pair] for pair in pairs)


def hota_by_hand(truth: Boxes, found: Boxes) -> tuple[float, float, float]:
    """Luiten et al., equations 4 to 8, threshold by threshold and box by box; matching as in TrackEval."""
    alignment: dict[tuple[int, int], float] = {}
    frames = sorted(set(truth.frames.tolist()) & set(found.frames.tolist()))
    for frame in frames:
        ours, theirs = np.flatnonzero(truth.frames == frame), np.flatnonzero(found.frames == frame)
        table = {(a, b): iou(truth.boxes[a], found.boxes[b]) for a in ours for b in theirs}
        for (a, b), value in table.items():
            around = sum(each for (x, y), each in table.items() if x == a or y == b)
            if value:
                pair = int(truth.people[a]), int(found.people[b])
                alignment[pair] = alignment.get(pair, 0.0) + value / around
    for (person, tracklet), value in alignment.items():
        both = (truth.people == person).sum() + (found.people == tracklet).sum() - value
        alignment[person, tracklet] = value / both
    means = []
    for alpha in ALPHAS:
        positives: list[tuple[int, int]] = []
        for frame in frames:
            ours, theirs = np.flatnonzero(truth.frames == frame), np.flatnonzero(found.frames == frame)

            worth = {
                (a, b): alignment.get((int(truth.people[one]), int(found.people[other])), 0.0)
                * iou(truth.boxes[one], found.boxes[other])
                for a, one in enumerate(ours)
                for b, other in enumerate(theirs)
            }
            best = max(matchings(len(ours), len(theirs)), key=partial(total, worth))
            positives += [
                (int(truth.people[ours[a]]), int(found.people[theirs[b]]))
                for a, b in best
                if iou(truth.boxes[ours[a]], found.boxes[theirs[b]]) >= alpha - 1e-12
            ]
        association = 0.0
        for person, tracklet in positives:
            true = positives.count((person, tracklet))
            missed = (truth.people == person).sum() - true
            false = (found.people == tracklet).sum() - true
            association += true / (true + missed + false)
        hits = len(positives)
        detection = hits / max(1, len(truth.frames) + len(found.frames) - hits)
        association /= max(1, hits)
        means.append((math.sqrt(detection * association), detection, association))
    hota, det, ass = (float(np.mean([each[at] for each in means])) for at in range(3))
    return hota, det, ass


def a_case(seed: int) -> tuple[Boxes, Boxes]:
    rng = np.random.default_rng(seed)
    truth: list[Line] = []
    found: list[Line] = []
    for frame in range(5):
        names = rng.permutation(4)
        for person in range(3):
            left = 14.0 * person + float(rng.normal(0, 3))
            if rng.random() < 0.9:
                truth.append((frame, person + 5, left))
            if rng.random() < 0.8:
                name = int(names[person]) if rng.random() < 0.3 else person
                if all(each[:2] != (frame, name) for each in found):
                    found.append((frame, name, left + float(rng.normal(0, 2))))
    return boxes(truth), boxes(found)


@pytest.mark.parametrize("seed", range(12))
def test_all_rates_are_those_of_the_equations(seed: int) -> None:
    truth, found = a_case(seed)
    assert count_detections(truth, found) == detections_by_hand(truth, found)
    assert count_identities(truth, found) == identities_by_hand(truth, found)
    counts = count_hota(truth, found)
    expected = hota_by_hand(truth, found)
    assert (counts.hota, counts.detection_accuracy, counts.association_accuracy) == pytest.approx(expected, abs=1e-12)


def test_a_tracklet_that_is_cut_in_two_halves_counts_by_hand() -> None:
    """One person for ten frames, five frames each of two tracklets: found whole, half of it known as one.

    IDF1: 5 of 10 boxes of each are one identity's, 2 · 5 / 20. A(c) is 5 / (5 + 5 + 0) for every box, so AssA is 0.5.
    """
    truth = boxes([(frame, 1, 0) for frame in range(10)])
    found = boxes([(frame, frame // 5, 0) for frame in range(10)])
    assert count_detections(truth, found) == DetectionCounts(10, 0, 0)
    assert count_identities(truth, found).f1 == 0.5
    counts = count_hota(truth, found)
    assert counts.detection_accuracy == 1.0
    assert counts.association_accuracy == pytest.approx(0.5)
    assert counts.hota == pytest.approx(math.sqrt(0.5))


def test_two_who_swap_halfway_count_by_hand() -> None:
    truth = boxes([(frame, person, 50.0 * person) for frame in range(10) for person in range(2)])
    swapped = [
        (frame, person if frame < 5 else 1 - person, 50.0 * person) for frame in range(10) for person in range(2)
    ]
    counts = count_hota(truth, boxes(swapped))
    assert count_identities(truth, boxes(swapped)).f1 == 0.5
    assert counts.association_accuracy == pytest.approx(
        5 / 15
    )  # 5 together, 5 of the person's and 5 of the tracklet's apart


def test_nothing_found_nothing_there_and_neither() -> None:
    some, none = boxes([(0, 1, 0), (1, 1, 0)]), boxes([])
    for truth, found, counts in ((some, none, (0, 0, 2)), (none, some, (0, 2, 0)), (none, none, (0, 0, 0))):
        assert count_detections(truth, found) == DetectionCounts(*counts)
        assert count_identities(truth, found) == DetectionCounts(*counts)
        hota = count_hota(truth, found)
        assert (hota.found[0], hota.false[0], hota.missed[0]) == counts
        assert hota.hota == 0.0
    assert math.isnan(count_detections(none, none).precision)
    assert math.isnan(count_detections(none, none).recall)
    assert math.isnan(count_identities(none, none).f1)


def test_counts_of_cameras_add_up() -> None:
    first, second = a_case(1), a_case(2)
    total = count_hota(*first) + count_hota(*second) + HotaCounts()
    hits = total.found
    parts = [count_hota(*each) for each in (first, second)]
    assert total.association_accuracies == pytest.approx(
        sum(each.association_accuracies * each.found for each in parts) / np.maximum(hits, 1)
    )
    together = joined([each[0] for each in (first, second)], 100)
    assert together.frames.max() >= 100
    shifted = Boxes(second[0].frames + 100, second[0].people, second[0].boxes)
    assert np.array_equal(together.boxes, np.concatenate([first[0].boxes, shifted.boxes]))


def test_one_group_over_two_cameras_is_one_person() -> None:
    """Known by one name on both cameras: all right. By two names: the larger half is right."""
    cameras = [boxes([(frame, 7, 0) for frame in range(count)]) for count in (6, 4)]
    truth = joined(cameras, 100)
    assert count_identities(truth, truth).f1 == 1.0
    apart = joined([cameras[0], boxes([(frame, 8, 0) for frame in range(4)])], 100)
    assert count_identities(truth, apart).f1 == pytest.approx(0.6)


def test_a_group_that_is_twice_in_a_frame_counts_once() -> None:
    truth = boxes([(0, 1, 0)])
    assert count_identities(truth, boxes([(0, 1, 0), (0, 1, 1)])) == DetectionCounts(1, 1, 0)


def test_what_is_matched_to_a_picture_of_a_person_counts_neither_way() -> None:
    truth, distractors = boxes([(0, 1, 0)]), boxes([(0, 9, 40), (1, 9, 40)])
    found = boxes([(0, 1, 0), (0, 2, 41), (1, 2, 41), (1, 3, 80)])
    kept = without_distractors(found, truth, distractors)
    assert kept.people.tolist() == [1, 3]


def test_overlap_of_boxes_without_a_size_is_none() -> None:
    assert overlaps(np.zeros((2, 4)), np.zeros((1, 4))).tolist() == [[0.0], [0.0]]
