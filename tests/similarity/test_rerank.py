"""Sparse k-reciprocal re-ranking against the dense original."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from benchmarks.dense_rerank import dense_k_reciprocal, squared_by_differences
from hypothesis import given, settings
from hypothesis import strategies as st

from sil_cli.errors import UsageError
from sil_cli.runtime import SilentReporter
from sil_cli.settings import RerankSettings
from sil_cli.similarity import rerank
from sil_cli.similarity.distance import unit_rows
from sil_cli.similarity.neighbours import BlockDistances, nearest_neighbours
from sil_cli.similarity.rerank import KReciprocalDistances, mutual_neighbours
from sil_cli.similarity.rerank import rerank as rerank_embeddings


@st.composite
def cases(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = draw(st.integers(2, 120))
    dimension = draw(st.sampled_from([1, 2, 3, 16, 64]))
    kind = draw(st.sampled_from(["random", "people", "grid", "copies", "alike", "one"]))
    rows = rng.standard_normal((count, dimension))
    if kind == "people":
        rows = rng.standard_normal((6, dimension))[rng.integers(6, size=count)] + 0.3 * rows
    elif kind == "grid":  # many distances are equal on paper
        rows = rng.integers(1, 3, size=(count, dimension))
    elif kind == "copies":
        rows = rng.standard_normal((4, dimension))[rng.integers(4, size=count)]
    elif kind == "alike":  # every cosine is near 1
        rows = 50 + rows
    elif kind == "one":
        rows = np.ones((count, dimension))
    units = unit_rows(rows.astype(draw(st.sampled_from([np.float32, np.float64]))))
    options = {
        "k1": draw(st.sampled_from([1, 2, 3, 5, 20, 40, 200])),
        "k2": draw(st.sampled_from([1, 2, 6, 30])),
        "weight": draw(st.sampled_from([0.0, 0.3, 1.0])),
    }
    return units, draw(st.integers(1, count - 1)), options


@settings(max_examples=150, deadline=None)
@given(cases())
def test_equal_to_the_dense_original(case) -> None:
    units, queries, options = case
    expected = dense_k_reciprocal(squared_by_differences(units), queries, sort="stable", **options)
    found = KReciprocalDistances(units, queries, RerankSettings(**options))
    rows = found.rows(np.arange(queries))
    assert rows.dtype == units.dtype
    assert np.abs(rows - expected).max() <= 1e-6
    images = np.arange(len(units) - queries)
    for query in range(0, queries, 7):
        exact = found.exact(query, images)
        assert np.abs(exact - expected[query]).max() <= 1e-6
        assert np.abs(rows[query] - exact).max() <= found.margin(query) / 2


def people(identities: int, cameras: int, dimension: int, dtype=np.float32) -> np.ndarray:
    """Generated embeddings as they look in the field: identity, camera and noise in few directions; shuffled."""
    rng = np.random.default_rng(3)
    spread = rng.standard_normal((16, dimension))
    who, where = np.repeat(np.arange(identities), 6), rng.integers(cameras, size=6 * identities)
    latent = rng.standard_normal((identities, 16))[who] + rng.standard_normal((cameras, 16))[where] / 2
    rows = (latent + 0.6 * rng.standard_normal(latent.shape)) @ spread
    return unit_rows(rng.permutation(rows).astype(dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_to_the_dense_original_at_a_real_dimension(dtype) -> None:
    units = people(90, 4, 256, dtype)
    expected = dense_k_reciprocal(squared_by_differences(units), 100, sort="stable")
    found = KReciprocalDistances(units, 100, RerankSettings())
    assert np.abs(found.rows(np.arange(100)) - expected).max() <= 1e-6


def test_embeddings_of_any_length_are_reranked() -> None:
    units = people(30, 3, 64, np.float64)
    expected = dense_k_reciprocal(squared_by_differences(units), 40, sort="stable", k1=10, k2=3, weight=0.2)
    found = rerank_embeddings(2 * units[:40], 3 * units[40:], k1=10, k2=3, weight=0.2)
    assert found == pytest.approx(expected, abs=1e-6)


def test_chunks_change_nothing(monkeypatch) -> None:
    units = people(40, 3, 64)
    whole = KReciprocalDistances(units, 50, RerankSettings())
    monkeypatch.setattr(rerank, "_ROWS", 17)
    found = KReciprocalDistances(units, 50, RerankSettings())
    some = np.array([3, 0, 3])
    assert (found.jaccards(some) == np.concatenate([whole.jaccards(one[None]) for one in some])).all()
    monkeypatch.setattr(rerank, "_KEPT_BYTES", 0)
    monkeypatch.setattr(rerank, "_VALUES", 1)
    again = KReciprocalDistances(units, 50, RerankSettings())
    at_once = whole.rows(np.arange(50))
    for chunk in (np.array([0]), np.array([4, 3, 40]), np.arange(10, 30)):
        for each in (found, again):
            assert each.rows(chunk) == pytest.approx(at_once[chunk], abs=1e-6)
    images = np.array([5, 1, 150])
    assert found.exact(3, images).tolist() == [whole.exact(3, np.array([one]))[0] for one in images]


def test_mutual_neighbours_by_hand() -> None:
    #    0 1   2      5: the nearest other of 0 is 1, of 1 is 0, of 2 is 1, of 5 is 2
    line = np.array([[0.0], [1.0], [2.1], [5.0]])
    rows = nearest_neighbours(BlockDistances(line), 4).rows
    assert rows[:, 1].tolist() == [1, 0, 1, 2]
    assert mutual_neighbours(rows, 2).toarray().tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize("options", [{"k1": 0}, {"k2": 0}, {"weight": 1.5}, {"weight": -0.1}, {"weight": float("nan")}])
def test_settings_out_of_range_are_refused(options) -> None:
    with pytest.raises(UsageError, match="k1 and k2 must be at least 1"):
        rerank_embeddings(people(3, 2, 8), people(2, 2, 8), **options)


def test_ctrl_c_is_heard_between_blocks() -> None:
    class Impatient(SilentReporter):
        @contextlib.contextmanager
        def task(self, label, total, unit=""):
            yield self

        def advance(self, count=1, **facts):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        KReciprocalDistances(people(3, 2, 8), 2, RerankSettings(), reporter=Impatient())
