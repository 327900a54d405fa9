"""Searching through an approximate index, with and without filters, held against exact search."""

from __future__ import annotations

import numpy as np
import pytest
from clusters import clustered

from sil_cli.gallery.local import vector_search as searching
from sil_cli.gallery.local.approximate import ApproximateIndex
from sil_cli.gallery.local.segments import Segment
from sil_cli.gallery.local.vector_search import GATHERED_ROWS, INDEX_SHARE, Searcher, plan_search
from sil_cli.gallery.recall import Bench, least_effort
from sil_cli.similarity.distance import unit_rows

COUNT, DIMENSION, K = 20_000, 32, 10


@pytest.fixture
def _small(monkeypatch):
    """Gather as few rows as would be few in a gallery of a million."""
    monkeypatch.setattr(searching, "GATHERED_ROWS", 300)


@pytest.fixture(scope="module")
def data():
    rows, who, where = clustered(COUNT, DIMENSION, people=1000, noise=0.4)
    queries, _, _ = clustered(64, DIMENSION, people=1000, noise=0.4, seed=1)
    return rows, who, where, queries


@pytest.fixture(scope="module", params=["IVF128,SQ8", "HNSW16,SQ8"])
def searcher(request, data):
    rows = data[0]
    ids = np.arange(1, COUNT + 1)
    # two files, the second of them newest first, as merging may leave them in an older gallery
    half = COUNT // 2
    segments = [Segment(ids[:half], rows[:half]), Segment(ids[half:][::-1].copy(), rows[half:][::-1].copy())]
    index = ApproximateIndex.build(request.param, rows[:8192], [(ids, rows)])
    searcher = Searcher([(one, None) for one in segments], index, last_id=COUNT)
    effort, recall = least_effort(Bench(searcher), searcher, index.efforts, 0.995)
    assert recall >= 0.995
    assert effort < index.efforts[-1]
    return searcher


def ids_of(found):
    return [[one for one, _ in ranked] for ranked in found]


def truth(data, allowed, k=K):
    """The best by brute force in float64."""
    rows, queries = data[0], data[3]
    at = np.arange(COUNT) if allowed is None else allowed - 1
    scores = queries.astype(float) @ rows[at].astype(float).T
    return [(at[np.argsort(-row)[:k]] + 1).tolist() for row in scores]


def recall(found, expected) -> float:
    return np.mean(
        [len(set(one) & set(other)) / max(1, len(other)) for one, other in zip(found, expected, strict=True)]
    )


NONE = [frozenset()] * 64


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("share", [1.0, 0.8, 0.5, 0.39, 0.2, 0.1, 0.01, 0.001, 0.0001])
def test_recall_and_k_results_at_every_selectivity(searcher, data, share):
    count = max(1, round(COUNT * share))
    allowed = np.sort(np.random.default_rng(5).permutation(COUNT)[:count]) + 1
    found = ids_of(searcher.search(data[3], K, allowed, NONE))
    assert all(len(one) == min(K, count) for one in found)
    assert all(np.isin(one, allowed).all() for one in found)
    assert recall(found, truth(data, allowed)) >= 0.99


@pytest.mark.usefixtures("_small")
def test_a_filter_that_takes_away_what_is_near(searcher, data):
    """Most of the gallery passes, but none of the camera's images that are nearest to the queries."""
    _, _, where, queries = data
    nearest = {one for best in truth(data, None, 80) for one in best}
    allowed = np.array([one for one in range(1, COUNT + 1) if one not in nearest])
    assert len(allowed) > INDEX_SHARE * COUNT
    found = ids_of(searcher.search(queries, K, allowed, NONE))
    assert all(len(one) == K for one in found)
    assert recall(found, truth(data, allowed)) >= 0.99
    for camera in (0, 1):
        allowed = np.flatnonzero(where != camera) + 1
        assert recall(ids_of(searcher.search(queries, K, allowed, NONE)), truth(data, allowed)) >= 0.99


@pytest.mark.parametrize("factory", ["IVF16,PQ16x4fs", "PCA32,HNSW32,SQ8", "HNSW32,SQ8"])
def test_a_query_whose_person_is_filtered_out_is_answered_as_well_as_others(factory):
    """What is left lies farther away than the index looks by itself, and closer together than its codes tell apart."""
    rng = np.random.default_rng(0)
    centres, who, asked = (
        rng.standard_normal((600, 64)),
        rng.integers(600, size=12_000),
        rng.integers(600, size=800),
    )
    rows, queries = (
        unit_rows((centres[each] + 0.6 * rng.standard_normal((len(each), 64))).astype(np.float32))
        for each in (who, asked)
    )
    ids = np.arange(1, 12_001)
    held, rest = np.arange(0, 12_000, 20), np.setdiff1d(np.arange(12_000), np.arange(0, 12_000, 20))
    index = ApproximateIndex.build(factory, rows[rest], [(ids[rest], rows[rest])])
    bench = Bench(Searcher([(Segment(ids, rows), None)]), held_out=ids[held])
    tuned = Searcher([(Segment(ids[rest], rows[rest]), None)], index, last_id=12_000)
    effort, reported = least_effort(bench, tuned, index.efforts, 0.99)
    assert reported >= 0.99
    index.add(ids[held], rows[held])
    searcher = Searcher([(Segment(ids, rows), None)], index, last_id=12_000, effort=effort)
    for people in (300, 480):
        allowed, gone = ids[who < people], queries[asked >= people]
        assert len(allowed) > INDEX_SHARE * 12_000
        nobody = [frozenset()] * len(gone)
        expected = ids_of(searcher.search(gone, K, allowed, nobody, exact=True))
        assert recall(ids_of(searcher.search(gone, K, allowed, nobody)), expected) >= 0.99


def test_the_second_look_at_many_candidates_is_taken_in_parts(data, monkeypatch):
    rows, ids = data[0][:3000], np.arange(1, 3001)
    index = ApproximateIndex.build("IVF8,PQ8x4fs", rows, [(ids, rows)])
    searcher = Searcher([(Segment(ids, rows), None)], index, last_id=3000, effort=4)
    monkeypatch.setattr(searching, "GATHERED_ROWS", 300)
    whole = searcher.search(data[3], K, ids[::2], NONE)
    own, asked = index.search, []
    monkeypatch.setattr(index, "search", lambda *given: asked.append((len(given[0]), given[1])) or own(*given))
    monkeypatch.setattr(searching, "_PROPOSED_AT_ONCE", 4_000)
    assert searcher.search(data[3], K, ids[::2], NONE) == whole
    assert asked == [(64, 48), *[(4_000 // 192, 192)] * 3, (4, 192)]


def test_the_recall_measured_with_what_was_held_out_is_that_of_new_queries(data):
    """At an effort that misses much: vectors made from indexed ones are then found more often than new ones."""
    rows, ids = data[0], np.arange(1, COUNT + 1)
    held = np.arange(0, COUNT, 20)
    rest = np.setdiff1d(np.arange(COUNT), held)
    index = ApproximateIndex.build("HNSW16,SQ8", rows[rest], [(ids[rest], rows[rest])])
    bench = Bench(Searcher([(Segment(ids, rows), None)]), held_out=ids[held])
    searcher = Searcher([(Segment(ids[rest], rows[rest]), None)], index, last_id=COUNT, effort=index.efforts[0])
    queries, _, _ = clustered(1000, DIMENSION, people=1000, noise=0.4, seed=2)
    nobody = [frozenset()] * len(queries)
    expected = ids_of(searcher.search(queries, K, None, nobody, exact=True))
    fresh = recall(ids_of(searcher.search(queries, K, None, nobody)), expected)
    assert fresh < 0.99
    assert bench.recall(searcher) == pytest.approx(fresh, abs=0.006)
    assert Bench(searcher).recall(searcher) > fresh + 0.005


def test_answers_are_sought_among_what_was_not_held_out(data):
    rows, ids = data[0][:2000], np.arange(1, 2001)
    held, rest = ids[::10], np.setdiff1d(ids, ids[::10])
    bench = Bench(Searcher([(Segment(ids, rows), None)]), held_out=held)
    without = Searcher([(Segment(rest, rows[rest - 1]), None)])
    assert bench.recall(without) == 1.0
    near = [(one, np.argsort(-rows[rest - 1] @ rows[one - 1], kind="stable")[:10]) for one in held]
    lost = rest[near[0][1][0]]  # the best answer of the first query, and of some others
    fewer = rest[rest != lost]
    expected = 1.0 - sum(lost in rest[best] for _, best in near) / (10 * len(held))
    assert bench.recall(Searcher([(Segment(fewer, rows[fewer - 1]), None)])) == pytest.approx(expected, abs=1e-9)


def test_what_a_measured_recall_promises(data, searcher):
    """95 % of samples promise no more than is true; no less than twice the loss, nor with queries that were indexed."""
    rows, ids = data[0][:4000], np.arange(1, 4001)
    held, rest = ids[::10], np.setdiff1d(ids, ids[::10])
    bench = Bench(Searcher([(Segment(ids, rows), None)]), held_out=held)
    kept = rest[np.random.default_rng(3).random(len(rest)) > 0.05]  # one in twenty of the answers can't be found
    recall, promised = bench.promise(Searcher([(Segment(kept, rows[kept - 1]), None)]))
    shares = [np.isin(rest[np.argsort(-rows[rest - 1] @ rows[one - 1])[:10]], kept).mean() for one in held]
    assert recall == pytest.approx(np.mean(shares), abs=1e-9)
    assert promised == pytest.approx(recall - 1.645 * np.std(shares) / len(held) ** 0.5, abs=1e-9)
    assert promised > 2 * recall - 1
    few = Bench(Searcher([(Segment(ids, rows), None)]), held_out=held[:2])
    rest = np.setdiff1d(ids, held[:2])
    lost = rest[np.argsort(-rows[rest - 1] @ rows[held[0] - 1])[3]]
    fewer = rest[rest != lost]
    recall, promised = few.promise(Searcher([(Segment(fewer, rows[fewer - 1]), None)]))
    assert promised == pytest.approx(2 * recall - 1, abs=1e-9)
    searcher.effort = 1
    recall, promised = Bench(searcher).promise(searcher)
    assert promised == pytest.approx(2 * recall - 1, abs=1e-9)


def test_an_index_proposes_and_the_vectors_score(searcher, data):
    rows, queries = data[0], data[3]
    for query, ranked in zip(queries, searcher.search(queries, K, None, NONE), strict=True):
        for one, score in ranked:
            assert score == pytest.approx(float(rows[one - 1].astype(float) @ query.astype(float)), abs=1e-12)
        assert ranked == sorted(ranked, key=lambda pair: (-pair[1], pair[0]))


def test_excluded_ids_cost_no_results(searcher, data):
    best = [set(one) for one in truth(data, None)]
    found = searcher.search(data[3], K, None, best)
    assert all(len(one) == K for one in found)
    assert not any(best[at] & {one for one, _ in ranked} for at, ranked in enumerate(found))


@pytest.mark.parametrize("exact", [True, False])
def test_many_queries_at_once_are_ranked_as_a_loop_would(exact):
    """Against one query, one vector at a time: with equal vectors, files out of order, gaps in ids, and exclusions."""
    rng = np.random.default_rng(3)
    rows = np.repeat(clustered(300, DIMENSION, people=30, noise=0.4)[0], 2, axis=0)  # everything twice
    queries = rows[rng.permutation(600)[:40]]
    ids = rng.permutation(2000)[:600] + 1
    segments = [
        (Segment(ids[:250], rows[:250]), None),
        (Segment(np.sort(ids[250:]), rows[250:][np.argsort(ids[250:])]), None),
    ]
    index = ApproximateIndex.build("Flat", rows, [(ids, rows)])
    exclude = [frozenset(rng.choice(ids, at % 4).tolist()) for at in range(40)]
    searcher = Searcher(segments, None if exact else index, last_id=2001)
    for k in (1, 7, 600, 1000):
        for query, unwanted, ranked in zip(queries, exclude, searcher.search(queries, k, None, exclude), strict=True):
            scores = [(one, (query.astype(float) * row).sum()) for one, row in zip(ids.tolist(), rows, strict=True)]
            best = sorted((-score, one) for one, score in scores if one not in unwanted)[:k]
            assert ranked == [(one, -score) for score, one in best]


def test_scores_of_vectors_of_ones_own_choice():
    rows = clustered(50, DIMENSION, people=5)[0]
    queries, rng = rows[:6], np.random.default_rng(0)
    for ids in (np.arange(11, 61), np.arange(11, 61)[::-1], rng.permutation(200)[:50]):
        segment = Segment(np.ascontiguousarray(ids), rows)
        asked = rng.integers(-1, 201, size=(6, 40))
        scores = segment.scores_of(queries, asked)
        for at, column in np.ndindex(6, 40):
            here = np.flatnonzero(ids == asked[at, column])
            expected = float(queries[at] @ rows[here[0]]) if len(here) else -np.inf
            assert scores[at, column] == pytest.approx(expected, abs=1e-5)


def test_k_beyond_what_the_index_proposes(searcher, data):
    found = searcher.search(data[3][:2], COUNT + 5, None, NONE[:2])
    assert [len(one) for one in found] == [COUNT, COUNT]


@pytest.mark.parametrize("factory", ["IVF32,SQ8", "HNSW16", "SQfp16", "PCA16,IVF8,SQ8"])
def test_what_came_after_the_index_and_what_died_since(factory, data):
    rows, queries = data[0][:3000], data[3][:8]
    ids = np.arange(1, 3001)
    index = ApproximateIndex.build(factory, rows[:2000], [(ids[:2000], rows[:2000])])
    living = np.ones(2000, dtype=bool)
    living[::3] = False
    parts = [(Segment(ids[:2000], rows[:2000]), living), (Segment(ids[2000:], rows[2000:]), None)]
    searcher = Searcher(parts, index, last_id=2000, effort=10**6)
    alive = np.concatenate([ids[:2000][living], ids[2000:]])
    assert len(searcher) == len(alive)
    expected = truth((data[0], None, None, queries), alive)
    assert ids_of(searcher.search(queries, K, None, NONE[:8])) == expected
    assert ids_of(searcher.search(queries, K, alive[::2], NONE[:8])) == truth(
        (data[0], None, None, queries), alive[::2]
    )
    assert np.concatenate([one for one, _ in searcher.parts()]).tolist() == alive.tolist()


@pytest.mark.parametrize(
    ("kept", "total", "index", "takes_filter", "plan"),
    [
        (100, 1000, True, True, "gather"),
        (GATHERED_ROWS, 10**6, False, False, "gather"),
        (GATHERED_ROWS + 1, 10**6, True, True, "scan"),
        (399_999, 10**6, True, True, "scan"),
        (400_000, 10**6, True, True, "index"),
        (400_000, 10**6, True, False, "scan"),
        (10**6, 10**6, True, False, "index"),
        (10**6, 10**6, False, False, "scan"),
        (100, 100, False, False, "scan"),
        (100, 100, True, True, "index"),
    ],
)
def test_the_plan_goes_by_selectivity(kept, total, index, takes_filter, plan):
    assert plan_search(kept, total, index=index, takes_filter=takes_filter) == plan
