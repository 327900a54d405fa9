from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from evaluation_cases import cases, slow_pairs
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from sil_cli.errors import DataError
from sil_cli.evaluation import ranking, streaming
from sil_cli.evaluation.metrics import QueryScores, RetrievalScores, mean_scores, score_queries
from sil_cli.evaluation.pairs import EmbeddingSet
from sil_cli.evaluation.ranking import MatchRanks, rank_matches
from sil_cli.evaluation.score import score
from sil_cli.evaluation.streaming import RetrievalTest, run_test
from sil_cli.similarity.distance import unit_rows
from sil_cli.similarity.scorers import CosineScorer


def oracle(query: EmbeddingSet, gallery: EmbeddingSet, metric: str):
    """The rules word by word: for each query sort what counts, walk down the list."""
    rows = {}
    dropped = []
    for q, pairs in slow_pairs(query, gallery, metric).items():
        hits, precisions, first, last = 0, [], None, None
        for rank, (_, _, same) in enumerate(sorted((-value, g, same) for value, g, same in pairs), start=1):
            if same:
                hits += 1
                precisions.append(hits / rank)
                first, last = first or rank, rank
        if hits:
            rows[q] = (sum(precisions) / hits, first, hits / last)
        else:
            dropped.append(q)
    return rows, dropped


def assert_equals_oracle(query: EmbeddingSet, gallery: EmbeddingSet, metric: str = "cosine"):
    rows, dropped = oracle(query, gallery, metric)
    scores = score_queries(rank_matches(query, gallery, metric=metric))
    assert scores.queries.tolist() == list(rows)
    assert scores.dropped.tolist() == dropped
    for position, (ap, first, inp) in enumerate(rows.values()):
        assert scores.average_precision[position] == pytest.approx(ap, abs=1e-12)
        assert scores.first_match[position] == first
        assert scores.inverse_negative_penalty[position] == pytest.approx(inp, abs=1e-12)
    if rows:
        means = mean_scores(scores, cmc_ranks=(1, 3))
        aps, firsts, inps = zip(*rows.values(), strict=True)
        assert means.mAP == pytest.approx(sum(aps) / len(aps), abs=1e-12)
        assert means.mINP == pytest.approx(sum(inps) / len(inps), abs=1e-12)
        assert means.cmc == {k: pytest.approx(sum(f <= k for f in firsts) / len(firsts)) for k in (1, 3)}
        assert means.dropped_queries == len(dropped)


@settings(max_examples=2000, deadline=None)
@given(cases(), st.sampled_from(["cosine", "euclidean"]))
def test_equal_to_the_oracle(case, metric):
    assert_equals_oracle(*case, metric)


@pytest.mark.slow
@settings(max_examples=20_000, deadline=None)
@given(cases(), st.sampled_from(["cosine", "euclidean"]))
def test_equal_to_the_oracle_thousands_of_times(case, metric):
    assert_equals_oracle(*case, metric)


@settings(max_examples=150, deadline=None)
@given(cases(), st.integers(1, 2000), st.sampled_from(["cosine", "euclidean"]))
@example(
    (EmbeddingSet(np.ones((3, 2)), "aab", [None] * 3), EmbeddingSet(np.ones((4, 2)), "abab", [None] * 4)), 1, "cosine"
)
def test_chunked_equals_unchunked(case, chunk_bytes, metric):
    whole, chunked = rank_matches(*case, metric=metric), rank_matches(*case, metric=metric, chunk_bytes=chunk_bytes)
    assert whole.queries.tolist() == chunked.queries.tolist()
    assert [one.tolist() for one in whole.ranks] == [one.tolist() for one in chunked.ranks]


@settings(max_examples=150, deadline=None)
@given(cases(), st.integers(1, 2000), st.sampled_from(["cosine", "euclidean"]))
def test_a_gallery_that_is_made_ready_block_by_block_has_the_same_ranks(case, chunk_bytes, metric):
    whole = rank_matches(*case, metric=metric)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "CHUNK_BYTES", 0)  # no gallery is then small enough to be held made ready
        blocks = rank_matches(*case, metric=metric, chunk_bytes=chunk_bytes)
    assert [one.tolist() for one in whole.ranks] == [one.tolist() for one in blocks.ranks]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("spread", [1.0, 1e-3])
def test_equal_to_the_oracle_at_a_real_dimension_in_every_chunking(dtype, spread):
    rng = np.random.default_rng(5)

    def side(count):
        rows = (1 + spread * rng.standard_normal((count, 512))).astype(dtype)
        who, where = rng.integers(12, size=count), rng.integers(3, size=count)
        return EmbeddingSet(rows, [str(one) for one in who], [str(one) for one in where])

    query, gallery = side(23), side(300)
    gallery.embeddings[100:200] = gallery.embeddings[:100]  # duplicates, of other identities
    assert_equals_oracle(query, gallery)
    whole = rank_matches(query, gallery)
    for queries in (1, 2, 7):
        chunked = rank_matches(query, gallery, chunk_bytes=queries * 300 * gallery.embeddings.itemsize)
        assert [one.tolist() for one in whole.ranks] == [one.tolist() for one in chunked.ranks]


@settings(max_examples=150, deadline=None)
@given(cases(), st.integers(1, 2000), st.sampled_from([0.0, 0.01]))
def test_a_float64_product_gives_the_same_ranks_as_scoring_again(case, chunk_bytes, share):
    usual = rank_matches(*case)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "_RESCORED_SHARE", share)
        wide = rank_matches(*case, chunk_bytes=chunk_bytes)
    assert [one.tolist() for one in usual.ranks] == [one.tolist() for one in wide.ranks]


def test_embeddings_that_tell_nobody_apart_are_multiplied_in_float64(monkeypatch):
    rng = np.random.default_rng(2)
    rows = (1 + 1e-5 * rng.standard_normal((120, 64))).astype(np.float32)
    names = [f"p{one}" for one in rng.integers(5, size=120)]
    query, gallery = (
        EmbeddingSet(rows[part], names[part], [None] * len(names[part])) for part in (slice(20), slice(20, None))
    )
    made_in = []
    product = CosineScorer.product

    def spied(self, queries, block, out):
        made_in.append(queries.rows.dtype)
        return product(self, queries, block, out=out)

    monkeypatch.setattr(CosineScorer, "product", spied)
    rank_matches(query, gallery, chunk_bytes=20 * 64 * 4)
    assert made_in == [np.float32, np.float64] * 5  # five blocks of 20 gallery rows
    assert_equals_oracle(query, gallery)


def test_every_score_is_shown_once_whatever_the_tiles_and_chunks(monkeypatch):
    monkeypatch.setattr(streaming, "_TILE_BYTES", 4 * 20 * 3)  # three queries with a block of twenty
    rng = np.random.default_rng(3)
    query, gallery = (
        EmbeddingSet(rng.standard_normal((n, 8)).astype(np.float32), [kind] * n, [None] * n)
        for n, kind in ((20, "a"), (40, "b"))
    )
    test = RetrievalTest(query, gallery)
    taken = np.zeros((20, 40))

    class Listener:
        def take(self, chunk):
            rows = np.arange(chunk.first, chunk.first + len(chunk.queries))
            columns = np.arange(chunk.start, chunk.start + len(chunk.block))
            exact = unit_rows(query.embeddings)[rows] @ unit_rows(gallery.embeddings)[columns].T
            assert chunk.scores == pytest.approx(exact, abs=1e-6)
            taken[np.ix_(rows, columns)] += 1

    run_test(test, [Listener()], chunk_bytes=20 * 8 * 4)  # blocks of twenty gallery rows, chunks of eight queries
    assert (taken == 1).all()


def test_scores_equal_to_a_threshold_are_not_above_it():
    scores = np.array([3.0, 1, 2, 2, -np.inf, 0])
    assert ranking._count_above(scores, np.array([2.0, 3, 0, 1.5, -1])).tolist() == [1, 0, 4, 3, 5]


def test_ranks_among_many_ties_are_those_of_the_oracle():
    rng = np.random.default_rng(2)
    query = EmbeddingSet(rng.standard_normal((3, 8)), "aab", [None] * 3)
    gallery = EmbeddingSet(rng.standard_normal((400, 8)).round(1), "ab" * 200, [None] * 400)
    assert_equals_oracle(query, gallery)


@pytest.mark.parametrize("scale", [1e-40, 1e-20, 1.0, 1e25])
def test_euclidean_ranks_do_not_depend_on_the_scale(scale):
    rng = np.random.default_rng(4)
    rows = rng.standard_normal((60, 8)) * scale
    names = [str(one) for one in rng.integers(6, size=60)]
    query, gallery = (EmbeddingSet(rows[part], names[part], [None] * len(names[part])) for part in np.s_[:10, 10:])
    assert_equals_oracle(query, gallery, "euclidean")
    single = [dataclasses.replace(side, embeddings=side.embeddings.astype(np.float32)) for side in (query, gallery)]
    if scale > 1e-30:
        assert_equals_oracle(*single, "euclidean")


def test_zero_vectors_have_a_distance_but_no_cosine():
    query = EmbeddingSet(np.array([[0.0, 1.0]]), "a", [None])
    gallery = EmbeddingSet(np.array([[0.0, 0.0], [0.0, 3.0]]), "ab", [None, None])
    assert score(query, gallery, metric="euclidean").mAP == 1.0
    with pytest.raises(DataError, match="1 of 2 gallery embeddings are all zeros"):
        score(query, gallery)


def test_identities_may_be_numbers_and_arrays():
    rng = np.random.default_rng(8)
    query, gallery = (
        EmbeddingSet(rng.standard_normal((n, 4)), rng.integers(5, size=n), rng.integers(3, size=n)) for n in (9, 50)
    )
    assert_equals_oracle(query, gallery)


def along(*angles: float) -> np.ndarray:
    """Unit vectors in the plane; the smaller the angle to 0, the better the score for a query at 0."""
    return np.array([[np.cos(one), np.sin(one)] for one in angles])


def test_a_case_worked_by_hand():
    query = EmbeddingSet(along(0), ["a"], ["c1"])
    gallery = EmbeddingSet(
        along(0.0, 0.1, 0.2, 0.3, 0.4, 0.5),
        ["a", "a", "b", "a", "distractor", "a"],
        ["c1", "c2", "c1", "c3", "c1", "c2"],
        junk=[False, False, False, False, False, False],
    )  # the first is ignored (same identity and camera): what counts is hit, miss, hit, miss, hit
    scores = score(query, gallery)
    assert scores.mAP == pytest.approx((1 / 1 + 2 / 3 + 3 / 5) / 3)
    assert scores.mINP == pytest.approx(3 / 5)
    assert scores.cmc == {1: 1.0, 5: 1.0, 10: 1.0}
    assert (scores.queries, scores.gallery, scores.dropped_queries) == (1, 6, 0)


def test_junk_is_ignored_and_distractors_stand_in_the_way():
    query = EmbeddingSet(along(0, 0), ["a", "a"], ["c1", "c1"], junk=[False, True])
    gallery = EmbeddingSet(along(0.1, 0.2, 0.3), ["a", "0", "a"], ["c2"] * 3, junk=[True, False, False])
    scores = score(query, gallery)
    assert (scores.queries, scores.gallery) == (1, 2)
    assert scores.mAP == pytest.approx(1 / 2)
    assert scores.cmc[1] == 0.0


def test_without_cameras_only_the_query_image_itself_is_ignored():
    gallery = EmbeddingSet(along(0.0, 0.1, 0.2), "aba", [None] * 3, keys=["x.jpg", "y.jpg", "z.jpg"])
    query = EmbeddingSet(along(0), "a", [None], keys=["x.jpg"])
    assert rank_matches(query, gallery).ranks[0].tolist() == [2]


def test_ties_stand_in_gallery_order():
    query = EmbeddingSet(np.ones((1, 3)), "a", [None])
    gallery = EmbeddingSet(np.ones((5, 3)), "babba", [None] * 5)
    assert rank_matches(query, gallery).ranks[0].tolist() == [2, 5]


def test_queries_without_a_match_are_named():
    gallery = EmbeddingSet(along(0.1, 0.2), "ab", ["c1", "c2"])
    query = EmbeddingSet(along(0, 0, 0), "aba", ["c1", "c1", "c3"])  # the first sees only its own camera
    scores = score(query, gallery)
    assert scores.dropped_queries == 1
    assert scores.queries == 2


def test_no_query_with_a_match_is_an_error():
    query = EmbeddingSet(along(0), "a", [None])
    with pytest.raises(DataError, match="None of the 1 queries"):
        score(query, EmbeddingSet(along(0), "b", [None]))


def test_scores_do_not_depend_on_lengths_of_embeddings():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((30, 8))
    query = EmbeddingSet(rows[:5], "abcab", [None] * 5)
    gallery = EmbeddingSet(rows[5:], "abcde" * 5, [None] * 25)
    longer = dataclasses.replace(gallery, embeddings=rows[5:] * 2.0 ** rng.integers(-9, 9, size=(25, 1)))
    assert score(query, gallery) == score(query, longer)


@pytest.mark.parametrize(
    ("query", "gallery", "words"),
    [
        (EmbeddingSet(np.ones((0, 2)), "", []), EmbeddingSet(np.ones((1, 2)), "a", [None]), "query is empty"),
        (EmbeddingSet(np.ones((1, 2)), "a", [None]), EmbeddingSet(np.ones((0, 2)), "", []), "gallery is empty"),
        (EmbeddingSet(np.ones((1, 2)), "a", [None]), EmbeddingSet(np.ones((1, 3)), "a", [None]), "same model"),
        (
            EmbeddingSet(np.ones((1, 2)), "a", [None]),
            EmbeddingSet(np.ones((1, 2), np.float32), "a", [None]),
            "same precision",
        ),
        (
            EmbeddingSet(np.ones((1, 2)), "a", [None]),
            EmbeddingSet(np.full((1, 2), np.nan), "a", [None]),
            "1 of 1 gallery",
        ),
    ],
)
def test_sides_that_cannot_be_compared_are_refused(query, gallery, words):
    with pytest.raises(DataError, match=words):
        score(query, gallery)


@pytest.mark.parametrize("field", ["identities", "cameras", "junk", "keys"])
def test_a_side_checks_its_lengths(field):
    values = {"identities": "ab", "cameras": "ab", "junk": [False] * 2, "keys": "ab"} | {field: "abc"}
    with pytest.raises(DataError, match=f"2 embeddings but 3 {field}"):
        EmbeddingSet(np.ones((2, 2)), **values)


def test_results_check_themselves():
    good = RetrievalScores(mAP=0.5, cmc={1: 0.5, 5: 0.6}, mINP=0.2, queries=3, gallery=9, dropped_queries=0)
    for change in ({"mAP": 1.5}, {"mINP": float("nan")}, {"cmc": {1: 0.6, 5: 0.5}}, {"queries": 0}):
        with pytest.raises(ValidationError):
            RetrievalScores(**dict(good) | change)
    ranks = MatchRanks(np.array([0]), (np.array([1, 4]),), np.array([1]), gallery=5)
    for change in ({"ranks": (np.array([2, 2]),)}, {"ranks": (np.array([6]),)}, {"ranks": ()}):
        with pytest.raises(ValueError, match="ranks"):
            dataclasses.replace(ranks, **change)
    scores = score_queries(ranks)
    assert isinstance(scores, QueryScores)
    for change in ({"first_match": np.array([0])}, {"average_precision": np.ones(2)}, {"dropped": np.array([0])}):
        with pytest.raises(ValueError, match=r"must lie|shape|both scored"):
            dataclasses.replace(scores, **change)
