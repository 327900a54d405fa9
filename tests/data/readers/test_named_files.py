from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sil_cli.data.readers.named_files import check_partition, draw
from sil_cli.errors import UsageError


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
