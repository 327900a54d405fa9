from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from sil_cli.data.style_gap import explained_share, style_distance, style_distances


def styles(seed: int, count: int = 50, spread: float = 3.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, 6)) @ rng.standard_normal((6, 6)) * spread + rng.uniform(0, 100, 6)


def test_distance_is_the_root_of_frechets():
    one, other = styles(0), styles(1, count=70)
    first, second = np.cov(one.T, bias=True), np.cov(other.T, bias=True)
    shift = ((one.mean(axis=0) - other.mean(axis=0)) ** 2).sum()
    expected = np.sqrt(shift + np.trace(first + second - 2 * sqrtm(first @ second).real))
    assert style_distance(one, other) == pytest.approx(expected, rel=1e-6)
    assert style_distance(other, one) == pytest.approx(expected, rel=1e-6)


def test_moving_all_pictures_by_ten_levels_is_a_distance_of_ten():
    one = styles(2)
    assert style_distance(one, one + np.array([10.0, 0, 0, 0, 0, 0])) == pytest.approx(10.0)
    assert style_distance(one, one) == pytest.approx(0.0, abs=1e-4)
    assert style_distance(one[:1], one[1:2]) == pytest.approx(float(np.linalg.norm(one[0] - one[1])))
    assert style_distance(np.zeros((4, 6), np.float32), np.zeros((4, 6), np.float32)) == 0.0


def test_in_one_dimension_it_is_the_means_and_deviations():
    one, other = np.array([[0.0], [2.0]]), np.array([[10.0], [16.0]])  # means 1, 13; deviations 1, 3
    assert style_distance(one, other) == pytest.approx(np.hypot(12, 2))


def test_the_matrix_is_symmetric_with_an_empty_diagonal():
    groups = [styles(seed) for seed in range(4)]
    matrix = style_distances(groups)
    np.testing.assert_array_equal(matrix, matrix.T)
    assert matrix[2, 1] == pytest.approx(style_distance(groups[1], groups[2]))
    assert not np.diag(matrix).any()


def test_share_explained_is_the_variance_of_the_group_means():
    groups = [styles(seed, count=20 + 5 * seed) for seed in range(3)]
    everyone = np.concatenate(groups)
    means = np.concatenate([np.repeat(group.mean(axis=0)[None], len(group), axis=0) for group in groups])
    expected = ((means - everyone.mean(axis=0)) ** 2).sum() / ((everyone - everyone.mean(axis=0)) ** 2).sum()
    assert explained_share(groups) == pytest.approx(expected)
    assert explained_share([np.zeros((3, 6)), np.ones((3, 6))]) == 1.0
    assert explained_share([groups[0]] * 2) == pytest.approx(0.0, abs=1e-12)


def test_share_is_unknown_where_there_is_nothing_to_explain():
    assert explained_share([styles(0)]) is None
    assert explained_share([np.ones((3, 6)), np.ones((2, 6))]) is None
