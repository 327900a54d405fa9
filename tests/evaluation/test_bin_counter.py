"""Counting in bins against NumPy's bincount."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sil_cli.evaluation import open_set
from sil_cli.evaluation.open_set import BinCounter


@pytest.mark.parametrize("held", [1, 7, 1000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_counts_are_those_of_bincount_whatever_is_held_and_from_any_thread(monkeypatch, held, dtype):
    monkeypatch.setattr(open_set, "_HELD", held)
    rng = np.random.default_rng(0)
    parts = [(rng.random(count) * 12).astype(dtype) for count in (0, 1, 5, 40, 333)]
    counter = BinCounter(12)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(counter.add, parts))
    expected = np.bincount(np.concatenate(parts).astype(np.int64), minlength=12)
    assert counter.counts().tolist() == expected.tolist()
    counter.add(np.array([11, 0], dtype=dtype))
    assert counter.counts().sum() == expected.sum() + 2


def test_nothing_added_is_nothing_counted():
    assert BinCounter(3).counts().tolist() == [0, 0, 0]


@pytest.mark.parametrize("number", [-1, 3])
def test_numbers_outside_the_bins_are_refused(number):
    counter = BinCounter(3)
    counter.add(np.array([0, number]))
    with pytest.raises(ValueError, match=r"1 numbers lie outside 0\.\.2"):
        counter.counts()
