"""How many entries of other people look as alike by chance, on people whose truth is known."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from pydantic import ValidationError

from sil_cli.evaluation.calibration import Chance, ChanceTail
from sil_cli.evaluation.chance import EXPECTED, LEAST, Reference, check_chance, learn_chance
from sil_cli.evaluation.pairs import EmbeddingSet

NEVER = np.nan


@dataclass(frozen=True)
class World:
    """Embeddings of people by cameras."""

    vectors: np.ndarray
    people: np.ndarray
    cameras: np.ndarray

    def without(self, person: int) -> World:
        kept = self.people != person
        return World(self.vectors[kept], self.people[kept], self.cameras[kept])

    def learn(self, instants: np.ndarray | None = None) -> Chance | None:
        times = np.full(len(self.vectors), NEVER) if instants is None else instants
        reference = Reference(self.vectors, self.cameras)
        return learn_chance(reference, times, fingerprint="model", entries=len(self.vectors))


def draw_world(
    seed: int, people: int, images: int, *, noise: float = 0.8, cameras: int = 4, shift: float = 0.5
) -> World:
    """People are random directions; each camera adds one of its own, and each image noise."""
    rng = np.random.default_rng(seed)
    dimension = 48
    who = np.repeat(np.arange(people), images)
    by = rng.integers(cameras, size=len(who))
    centres, offsets = rng.standard_normal((people, dimension)), shift * rng.standard_normal((cameras, dimension))
    rows = centres[who] + offsets[by] + noise * rng.standard_normal((len(who), dimension))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return World(rows.astype(np.float32), who, np.array([f"c{number}" for number in by]))


def false_matches(world: World, chance: Chance, most: float, queries: int = 200) -> float:
    """How many entries of others come to at most so many expected, a query; its own person is not in the gallery."""
    count = 0
    for query in np.random.default_rng(3).permutation(len(world.vectors))[:queries]:
        rest = world.without(world.people[query])
        unit = world.vectors[query][None]
        (z,) = Reference(rest.vectors, rest.cameras).measure(
            unit, [(unit @ rest.vectors.T)[0]], [rest.cameras.tolist()]
        )
        count += int((len(rest.vectors) * chance.tail.above(z) <= most).sum())
    return count / queries


@pytest.mark.parametrize(
    ("people", "images", "noise"),
    [
        (400, 1, 0.8),  # each person once: every pair is of two people
        (100, 8, 0.8),
        pytest.param(100, 8, 1.4, marks=pytest.mark.thorough),  # a poor model: people hardly stand out
        pytest.param(60, 16, 0.5, marks=pytest.mark.thorough),  # few people, many images of each, far apart
    ],
)
def test_as_many_false_matches_come_up_as_are_expected(people, images, noise) -> None:
    world = draw_world(1, people, images, noise=noise)
    chance = world.learn()
    assert chance is not None
    assert chance.pairs_from == "cameras"
    assert 0.4 <= false_matches(world, chance, 1.0) <= 2.0
    assert 4.0 <= false_matches(world, chance, 10.0) <= 20.0


def test_the_mates_of_people_are_found_without_labels_and_left_out() -> None:
    chance = draw_world(2, 100, 8, noise=0.4).learn()
    assert chance is not None
    assert 6.0 <= chance.mates <= 8.0  # seven others of each
    lonely = draw_world(2, 800, 1).learn()
    assert lonely is not None
    assert lonely.mates < 1.0


def test_scores_are_measured_by_median_and_quartile_of_each_camera() -> None:
    world = draw_world(3, 80, 5)
    reference = Reference(world.vectors, world.cameras)
    queries = world.vectors[:3]
    measured = reference.measure(queries, [np.array([0.1, 0.7])] * 3, [["c1", "c3"]] * 3)
    for query, found in zip(queries, measured, strict=True):
        for score, camera, z in zip((0.1, 0.7), ("c1", "c3"), found, strict=True):
            scores = sorted(float(query @ row) for row in world.vectors[world.cameras == camera])
            middle, upper = np.quantile(scores, 0.5), np.quantile(scores, 0.75)
            assert z == pytest.approx((score - middle) / (upper - middle), rel=1e-4)


def test_cameras_of_few_entries_are_measured_by_all_of_them() -> None:
    world = draw_world(4, 120, 3, cameras=2)
    lone = np.array(["rare" if number < 5 else camera for number, camera in enumerate(world.cameras)])
    (found,) = Reference(world.vectors, lone).measure(world.vectors[:1], [np.array([0.3, 0.3])], [["rare", "unheard"]])
    scores = world.vectors @ world.vectors[0]
    middle, upper = np.quantile(scores, (0.5, 0.75))
    assert found == pytest.approx([(0.3 - middle) / (upper - middle)] * 2, rel=1e-4)


def test_without_cameras_times_tell_visits_apart_and_without_either_all_pairs_count() -> None:
    world = draw_world(5, 120, 4)
    unknown = World(world.vectors, world.people, np.full(len(world.cameras), ""))
    by_times = unknown.learn(np.arange(len(world.vectors)) * 60.0)
    assert by_times is not None
    assert by_times.pairs_from == "times"
    everything = unknown.learn()
    assert everything is not None
    assert everything.pairs_from == "all"
    assert everything.pairs == 480 * 479
    one = World(world.vectors, world.people, np.full(len(world.cameras), "c1")).learn()
    assert one is not None
    assert one.pairs_from == "all"


@pytest.mark.parametrize(
    "vectors",
    [
        draw_world(6, LEAST - 1, 1).vectors,
        np.tile(np.eye(1, 48, dtype=np.float32), (600, 1)),  # one direction
        np.tile(draw_world(6, 2, 1).vectors, (300, 1)),  # two images, again and again
    ],
    ids=["few", "one direction", "copies"],
)
def test_nothing_is_learnt_where_nothing_can_be(vectors) -> None:
    cameras = np.array([f"c{number % 3}" for number in range(len(vectors))])
    assert World(vectors, np.arange(len(vectors)), cameras).learn() is None


def test_one_person_in_all_entries_is_careful_and_not_bold() -> None:
    world = draw_world(7, 1, 500, noise=0.8)
    chance = world.learn()
    if chance is not None:  # its "others" are all that person, so nobody is a match of anybody
        unit = world.vectors[:1]
        (z,) = Reference(world.vectors, world.cameras).measure(
            unit, [(unit @ world.vectors.T)[0][1:]], [world.cameras[1:].tolist()]
        )
        assert (500 * chance.tail.above(z) <= 0.1).mean() < 0.05


def test_a_query_that_scores_alike_against_all_is_not_told() -> None:
    flat = np.tile(np.eye(1, 48, dtype=np.float32), (100, 1))
    (found,) = Reference(flat, np.full(100, "c1")).measure(flat[:1], [np.array([1.0])], [["c1"]])
    assert np.isnan(found).all()


def test_the_same_gallery_teaches_the_same() -> None:
    assert draw_world(8, 150, 4).learn() == draw_world(8, 150, 4).learn()


@pytest.mark.parametrize("bend", [0.0, -0.1])
def test_a_tail_falls_all_the_way_and_its_inverse_is_one(bend) -> None:
    tail = ChanceTail(start=1.5, coefficients=(math.log(0.1), -1.2, bend))
    z = np.linspace(-3, 12, 400)
    chances = tail.above(z)
    assert (np.diff(chances) <= 0).all()
    assert chances[0] == 1.0
    assert tail.above(np.array([0.0, 1.5])) == pytest.approx([0.5, 0.1])
    for chance in (0.05, 1e-3, 1e-9):
        assert tail.above(np.array([tail.z_of(chance)])) == pytest.approx([chance])
    assert tail.z_of(0.9) == 1.5


@pytest.mark.parametrize("wrong", [(0.1, -1.0, 0.0), (-2.0, 0.5, 0.0), (-2.0, -1.0, 0.3), (-2.0, math.nan, 0.0)])
def test_a_strangers_tail_that_rises_is_refused(wrong) -> None:
    with pytest.raises(ValidationError):
        ChanceTail(start=1.0, coefficients=wrong)


def crowd(people: int = 110, images: int = 4, *, cameras: bool = True) -> EmbeddingSet:
    """People are directions, their images noise around these; cameras take turns, and one image is junk."""
    rng = np.random.default_rng(8)
    rows = np.repeat(rng.standard_normal((people, 24)), images, axis=0)
    rows += 0.9 * rng.standard_normal(rows.shape)
    return EmbeddingSet(
        rows.astype(np.float32),
        [number // images for number in range(len(rows))],
        [f"c{number % 3}" if cameras else None for number in range(len(rows))],
        junk=[number == 7 for number in range(len(rows))],
        keys=[str(number) for number in range(len(rows))],
    )


@pytest.mark.parametrize("cameras", [True, False])
def test_false_matches_are_counted_as_a_slow_search_counts_them(cameras):
    people = crowd(cameras=cameras)
    check = check_chance(people, people)
    rows = people.embeddings / np.linalg.norm(people.embeddings, axis=1, keepdims=True)
    used = np.flatnonzero(~people.junk_flags())
    who, seen_by = np.array(people.identities), np.array(["" if each is None else each for each in people.cameras])
    chance = learn_chance(
        Reference(rows[used], seen_by[used]), np.full(len(used), np.nan), fingerprint="", entries=len(used)
    )
    drawn = np.random.default_rng(0)
    drawn.permutation(used)
    false, missed = [], []
    for query in drawn.permutation(used)[:400]:
        others = used[who[used] != who[query]]
        against = Reference(rows[others], seen_by[others])
        mine = used[(who[used] == who[query]) & ((seen_by[used] != seen_by[query]) | (not cameras)) & (used != query)]
        expected = []
        for some in (others, mine):
            (z,) = against.measure(rows[query][None], [rows[some] @ rows[query]], [seen_by[some].tolist()])
            expected.append(len(others) * chance.tail.above(z))
        false.append([(expected[0] <= most).sum() for most in EXPECTED])
        missed.append([(expected[1] <= most).sum() == 0 for most in EXPECTED])
    assert check.queries == 400
    assert check.pairs_from == ("cameras" if cameras else "all")
    assert [each.found for each in check.at] == pytest.approx(np.mean(false, axis=0), abs=0.011)  # rounding at a bar
    assert [each.fpir for each in check.at] == pytest.approx((np.array(false) > 0).mean(axis=0), abs=0.006)
    assert [each.fnir for each in check.at] == pytest.approx(np.mean(missed, axis=0), abs=0.006)
    assert all(each.interval.low <= each.found <= each.interval.high for each in check.at)


def test_false_matches_are_not_told_where_nothing_can_be_learnt():
    few = crowd(people=20)
    assert check_chance(few, few) is None
    alike = EmbeddingSet(np.ones((400, 4)), [str(number) for number in range(400)])
    assert check_chance(alike, alike) is None
    nobody = EmbeddingSet(few.embeddings, few.identities, junk=[True] * len(few))
    assert check_chance(few, nobody) is None
