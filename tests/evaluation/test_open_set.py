"""Verification and open-set identification against slow, obvious oracles."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation_cases import cases, slow_pairs
from hypothesis import given, settings
from hypothesis import strategies as st

from sil_cli.evaluation.open_set import BINS, Identification, Identifier, PairScores, choose_impostors, score_pairs
from sil_cli.evaluation.pairs import EmbeddingSet
from sil_cli.evaluation.streaming import RetrievalTest, run_test


def side(rows, names, cameras=None, **more) -> EmbeddingSet:
    return EmbeddingSet(np.asarray(rows, dtype=np.float64), list(names), cameras or [None] * len(rows), **more)


@settings(max_examples=60, deadline=None)
@given(cases(), st.sampled_from(["cosine", "euclidean"]), st.integers(1, 4000))
def test_pair_scores_are_those_of_every_pair_that_counts(case, metric, chunk_bytes):
    query, gallery = case
    scores = score_pairs(query, gallery, metric=metric, chunk_bytes=chunk_bytes)
    pairs = [pair for each in slow_pairs(query, gallery, metric).values() for pair in each]
    for counts, wanted in ((scores.same, True), (scores.different, False)):
        expected = np.sort([score for score, _, same in pairs if same is wanted])
        found = np.repeat(scores.low + scores.width * (np.arange(BINS) + 0.5), counts)
        assert len(found) == len(expected)
        # The scale of Euclidean scores is that of the embeddings; a bin, and the rounding of a product.
        assert found == pytest.approx(expected, abs=1.5 * scores.width + 3e-5 * abs(scores.low))


def test_a_threshold_is_the_lowest_that_keeps_the_false_accept_rate():
    rng = np.random.default_rng(0)
    different, same = np.sort(rng.normal(0, 0.2, 10_000)), np.sort(rng.normal(0.5, 0.2, 500))
    width = 2 / (BINS - 1)
    low = -1 - width / 2
    counts = [np.bincount(((each.clip(-1, 1) - low) / width).astype(int), minlength=BINS) for each in (same, different)]
    scores = PairScores(low, width, *counts)
    assert (scores.same_pairs, scores.different_pairs) == (500, 10_000)
    for rate in (1e-1, 1e-2, 1e-3, 1e-4):
        threshold = scores.threshold(rate)
        assert np.mean(different >= threshold) <= rate
        assert np.mean(different >= threshold - 2 * width) <= rate + 1e-4  # nothing much lower would do
        # Just above the (k+1)-th best different pair, k being as many as may pass.
        allowed = round(rate * len(different))
        assert threshold == pytest.approx(different[::-1][allowed], abs=2 * width)
        false, true = scores.accepted(threshold)
        assert false == pytest.approx(np.mean(different >= threshold), abs=2e-4)
        assert true == pytest.approx(np.mean(same >= threshold), abs=2e-3)
    assert scores.threshold(1e-5) is None
    assert scores.threshold(1e-3, at_least=11) is None
    curve = scores.curve()
    assert curve == sorted(curve)
    assert [true for _, true in curve] == sorted(true for _, true in curve)
    assert curve[-1] == (1.0, 1.0)
    edges = scores.edges(64)
    assert len(edges) == 65
    for found, expected in zip(scores.histograms(edges), (same, different), strict=True):
        assert found == pytest.approx(np.histogram(expected.clip(-1, 1), edges)[0], abs=1)
        assert found.sum() == len(expected)
    both = scores + scores
    assert (both.same_pairs, both.threshold(1e-2)) == (1000, scores.threshold(1e-2))
    with pytest.raises(ValueError, match="ranges"):
        scores + PairScores(-2, width, *counts)


def test_equal_scores_pass_together_or_not_at_all():
    # Four impostors tie at cosine 1: none may pass at 30 %, all may at 50 %.
    query = side([[1, 0]], "a")
    gallery = side([[1, 0]] * 4 + [[0, 1]] * 4 + [[1, 0]], "bbbbbbbba")
    scores = score_pairs(query, gallery)
    assert scores.accepted(scores.threshold(0.3)) == (0.0, 0.0)
    assert scores.accepted(scores.threshold(0.5)) == (0.5, 1.0)


def slow_identification(query, gallery, impostors, metric):
    known, correct, unknown = [], [], []
    for index, pairs in slow_pairs(query, gallery, metric).items():
        kept = [(score, -at, same) for score, at, same in pairs if gallery.identities[at] not in impostors]
        if query.identities[index] in impostors:
            unknown += [max(kept)[0]] if kept else []
        elif any(same for _, _, same in kept):
            known.append(max(kept)[0])
            correct.append(max(kept)[2])
    return known, correct, unknown


@settings(max_examples=150, deadline=None)
@given(cases(), st.sampled_from(["cosine", "euclidean"]), st.integers(1, 4000), st.sampled_from([0.0, 0.5, 1.0]))
def test_identification_is_that_of_the_oracle(case, metric, chunk_bytes, share):
    query, gallery = case
    impostors = choose_impostors(query, share=share)
    test = RetrievalTest(query, gallery, metric=metric)
    identifier = Identifier(test, impostors)
    run_test(test, [identifier], chunk_bytes=chunk_bytes)
    found = identifier.result()
    known, correct, unknown = slow_identification(query, gallery, impostors, metric)
    assert found.known == pytest.approx(np.array(known), abs=1e-12, rel=1e-12)
    assert found.correct.tolist() == correct
    assert found.impostors == pytest.approx(np.array(unknown), abs=1e-12, rel=1e-12)
    for rate in (0.01, 0.2, 0.5, 1.0):
        assert found.rate(rate) == slow_rate(found, rate)


def slow_rate(found: Identification, rate: float) -> float | None:
    if rate * len(found.impostors) < 1 or not len(found.known):
        return None
    best = 0.0
    # Try every threshold: just above each score, and below all.
    for barred in [-np.inf, *found.impostors, *found.known]:
        if np.mean(found.impostors > barred) <= rate:
            best = max(best, float(np.mean((found.known > barred) & found.correct)))
    return best


def test_impostors_are_a_seeded_share_of_the_query_identities():
    query = side(np.ones((40, 2)), [f"p{number // 2}" for number in range(40)])
    impostors = choose_impostors(query)
    assert len(impostors) == 10
    assert impostors == choose_impostors(query)
    assert impostors != choose_impostors(query, seed=1)
    assert not choose_impostors(query, share=0)


def test_too_few_impostors_say_nothing_of_a_rate():
    found = Identification(np.array([0.5]), np.array([True]), np.linspace(-1, 0, 99), 200)
    assert found.rate(1e-2) is None
    assert found.rate(2e-2) == 1.0


def test_the_curve_of_identification_runs_from_one_impostor_to_all():
    rng = np.random.default_rng(3)
    found = Identification(rng.normal(1, 1, 400), rng.random(400) < 0.7, rng.normal(0, 1, 300), 900)
    curve = found.curve()
    assert curve[0][0] == 1 / 300
    assert curve[-1] == (1.0, 1 - found.correct.mean())
    assert [missed for _, missed in curve] == sorted((missed for _, missed in curve), reverse=True)
    for false, missed in curve[:: len(curve) // 5]:
        assert missed == pytest.approx(1 - slow_rate(found, false))
    assert Identification(found.known, found.correct, np.empty(0), 900).curve() == []
