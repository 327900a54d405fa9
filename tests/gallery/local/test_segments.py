"""The exact search of one file's vectors, by FAISS and by matrix products, against every inner product in float64."""

import numpy as np
import pytest

from sil_cli.gallery.local.segments import Segment

COUNT, DIMENSION = 9_000, 24  # more than two blocks of vectors, the last one not full


@pytest.fixture(scope="module")
def units() -> np.ndarray:
    rows = np.random.default_rng(3).standard_normal((COUNT, DIMENSION)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def segment(units) -> Segment:
    ids = np.random.default_rng(4).permutation(COUNT).astype(np.int64) + 1
    return Segment(ids, units)


def by_hand(segment: Segment, queries: np.ndarray, k: int, keep: np.ndarray | None):
    scores = queries.astype(np.float64) @ segment.vectors.T.astype(np.float64)
    if keep is not None:
        scores[:, ~keep] = -np.inf
    order = np.argsort(-scores, axis=1)[:, :k]
    best = np.take_along_axis(scores, order, axis=1)
    return best, np.where(np.isfinite(best), segment.ids[order], -1)


@pytest.mark.parametrize("count", [1, 7, 8, 40], ids=["one", "seven", "eight", "many"])
@pytest.mark.parametrize("kept", [None, COUNT // 2, 5], ids=["all", "half", "five"])
@pytest.mark.parametrize("k", [1, 10, 1_024, 1_025])
def test_the_best_are_found_however_many_are_asked_for(segment, units, count, kept, k) -> None:
    rng = np.random.default_rng(count)
    queries = units[rng.choice(COUNT, size=count)] + 0.1 * rng.standard_normal((count, DIMENSION)).astype(np.float32)
    keep = None
    if kept is not None:
        keep = np.zeros(COUNT, dtype=np.bool_)
        keep[rng.choice(COUNT, size=kept, replace=False)] = True
    scores, ids = segment.search(queries, k, keep)
    expected, expected_ids = by_hand(segment, queries, k, keep)
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert (np.sort(ids, axis=1) == np.sort(expected_ids, axis=1)).mean() > 0.999  # the last one may be a near tie
    assert (np.diff(scores[:, : kept or k]) <= 0).all()


@pytest.mark.parametrize("cores", [1, 2, 3])
@pytest.mark.parametrize("k", [1, 10, 700])
@pytest.mark.parametrize("kept", [None, COUNT // 3, 5], ids=["all", "a third", "five"])
def test_one_query_is_shared_out_over_the_cores(segment, units, monkeypatch, cores, k, kept) -> None:
    monkeypatch.setattr("sil_cli.gallery.local.segments.cpu_count", lambda: cores)
    monkeypatch.setattr("sil_cli.gallery.local.segments._ROWS_OF_THREAD", 500)
    keep = None if kept is None else np.random.default_rng(kept).permutation(COUNT) < kept
    scores, ids = segment.search(units[5:6], k, keep)
    expected, expected_ids = by_hand(segment, units[5:6], k, keep)
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert (ids == expected_ids).mean() > 0.99
    assert (ids[0] >= 0).sum() == min(k, kept or COUNT)


@pytest.mark.parametrize("count", [1, 8])
def test_fewer_come_back_where_fewer_are_kept(segment, units, count) -> None:
    small = Segment(segment.ids[:100], units[:100])
    scores, ids = small.search(units[:count], 60, np.arange(100) < 30)
    assert (ids[:, :30] > 0).all()
    assert (ids[:, 30:] == -1).all()
    assert np.isneginf(scores[:, 30:]).all()
