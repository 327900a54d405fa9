from __future__ import annotations

import numpy as np
import pytest

from sil_cli.gallery.local.segments import best_products


@pytest.mark.parametrize(("queries", "rows", "k"), [(3, 50, 7), (100, 999, 20), (65, 2000, 1), (2, 5, 5), (1, 300, 64)])
def test_the_best_are_those_of_a_sorted_matrix(monkeypatch, queries, rows, k):
    monkeypatch.setattr("sil_cli.gallery.local.segments._BLOCK", 64)  # many blocks
    rng = np.random.default_rng(rows)
    asked, held = (rng.integers(-9, 10, size=(one, 8)).astype(np.float32) for one in (queries, rows))
    scores, found = best_products(asked, held, k)
    every = asked @ held.T  # small whole numbers: exact in float32, with many ties
    assert np.array_equal(scores, -np.sort(-every, axis=1)[:, :k])
    assert np.array_equal(np.take_along_axis(every, found, axis=1), scores)
    assert all(len(set(row)) == k for row in found.tolist())


def test_fewer_rows_than_are_wanted():
    scores, found = best_products(np.ones((2, 4), dtype=np.float32), np.eye(4, dtype=np.float32)[:3], 5)
    assert np.array_equal(np.sort(found, axis=1), [[-1, -1, 0, 1, 2]] * 2)
    assert scores.tolist() == [[1, 1, 1, -np.inf, -np.inf]] * 2
