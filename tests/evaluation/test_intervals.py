from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from sil_cli.evaluation.intervals import corrected_level, mean_interval, permutation_p


@pytest.mark.parametrize("population", ["share", "skewed", "even"])
def test_95_percent_intervals_hold_the_truth_about_95_times_in_100(population):
    rng = np.random.default_rng(7)
    draw, truth = {
        "share": (lambda: (rng.random(150) < 0.7).astype(float), 0.7),
        "skewed": (lambda: rng.beta(0.6, 2.0, size=150), 0.6 / 2.6),
        "even": (lambda: rng.random(150), 0.5),
    }[population]
    found = [mean_interval(draw(), resamples=600, seed=seed) for seed in range(300)]
    held = np.mean([each.low <= truth <= each.high for each in found])
    assert 0.915 <= held <= 0.98  # 300 trials of 0.95: three standard errors are 0.038
    lengths = [each.high - each.low for each in found]
    expected = 2 * 1.96 * np.std([draw().mean() for _ in range(300)])
    assert np.mean(lengths) == pytest.approx(expected, rel=0.12)


def test_an_interval_is_seeded_and_holds_its_mean():
    values = np.random.default_rng(0).random(50)
    one = mean_interval(values)
    assert one == mean_interval(values)
    assert one != mean_interval(values, seed=1)
    assert one.low < values.mean() < one.high


def test_many_queries_are_resampled_in_portions_with_the_same_result(monkeypatch):
    values = np.random.default_rng(0).random(300)
    whole = mean_interval(values, resamples=100), permutation_p(values - 0.48, permutations=200)
    monkeypatch.setattr("sil_cli.evaluation.intervals._VALUES_AT_A_TIME", 1)
    in_portions = mean_interval(values, resamples=100), permutation_p(values - 0.48, permutations=200)
    assert in_portions == whole


@pytest.mark.parametrize(("corrected", "method"), [(True, "BCa"), (False, "percentile")])
def test_an_interval_of_skewed_values_is_that_of_scipy(corrected, method):
    """The ends of BCa lie on either side of where they would without the acceleration, or with its sign turned."""
    values = np.concatenate([np.ones(28), np.linspace(0.05, 0.3, 12)])
    found = mean_interval(values, corrected=corrected, resamples=50_000)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=50_000, method=method, rng=1).confidence_interval
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.005)


@pytest.mark.parametrize(
    ("level", "bias", "acceleration", "expected"),
    [
        (0.025, 0.0, 0.0, 0.025),
        (0.5, 0.1, 0.0, 0.5792597),  # Phi(2 z0)
        (0.975, 0.2, 0.0, 0.9908616),  # Phi(2 z0 + 1.9599640)
        (0.975, 0.2, 0.1, 0.9984369),  # Phi(0.2 + 2.1599640 / (1 - 0.2159964))
        (0.025, -0.1, 0.05, 0.0245568),  # Phi(-0.1 - 2.0599640 / (1 + 0.1029982))
    ],
)
def test_levels_follow_efrons_formula(level, bias, acceleration, expected):
    assert corrected_level(level, bias, acceleration) == pytest.approx(expected, abs=1e-6)


def test_means_that_equal_the_samples_count_half():
    """Of 20 queries many resamples have just as many right: counted on one side they would shift both ends."""
    found = mean_interval(np.repeat([1.0, 0.0], [15, 5]))
    assert (found.low, found.high) == pytest.approx((0.55, 0.9), abs=1e-9)


@pytest.mark.parametrize("values", [np.array([0.25]), np.ones(7)])
def test_values_without_spread_are_their_own_interval(values):
    found = mean_interval(values)
    assert (found.low, found.high) == (values[0], values[0])


def test_extreme_shares_stay_within_0_and_1():
    values = np.zeros(40)
    values[0] = 1.0
    found = mean_interval(values)
    assert 0.0 <= found.low <= 1 / 40 < found.high <= 0.25


def test_a_permutation_p_is_that_of_all_sign_patterns():
    differences = np.array([0.3, -0.1, 0.25, 0.4, -0.05, 0.2, 0.15, 0.3])
    sums = [
        abs(sum(sign * each for sign, each in zip(signs, differences, strict=True)))
        for signs in product((-1, 1), repeat=len(differences))
    ]
    exact = np.mean([each >= abs(differences.sum()) - 1e-12 for each in sums])
    assert permutation_p(differences, permutations=40_000) == pytest.approx(exact, abs=0.004)


def test_equal_models_have_p_1_and_a_p_is_never_0():
    assert permutation_p(np.zeros(20)) == 1.0
    assert permutation_p(np.ones(200), permutations=99) == 1 / 100


def test_p_values_of_exchangeable_models_are_even():
    rng = np.random.default_rng(3)
    values = [permutation_p(rng.normal(size=30), permutations=300, seed=seed) for seed in range(300)]
    assert np.mean(np.array(values) <= 0.1) == pytest.approx(0.1, abs=0.06)
    assert np.mean(values) == pytest.approx(0.5, abs=0.06)
