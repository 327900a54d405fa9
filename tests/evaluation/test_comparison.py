from __future__ import annotations

import numpy as np
import pytest

from sil_cli.evaluation.comparison import paired_difference


def test_the_mean_is_that_of_the_differences():
    found = paired_difference([0.5, 0.7, 0.3], [0.4, 0.4, 0.4])
    assert found.mean == pytest.approx((0.1 + 0.3 - 0.1) / 3)
    assert found.pairs == 3
    assert found.low < found.mean < found.high


def test_a_constant_difference_is_certain():
    found = paired_difference([0.5, 0.9], [0.25, 0.65])
    assert (found.low, found.high) == (found.mean, found.mean) == (0.25, 0.25)


def test_the_interval_covers_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(3)
    hits = 0
    for seed in range(200):
        differences = rng.normal(0.02, 0.05, size=30)
        found = paired_difference(differences.tolist(), [0.0] * 30, seed=seed)
        hits += found.low <= 0.02 <= found.high
    assert 0.88 <= hits / 200 <= 0.99


def test_the_same_seed_gives_the_same_interval():
    pair = (np.random.default_rng(1).random(20).tolist(), [0.5] * 20)
    assert paired_difference(*pair, seed=4) == paired_difference(*pair, seed=4)
    assert paired_difference(*pair, seed=4) != paired_difference(*pair, seed=5)


@pytest.mark.parametrize("pair", [([], []), ([0.1], [0.1, 0.2])])
def test_what_has_no_partner_is_refused(pair):
    with pytest.raises(ValueError, match="paired"):
        paired_difference(*pair)
