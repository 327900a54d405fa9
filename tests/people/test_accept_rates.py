"""Which pairs are asked about, and whether the intervals of rates hold the truth, on pairs whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from sil_cli.people.accept_rates import (
    ENOUGH,
    Answers,
    PairFrame,
    accept_rates,
    draw_pairs,
    reach_of,
    searches,
    strata_of,
)

MATCH, POSSIBLE = 0.1, 5.0
ENTRIES, MATES = 900, 3


def population(seed: int, *, queries: int = ENTRIES) -> tuple[PairFrame, np.ndarray]:
    """All pairs within reach of a gallery without cameras, and whether each is of one person.

    Of others, numbers expected are uniform as chance has it; three mates of each score higher, or some of them.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for query in range(queries):
        others = rng.random(ENTRIES - 1 - MATES) * ENTRIES
        mates = np.exp(rng.normal(0.5, 3.0, MATES))
        ids = rng.permutation(np.setdiff1d(np.arange(ENTRIES), [query]))
        expected = np.concatenate([mates, others])
        same = np.arange(ENTRIES - 1) < MATES
        near = expected <= reach_of(POSSIBLE)
        rows.append((np.full(near.sum(), query), ids[near], expected[near], same[near]))
    first, second, expected, same = (np.concatenate(each) for each in zip(*rows, strict=True))
    kept = searches(first, second)
    cameras = first % 3 * 3 + second % 3
    frame = PairFrame(
        first[kept], second[kept], expected[kept], cameras[kept], queries, queries / ENTRIES, ENTRIES - 1.0, ENTRIES
    )
    return frame, same[kept]


def draw(frame: PairFrame, count: int, seed: int = 0, free: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    some = np.ones(len(frame.first), dtype=bool) if free is None else free
    return draw_pairs(frame, some, count, match=MATCH, possible=POSSIBLE, seed=seed)


def rates_of(frame: PairFrame, rows: np.ndarray, same: np.ndarray, probabilities: np.ndarray):
    known = np.full(len(frame.first), -1, dtype=np.int8)
    known[rows] = same[rows]
    answers = Answers(frame.expected[rows], same[rows], 1 / probabilities, np.zeros(len(rows), dtype=np.int64))
    return accept_rates(frame, known, answers, match=MATCH, possible=POSSIBLE)


def test_of_each_pair_one_entry_searches_and_which_is_a_fair_coin() -> None:
    one, other = np.divmod(np.arange(250_000), 500)
    apart = one != other
    turned = searches(one, other)
    assert (turned ^ searches(other, one))[apart].all()
    assert turned[apart].mean() == 0.5
    assert 0.45 < turned[one < other].mean() < 0.55
    assert (turned == searches(one, other)).all()


def test_pairs_are_spread_over_strata_cameras_and_entries_and_none_comes_twice() -> None:
    frame, _ = population(1)
    rows, probabilities = draw(frame, 100)
    assert len(rows) == len(set(rows.tolist())) == 100
    strata = strata_of(frame.expected, MATCH, POSSIBLE)
    counts = np.bincount(strata[rows], minlength=5)
    assert counts.min() >= 10
    of = np.bincount(strata, minlength=5)
    assert probabilities == pytest.approx((counts / of)[strata[rows]])
    by_camera = np.bincount(frame.cameras[rows], minlength=9)
    assert by_camera.min() >= 6  # eleven each, were cameras alike
    assert np.bincount(frame.first[rows]).max() <= 2
    assert (draw(frame, 100)[0] == rows).all()
    assert set(draw(frame, 100, seed=1)[0].tolist()) != set(rows.tolist())
    assert (np.diff(strata[rows]) < 0).any()  # not the likeliest first: whoever answers must not guess


def test_every_pair_of_a_stratum_has_the_same_chance_to_be_drawn() -> None:
    frame, _ = population(2, queries=40)
    strata = strata_of(frame.expected, MATCH, POSSIBLE)
    drawn = np.zeros(len(frame.first))
    told = np.zeros(len(frame.first))
    for seed in range(1000):
        rows, probabilities = draw(frame, 30, seed)
        drawn[rows] += 1
        told[rows] = probabilities / frame.share
    for stratum in range(5):
        rows = np.flatnonzero(strata == stratum)
        assert drawn[rows] / 1000 == pytest.approx(told[rows], abs=0.07)


def test_only_free_pairs_are_drawn_and_all_of_them_where_they_are_few() -> None:
    frame, _ = population(3, queries=60)
    free = np.zeros(len(frame.first), dtype=bool)
    free[::9] = True
    rows, probabilities = draw(frame, 10_000, free=free)
    assert sorted(rows.tolist()) == np.flatnonzero(free).tolist()
    assert probabilities == pytest.approx(frame.share)
    nothing, none = draw(frame, 10, free=np.zeros(len(free), dtype=bool))
    assert (len(nothing), len(none)) == (0, 0)


def test_rates_of_a_gallery_whose_every_pair_is_known_are_the_truth() -> None:
    frame, same = population(4)
    rows = np.arange(len(same))
    told = rates_of(frame, rows, same, np.ones(len(rows)))
    assert (told.answers, told.same, told.reach) == (len(rows), same.sum(), 20.0)
    pairs = ENTRIES * (ENTRIES - 1) / 2
    for each, most in zip(told.decisions, (MATCH, POSSIBLE), strict=True):
        accepted = frame.expected <= most
        for found, truth in (
            (each.right, (accepted & same).sum() / accepted.sum()),
            (each.true_accept_rate, (accepted & same).sum() / same.sum()),
            (each.false_accept_rate, (accepted & ~same).sum() / (pairs - same.sum())),
        ):
            assert found.low == found.value == found.high == pytest.approx(truth)
        assert each.false_matches.value == pytest.approx(each.false_accept_rate.value * ENTRIES)
        assert each.nominal == most / ENTRIES


def coverage(count: int, queries: int, trials: int) -> float:
    """The share of intervals that hold the truth; each trial has another gallery and other pairs."""
    held = []
    for seed in range(trials):
        whole, truth = population(100 + seed)
        some = whole.first < queries
        frame = PairFrame(
            whole.first[some], whole.second[some], whole.expected[some], whole.cameras[some],
            queries, queries / ENTRIES, whole.others, ENTRIES,
        )  # fmt: skip
        rows, probabilities = draw(frame, count, seed)
        told = rates_of(frame, rows, truth[some], probabilities)
        for each, most in zip(told.decisions, (MATCH, POSSIBLE), strict=True):
            accepted = whole.expected <= most
            right, found = (accepted & truth).sum() / accepted.sum(), (accepted & truth).sum() / truth.sum()
            false = (accepted & ~truth).sum() / (ENTRIES * (ENTRIES - 1) / 2 - truth.sum())
            for interval, value in (
                (each.right, right), (each.true_accept_rate, found), (each.false_accept_rate, false)
            ):  # fmt: skip
                held.append(interval.low <= value <= interval.high)
    return float(np.mean(held))


@pytest.mark.parametrize(
    ("count", "queries", "trials"),
    [
        (60, 300, 5),
        pytest.param(50, 900, 100, marks=pytest.mark.thorough),
        pytest.param(200, 300, 100, marks=pytest.mark.thorough),
    ],
)
def test_intervals_hold_the_truth_as_often_as_they_say(count, queries, trials) -> None:
    assert coverage(count, queries, trials) >= (0.8 if trials < 50 else 0.91)


def test_answers_are_weighed_by_the_inverse_of_their_probability() -> None:
    frame, _ = population(5)
    rng = np.random.default_rng(0)
    expected = np.full(400, 1.0)  # of these three quarters were drawn three times as often; all of them are "no"
    often = np.arange(400) < 300
    same = ~often
    weights = np.where(often, 1.0, 3.0)
    known = np.full(len(frame.first), -1, dtype=np.int8)
    some = np.concatenate([expected, np.repeat([0.001, 0.05, 0.5, 15.0], 20)])
    whom = np.concatenate([same, rng.random(80) < 0.5])
    weigh = np.concatenate([weights, np.ones(80)])

    def right(weights: np.ndarray) -> float:
        answers = Answers(some, whom, weights, np.zeros(len(some), dtype=np.int64))
        return accept_rates(frame, known, answers, match=MATCH, possible=POSSIBLE).decisions[1].right.value

    assert right(weigh) > right(np.ones(len(some))) + 0.1  # half, not a quarter


def test_rates_are_told_from_so_many_answers_on() -> None:
    frame, same = population(6)
    rows, probabilities = draw(frame, ENOUGH)
    assert rates_of(frame, rows[1:], same, probabilities[1:]).decisions == []
    told = rates_of(frame, rows, same, probabilities)
    assert [each.decision for each in told.decisions] == ["match", "possible"]
    more, chances = draw(frame, 300)
    narrower = rates_of(frame, more, same, chances)
    for few, many in zip(told.decisions, narrower.decisions, strict=True):
        assert (
            many.true_accept_rate.high - many.true_accept_rate.low
            < few.true_accept_rate.high - few.true_accept_rate.low
        )


@pytest.mark.parametrize("answer", [True, False])
def test_answers_that_are_all_alike_still_leave_doubt(answer) -> None:
    frame, same = population(7)
    rows, probabilities = draw(frame, 60)
    for each in rates_of(frame, rows, np.full(len(same), answer), probabilities).decisions:
        assert 0 <= each.right.low < each.right.high <= 1
        assert (each.right.low if answer else 1 - each.right.high) > 0.6
