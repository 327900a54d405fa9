"""Grouping by links, held against slow and obvious versions of itself."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from clusters import clustered
from scipy import sparse

from sil_cli.people.constraints import Sighting, as_matrix, find_apart
from sil_cli.people.grouping import _Groups, confidences, group_entries
from sil_cli.people.links import (
    MOST_NOTHING,
    LikenessByThresholds,
    Links,
    find_links,
    learn_likeness,
    no_links,
    without_camera_means,
)
from sil_cli.people.metrics import score_grouping
from sil_cli.runtime import SilentReporter

QUIET = SilentReporter()


def random_links(count, seed, density=0.3, most=40):
    rng = np.random.default_rng(seed)
    pairs = [pair for pair in itertools.combinations(range(count), 2) if rng.random() < density]
    first, second = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    weights = rng.exponential(1.0, len(pairs)) + 1e-3
    degree = np.bincount(first, minlength=count) + np.bincount(second, minlength=count)
    return Links(count, first, second, weights, degree >= most, most, MOST_NOTHING)


def dense(links):
    weights = np.zeros((links.count, links.count))
    weights[links.first, links.second] = weights[links.second, links.first] = links.weights
    return weights


def no_apart(count, pairs=()):
    return as_matrix(count, [np.array(pairs, dtype=np.int64).reshape(-1, 2)])


def joined_slowly(weights, apart, seeds, threshold):
    """Average linkage by looking at all pairs of groups, again and again."""
    names = [("seed", seed) if seed >= 0 else ("entry", row) for row, seed in enumerate(seeds)]
    groups = [[row for row, name in enumerate(names) if name == each] for each in dict.fromkeys(names)]
    seeded = [seeds[group[0]] >= 0 for group in groups]
    while True:
        best, found = threshold, None
        for one, other in itertools.combinations(range(len(groups)), 2):
            forbidden = (seeded[one] and seeded[other]) or apart[np.ix_(groups[one], groups[other])].any()
            mean = weights[np.ix_(groups[one], groups[other])].mean()
            if mean > best and not forbidden:
                best, found = mean, (one, other)
        if found is None:
            return {frozenset(group) for group in groups}
        one, other = found
        groups[one] += groups.pop(other)
        seeded[one] |= seeded.pop(other)


def as_sets(groups):
    return {frozenset(np.flatnonzero(groups == group).tolist()) for group in np.unique(groups)}


@pytest.mark.parametrize("seed", range(6))
def test_groups_are_joined_as_by_average_linkage_over_all_pairs(seed) -> None:
    count, rng = 28, np.random.default_rng(seed + 100)
    links = random_links(count, seed)
    pairs = [pair for pair in itertools.combinations(range(count), 2) if rng.random() < 0.08]
    seeds = np.full(count, -1)
    seeds[[3, 9, 20]] = 0
    seeds[[4, 15]] = 1
    pairs = [pair for pair in pairs if seeds[pair[0]] < 0 or seeds[pair[0]] != seeds[pair[1]]]
    state = _Groups(links, seeds, no_apart(count, pairs), 0.25)
    for _ in state.join():
        pass
    expected = joined_slowly(dense(links), no_apart(count, pairs).toarray(), seeds.tolist(), 0.25)
    assert as_sets(state.entry_groups()) == expected


def value(weights, groups, threshold):
    return sum(
        weights[one, other] - threshold
        for one, other in itertools.combinations(range(len(groups)), 2)
        if groups[one] == groups[other]
    )


@pytest.mark.parametrize("seed", range(4))
def test_moving_entries_makes_the_sum_larger_and_keeps_to_what_must_be(seed) -> None:
    count, rng = 40, np.random.default_rng(seed)
    links = random_links(count, seed, density=0.2)
    pairs = [pair for pair in itertools.combinations(range(6, count), 2) if rng.random() < 0.1]
    apart, seeds = no_apart(count, pairs), np.full(count, -1)
    seeds[[0, 1]], seeds[[2, 3]] = 0, 1
    state = _Groups(links, seeds, apart, 0.3)
    for _ in state.join():
        pass
    before = value(dense(links), state.entry_groups(), 0.3)
    state.improve()
    groups = state.entry_groups()
    assert value(dense(links), groups, 0.3) >= before - 1e-9
    assert groups[0] == groups[1] != groups[2] == groups[3]
    assert all(groups[one] != groups[other] for one, other in pairs)
    assert (group_entries(links, seeds, apart, QUIET, threshold=0.3).groups == groups).all()


def test_confidence_is_the_share_that_is_expected_to_be_right() -> None:
    links = random_links(12, 3, density=0.9)
    groups = np.array([0, 0, 0, 1, 1, 2, 0, 1, 3, 3, 0, 0])
    weights = dense(links)
    found = confidences(links, groups)
    for row, group in enumerate(groups):
        rest = [other for other in np.flatnonzero(groups == group) if other != row]
        if not rest:
            assert found[row] == 1.0
            continue
        expected = MOST_NOTHING * np.exp(-weights[row, rest])
        shares = np.where(weights[row, rest] > 0, MOST_NOTHING / (MOST_NOTHING + expected), 0.0)
        assert found[row] == pytest.approx(shares.mean())


def test_confidence_is_as_often_right_as_it_says_and_large_groups_are_not_the_surest() -> None:
    """Of people much alike, many are put together wrongly, in groups larger than a person has entries."""
    vectors, who, cameras = clustered(1200, 48, people=120, cameras=4, noise=0.75)
    likeness = learn_likeness(vectors, cameras.astype(str), np.full(1200, np.nan), None, QUIET)
    assert likeness is not None
    grouping = group_entries(find_links(likeness, QUIET), np.full(1200, -1), no_apart(1200), QUIET)
    together = (grouping.groups[:, None] == grouping.groups[None]) & ~np.eye(1200, dtype=bool)
    some = together.any(axis=1)
    right = ((who[:, None] == who[None]) & together).sum(axis=1)[some] / together.sum(axis=1)[some]
    sure = grouping.confidence[some]
    for low, high in itertools.pairwise((0.0, 0.6, 0.8, 0.9, 1.01)):
        here = (sure >= low) & (sure < high)
        assert right[here].mean() == pytest.approx(sure[here].mean(), abs=0.07)
    assert np.corrcoef(sure, right)[0, 1] > 0.5  # 0.18 where the size of a group made it surer


def test_entries_of_whom_nothing_is_known_stay_alone() -> None:
    for count in (0, 1, 2):
        grouping = group_entries(no_links(count), np.full(count, -1), no_apart(count), QUIET)
        assert grouping.groups.tolist() == list(range(count))
        assert grouping.confidence.tolist() == [1.0] * count


def test_generated_people_are_found_again_and_a_link_weighs_what_chance_says() -> None:
    vectors, who, cameras = clustered(700, 64, people=60, cameras=3, noise=0.6)
    names = np.array([f"c{camera}" for camera in cameras])
    likeness = learn_likeness(vectors, names, np.full(700, np.nan), None, QUIET)
    assert likeness is not None
    links = find_links(likeness, QUIET)
    assert (links.first < links.second).all()
    assert len(np.unique(links.first * 700 + links.second)) == len(links.first)
    scores = np.einsum("ij,ij->i", likeness.vectors[links.first], likeness.vectors[links.second]).astype(float)
    sides = likeness.chances(links.first, links.second, scores), likeness.chances(links.second, links.first, scores)
    expected = 700 * np.sqrt(sides[0] * sides[1])
    uncapped = links.weights < 19
    assert links.expected(links.weights)[uncapped] == pytest.approx(expected[uncapped], rel=1e-4)
    found = group_entries(links, np.full(700, -1), no_apart(700), QUIET)
    scores = score_grouping(found.groups.tolist(), who.tolist())
    assert scores is not None
    assert scores.bcubed_f > 0.9


def test_thresholds_stand_in_for_chance_in_a_small_gallery() -> None:
    vectors = np.eye(4, dtype=np.float32)
    likeness = learn_likeness(
        vectors, np.array(["", "", "", ""]), np.full(4, np.nan), {"1e-2": 0.5, "1e-3": 0.7}, QUIET
    )
    assert isinstance(likeness, LikenessByThresholds)
    rows = np.zeros(4, dtype=np.int64)
    assert likeness.chances(rows, rows, np.array([0.5, 0.6, 0.7, -1.0])) == pytest.approx([1e-2, 10**-2.5, 1e-3, 1.0])
    assert learn_likeness(vectors, np.array([""] * 4), np.full(4, np.nan), {"1e-2": 0.5}, QUIET) is None
    assert learn_likeness(vectors[:0], np.array([], dtype=str), np.empty(0), None, QUIET) is None


def test_a_camera_of_one_image_again_and_again_keeps_it() -> None:
    vectors = np.tile(np.array([[0.6, 0.8]], dtype=np.float32), (30, 1))
    assert without_camera_means(vectors, np.array(["c"] * 30)) == pytest.approx(vectors)


def sightings(count, seed, spans=False):
    rng = np.random.default_rng(seed)
    made = []
    for row in range(count):
        start = float(rng.integers(0, 30)) if rng.random() < 0.8 else np.nan
        camera = ("n", f"c{rng.integers(3)}") if rng.random() < 0.9 else None
        end = start + (float(rng.integers(0, 4)) if spans else 0.0)
        made.append(Sighting(("s", f"{row}.jpg"), None, camera, start, end))
    return made


@pytest.mark.parametrize("spans", [False, True])
def test_entries_taken_at_once_are_kept_apart(spans) -> None:
    seen = sightings(60, 1, spans)
    found = find_apart(seen, no_links(60), overlap=("none",), at_once=1.0)
    expected = set()
    for one, other in itertools.combinations(range(60), 2):
        a, b = sorted((seen[one], seen[other]), key=lambda each: each.start)
        if a.camera is None or b.camera is None or np.isnan(a.start) or np.isnan(b.start):
            continue
        same = a.camera == b.camera and (a.start == b.start or b.start < a.end)
        if same or (a.camera != b.camera and b.start <= a.end + 1.0):
            expected.add((one, other))
    assert {tuple(sorted(pair)) for pair in found.pairs.tolist()} == expected
    assert not found.doubted


def test_two_boxes_of_one_frame_are_two_people_unless_they_cover_each_other() -> None:
    def at(box, path="f.jpg"):
        return Sighting(("s", path), box, ("", "c1"), 5.0, 5.0)

    seen = [at((0, 0, 10, 20)), at((1, 0, 10, 20)), at((50, 0, 10, 20)), at((50, 0, 10, 20), "g.jpg")]
    found = find_apart(seen, no_links(4), overlap=("auto",), at_once=1.0)
    assert found.pairs.tolist() == [[0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]  # g.jpg was taken in the same moment


def sure_links(count, pairs):
    first, second = np.array(pairs, dtype=np.int64).T
    return Links(count, first, second, np.full(len(pairs), 15.0), np.zeros(count, dtype=bool), 40, MOST_NOTHING)


def test_cameras_that_overlap_show_it_and_are_not_believed() -> None:
    """Ten people, each seen by both cameras at the same time; and a third camera that sees others meanwhile."""
    seen = [Sighting(("s", f"{n}{c}"), None, ("", f"c{c}"), 100.0 * n, 100.0 * n) for n in range(10) for c in (1, 2, 3)]
    both = [(3 * n, 3 * n + 1) for n in range(10)]
    found = find_apart(seen, sure_links(30, both), overlap=("auto",), at_once=1.0)
    assert [cameras for cameras, _ in found.doubted] == ["c1 and c2"]
    assert {tuple(pair) for pair in found.pairs.tolist()} == {
        pair for n in range(10) for pair in ((3 * n, 3 * n + 2), (3 * n + 1, 3 * n + 2))
    }
    told = find_apart(seen, no_links(30), overlap=("c2+c1",), at_once=1.0)
    assert [cameras for cameras, _ in told.doubted] == ["c1 and c2"]
    assert len(find_apart(seen, sure_links(30, both), overlap=("none",), at_once=1.0).pairs) == 30
    assert not len(find_apart(seen, no_links(30), overlap=("all",), at_once=1.0).pairs)


def test_clocks_that_disagree_by_about_the_way_between_two_cameras_are_not_believed() -> None:
    """A minute apart, people walk from one camera to the other in 40 to 50 s; the other's clock is 45 s behind."""
    rng = np.random.default_rng(0)
    way = rng.uniform(-5, 5, 100)
    times = [60.0 * n + late for n in range(100) for late in (0.0, way[n])]
    seen = [Sighting(("s", str(row)), None, ("", f"c{1 + row % 2}"), time, time) for row, time in enumerate(times)]
    walked = [(2 * n, 2 * n + 1) for n in range(100)]
    assert len(find_apart(seen, no_links(200), overlap=("none",), at_once=1.0).pairs) == (np.abs(way) <= 1).sum() > 3
    found = find_apart(seen, sure_links(200, walked), overlap=("auto",), at_once=1.0)
    assert not len(found.pairs)
    assert "they overlap, or their clocks disagree" in found.doubted[0][1]


def test_a_clock_too_coarse_for_frames_is_not_believed() -> None:
    seen = [Sighting(("s", str(n)), None, ("", "c1"), float(n // 5), float(n // 5)) for n in range(20)]
    same = [pair for start in range(0, 20, 5) for pair in itertools.combinations(range(start, start + 5), 2)]
    found = find_apart(seen, sure_links(20, same), overlap=("auto",), at_once=1.0)
    assert not len(found.pairs)
    assert "too coarse" in found.doubted[0][1]


def test_scores_are_those_of_the_definitions() -> None:
    rng = np.random.default_rng(4)
    for count in (1, 2, 30):
        groups, people = rng.integers(0, 6, count).tolist(), rng.integers(0, 5, count).tolist()
        found = score_grouping(groups, people)
        assert found is not None
        right = [[groups[i] == groups[j] and people[i] == people[j] for j in range(count)] for i in range(count)]
        precision = np.mean([sum(right[i]) / groups.count(groups[i]) for i in range(count)])
        recall = np.mean([sum(right[i]) / people.count(people[i]) for i in range(count)])
        assert found.bcubed_precision == pytest.approx(precision)
        assert found.bcubed_recall == pytest.approx(recall)
        assert found.bcubed_f == pytest.approx(2 * precision * recall / (precision + recall))
        pairs = list(itertools.combinations(range(count), 2))
        both = sum(right[i][j] for i, j in pairs)
        together, one = (sum(of[i] == of[j] for i, j in pairs) for of in (groups, people))
        assert found.pairwise_precision == pytest.approx(both / together if together else 0)
        assert found.pairwise_recall == pytest.approx(both / one if one else 0)
    assert score_grouping([], []) is None
    assert sparse.issparse(no_apart(3))
