from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sil_cli.data.readers.common import (
    Sighting,
    check_partition,
    check_root,
    domain_name,
    draw,
    query_positions,
    to_records,
)
from sil_cli.errors import DataError, UsageError

seen = st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from(["1", "2", None])), max_size=40)


def sightings_of(pairs) -> list[Sighting]:
    return [Sighting(f"{n}.jpg", identity, camera) for n, (identity, camera) in enumerate(pairs)]


@given(seen)
def test_every_query_can_find_somebody(pairs):
    sightings = sightings_of(pairs)
    queries = query_positions(enumerate(sightings))
    for identity, count in Counter(identity for identity, _ in pairs).items():
        mine = [n for n, pair in enumerate(pairs) if pair[0] == identity]
        cameras = {pairs[n][1] for n in mine}
        in_gallery = {pairs[n][1] for n in mine if n not in queries}
        if count == 1:
            assert not queries & set(mine)
            continue
        assert queries & set(mine)
        for n in queries & set(mine):
            assert n == next(m for m in mine if pairs[m][1] == pairs[n][1])  # the first of its camera
        if len(cameras) > 1:  # then a query finds itself in another camera
            assert all(in_gallery - {pairs[n][1]} for n in queries & set(mine))


def test_one_image_a_camera_gives_one_query():
    assert query_positions(enumerate(sightings_of([("a", "2"), ("a", "1"), ("b", "1")]))) == {0}


@given(seen, st.integers(0, 1000))
def test_half_of_the_identities_are_tested(pairs, seed):
    records = to_records(sightings_of(pairs), domain="d", split="half", seed=seed)
    train = {record.identity for record in records if record.split == "train"}
    test = {record.identity for record in records if record.split != "train"}
    assert not train & test
    assert len(test) == len({identity for identity, _ in pairs}) // 2
    assert [record.path for record in records] == [f"{n}.jpg" for n in range(len(pairs))]


def test_the_seed_draws_the_halves():
    sightings = sightings_of([(f"{n}", None) for n in range(40)])
    drawn = {
        seed: tuple(record.split for record in to_records(sightings, domain="d", split="half", seed=seed))
        for seed in (0, 1)
    }
    assert drawn[0] != drawn[1]
    assert drawn[0] == tuple(r.split for r in to_records(sightings, domain="d", split="half", seed=0))


def test_a_known_split_is_kept_and_test_is_divided():
    sightings = [
        Sighting("1", "a", "1", "query"),
        Sighting("2", "a", "1", "test"),
        Sighting("3", "a", "1", "test"),
        Sighting("4", "a", "1"),
    ]
    splits = [record.split for record in to_records(sightings, domain="d", split="train", seed=0)]
    assert splits == ["query", "query", "gallery", "train"]


@pytest.mark.parametrize(
    ("folder", "expected"),
    [("My Cameras (2)", "my-cameras-2"), ("Données", "données"), ("___", "dataset"), ("v1.0", "v1.0")],
)
def test_a_domain_is_named_after_its_folder(tmp_path, folder, expected):
    assert domain_name(tmp_path / folder, None) == expected
    assert domain_name(tmp_path / folder, "Mine") == "Mine"


def test_root_must_be_a_folder(tmp_path):
    (tmp_path / "x.zip").touch()
    (tmp_path / "x.txt").touch()
    for name, message in (("x.zip", "Unpack it"), ("x.txt", "is a file"), ("y", "There is no folder")):
        with pytest.raises(DataError, match=message):
            check_root(tmp_path / name)


@given(st.sets(st.text(max_size=3), max_size=30), st.integers(1, 12), st.integers(0, 3), st.data())
def test_drawing_is_fair_and_does_not_depend_on_the_order_given(names, partition, seed, data):
    count = data.draw(st.integers(0, len(names)))
    drawn = draw(names, count, partition=partition, seed=seed)
    assert len(set(drawn)) == len(drawn) == count
    assert set(drawn) <= names
    assert drawn == draw(sorted(names, reverse=True), count, partition=partition, seed=seed)
    assert drawn == draw(names, len(names), partition=partition, seed=seed)[:count]


def test_every_name_is_drawn_about_as_often():
    names = [f"{number:03d}" for number in range(40)]
    counts = Counter(name for n in range(1, 401) for name in draw(names, 20, partition=n, seed=0))
    assert set(counts) == set(names)
    assert 150 < min(counts.values()) <= max(counts.values()) < 250


def test_partitions_are_counted_from_1():
    check_partition(1)
    check_partition(10, 10)
    for partition, known in ((0, None), (-1, 10), (11, 10)):
        with pytest.raises(UsageError, match=f"There is no partition {partition}"):
            check_partition(partition, known)
