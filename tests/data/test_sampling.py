from __future__ import annotations

from collections import Counter

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
