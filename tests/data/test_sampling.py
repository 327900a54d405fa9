from __future__ import annotations

from collections import Counter
from itertools import combinations, groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sil_cli.data.sampling import IdentitySampler
from sil_cli.errors import DataError

people = st.lists(
    st.tuples(st.sampled_from("abcdefghijklm"), st.sampled_from(["1", "2", "3", None])), min_size=1, max_size=60
)


def sampler_of(images, **options) -> IdentitySampler:
    return IdentitySampler([image[0] for image in images], [image[1] for image in images], **options)


@settings(max_examples=150, deadline=None)
@given(people, st.integers(1, 8), st.integers(1, 6), st.integers(0, 2**40), st.integers(0, 10_000))
def test_every_batch_is_p_times_k(images, per_batch, instances, seed, iteration):
    sampler = sampler_of(images, identities_per_batch=per_batch, instances=instances, seed=seed)
    batch = sampler.batch(iteration)
    known = {identity for identity, _ in images}
    assert sampler.identities_per_batch == min(per_batch, len(known))
    assert batch.dtype == np.int64
    assert batch.shape == (sampler.identities_per_batch * instances,)
    drawn = []
    for group in batch.reshape(-1, instances):
        (identity,) = {images[image][0] for image in group}  # never a lone index, never a mixed group
        drawn.append(identity)
        own = [image for image in range(len(images)) if images[image][0] == identity]
        cameras = {images[image][1] for image in own}
        assert len(set(group)) == min(instances, len(own))  # repeats only when there are too few
        assert len({images[image][1] for image in group}) == min(instances, len(cameras))
        uses = Counter(group).values()
        assert max(uses) <= -(-instances // len(own))
    assert len(set(drawn)) == len(drawn)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 100), st.integers(1, 50))
def test_no_identity_is_starved(count, per_batch, seed, rounds):
    names = [f"{number:03d}" for number in range(count)]
    sampler = IdentitySampler(names, [None] * count, identities_per_batch=per_batch, instances=1, seed=seed)
    used = np.zeros(count, dtype=int)
    for iteration in range(rounds * sampler.batches_per_round):
        used[sampler.batch(iteration)] += 1
        if (iteration + 1) % sampler.batches_per_round == 0:
            assert used.max() - used.min() <= 1
        assert used.max() - used.min() <= 2


def test_a_batch_depends_on_the_seed_and_its_number_alone():
    images = [(str(number // 5), str(number % 3)) for number in range(100)]
    options = {"identities_per_batch": 6, "instances": 4}
    walked = sampler_of(images, **options, seed=3)
    batches = [walked.batch(iteration) for iteration in range(20)]
    fresh = sampler_of(images, **options, seed=3)
    np.testing.assert_array_equal(fresh.batch(17), batches[17])  # as after a resume
    np.testing.assert_array_equal(walked.batch(4), batches[4])
    assert not np.array_equal(sampler_of(images, **options, seed=4).batch(0), batches[0])
    assert len({tuple(batch) for batch in batches}) == 20


def test_cameras_come_in_turn_before_any_comes_twice():
    images = [("a", "1")] * 10 + [("a", "2"), ("a", "3")]
    sampler = sampler_of(images, identities_per_batch=1, instances=5, seed=0)
    for iteration in range(50):
        cameras = Counter(images[image][1] for image in sampler.batch(iteration))
        assert cameras == {"1": 3, "2": 1, "3": 1}


def test_every_image_is_drawn_in_the_long_run():
    images = [("a", "1")] * 8 + [("b", None)] * 3
    sampler = sampler_of(images, identities_per_batch=2, instances=2, seed=0)
    drawn = Counter(int(image) for iteration in range(400) for image in sampler.batch(iteration))
    assert set(drawn) == set(range(11))
    assert all(60 < drawn[image] < 140 for image in range(8))  # 400 · 2 / 8 = 100 expected


def test_the_order_of_identities_differs_between_rounds():
    names = [f"{number:02d}" for number in range(32)]
    sampler = IdentitySampler(names, [None] * 32, identities_per_batch=32, instances=1, seed=0)
    assert sorted(sampler.batch(0)) == sorted(sampler.batch(1)) == list(range(32))
    assert not np.array_equal(sampler.batch(0), sampler.batch(1))


def test_wrong_arguments_are_refused():
    with pytest.raises(DataError, match="no training image"):
        IdentitySampler([], [], identities_per_batch=2, instances=2, seed=0)
    for options in (
        {"identities_per_batch": 0, "instances": 2, "seed": 0},
        {"identities_per_batch": 2, "instances": 0, "seed": 0},
        {"identities_per_batch": 2, "instances": 2, "seed": -1},
    ):
        with pytest.raises(ValueError, match="at least 1"):
            IdentitySampler(["a"], [None], **options)
    with pytest.raises(ValueError, match="1 identities, but 2 cameras"):
        IdentitySampler(["a"], [None, None], identities_per_batch=1, instances=1, seed=0)
    with pytest.raises(ValueError, match="negative"):
        IdentitySampler(["a"], [None], identities_per_batch=1, instances=1, seed=0).batch(-1)


def as_described(own: list[tuple[int, str]], instances: int, rng: np.random.Generator) -> list[int]:
    """The published code's rule for one identity, in words: `own` are its images with their cameras."""
    first, camera = own[rng.integers(len(own))]
    others = [image for image, seen_by in own if seen_by != camera]
    if not others:
        others = [image for image, _ in own if image != first]
    if not others:
        return [first]
    return [first, *rng.choice(others, instances - 1, replace=len(others) < instances).tolist()]


def a_network(seed: int = 0) -> list[tuple[str, str]]:
    """40 people, each by two to six of six cameras with one to six images, and three people with a single image."""
    rng = np.random.default_rng(seed)
    images = []
    for person in range(40):
        for camera in rng.permutation(6)[: rng.integers(2, 7)]:
            images += [(f"{person:02d}", str(camera))] * int(rng.integers(1, 7))
    return images + [(f"single {number}", "1") for number in range(3)]


def camera_sharing(images: list[tuple[str, str]], groups: list[list[int]]) -> float:
    """The share of pairs of images of one person in a group that are by one camera."""
    cameras = [[images[image][1] for image in group] for group in groups]
    same = [one == other for group in cameras for one, other in combinations(group, 2)]
    return float(np.mean(same))


@settings(max_examples=150, deadline=None)
@given(people, st.integers(1, 8), st.integers(2, 6), st.integers(0, 2**40), st.integers(0, 1000))
def test_one_image_and_others_by_other_cameras(images, per_batch, instances, seed, iteration):
    options = {"identities_per_batch": per_batch, "instances": instances, "seed": seed}
    sampler = sampler_of(images, **options, camera_rule="others")
    batch = sampler.batch(iteration)
    plain = sampler_of(images, **options).batch(iteration)
    for group, by_default in zip(batch.reshape(-1, instances), plain.reshape(-1, instances), strict=True):
        identity = images[by_default[0]][0]  # which people come when is the same
        own = [image for image in range(len(images)) if images[image][0] == identity]
        first, *more = group.tolist()
        assert set(group.tolist()) <= set(own)
        others = [image for image in own if images[image][1] != images[first][1]]
        others = others or [image for image in own if image != first] or [first]
        assert set(more) <= set(others)
        if len(others) >= instances:
            assert len(set(more)) == instances - 1


def test_others_are_drawn_as_the_published_code_draws_them():
    images = [image for image in a_network() if not image[0].startswith("single")]
    options = {"identities_per_batch": 40, "instances": 4, "seed": 5}
    sampler = sampler_of(images, **options, camera_rule="others")
    groups = [group.tolist() for number in range(300) for group in sampler.batch(number).reshape(-1, 4)]
    own: dict[str, list[tuple[int, str]]] = {}
    for position, (identity, camera) in enumerate(images):
        own.setdefault(identity, []).append((position, camera))
    rng = np.random.default_rng(1)
    described = [as_described(each, 4, rng) for _ in range(300) for each in own.values()]
    shares = [camera_sharing(images, each) for each in (groups, described)]
    assert abs(shares[0] - shares[1]) < 0.008  # 72,000 pairs each, in groups of six
    spread = sampler_of(images, **options)
    evenly = [group.tolist() for number in range(100) for group in spread.batch(number).reshape(-1, 4)]
    assert camera_sharing(images, evenly) < shares[0] / 1.5  # an even spread over cameras shares far fewer
    repeated = [np.mean([len(set(group)) < 4 for group in each]) for each in (groups, described)]
    assert abs(repeated[0] - repeated[1]) < 0.02
    for image in range(len(images)):  # every image comes as often
        counts = [sum(group.count(image) for group in each) for each in (groups, described)]
        assert abs(counts[0] - counts[1]) < 7 * sum(counts) ** 0.5 + 12


@pytest.mark.parametrize("rule", ["spread", "others"])
def test_a_single_image_comes_once_and_shifts_those_behind_it(rule):
    images = a_network()
    options = {"identities_per_batch": 8, "instances": 4, "seed": 2, "camera_rule": rule}
    sampler = sampler_of(images, **options, single_images="once")
    assert sampler.batches_per_round == (40 * 4 + 3) // 32
    for number in range(3):
        first = number * sampler.batches_per_round
        batches = [sampler.batch(first + step) for step in range(sampler.batches_per_round)]
        assert {len(batch) for batch in batches} == {32}
        stream = [images[image][0] for batch in batches for image in batch]
        runs = [(name, len(list(group))) for name, group in groupby(stream)]
        assert len({name for name, _ in runs}) == len(runs)  # each person once in a pass
        assert {count for name, count in runs[:-1]} <= {1, 4}
        assert all((count == 1) == name.startswith("single") for name, count in runs[:-1])
    again = sampler_of(images, **options, single_images="once")
    np.testing.assert_array_equal(again.batch(first), batches[0])  # of its number alone
    repeating = sampler_of(images, **options)
    singles = [group for number in range(20) for group in repeating.batch(number).reshape(-1, 4)]
    assert any(images[group[0]][0].startswith("single") and len(set(group)) == 1 for group in singles)


def test_a_stream_that_is_shorter_than_a_batch_comes_again():
    sampler = sampler_of([("a", "1"), ("b", "1")], identities_per_batch=2, instances=4, seed=0, single_images="once")
    assert sampler.batches_per_round == 1
    assert sorted(sampler.batch(3).tolist()) == [0] * 4 + [1] * 4
