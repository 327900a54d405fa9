"""Query expansion and database-side augmentation against loops over single images."""

from __future__ import annotations

import numpy as np
import pytest

from sil_cli.similarity import expansion
from sil_cli.similarity.distance import unit_rows
from sil_cli.similarity.expansion import augment_gallery, expand_queries


def expand_slowly(one, gallery, usable, count, alpha):
    """The definition, for one embedding."""
    scored = sorted((-float(sum(a * b for a, b in zip(one, gallery[g], strict=True))), g) for g in usable)
    total = one.copy()
    for minus, g in scored[:count]:
        total = total + max(0.0, -minus) ** alpha * gallery[g]
    return total / np.sqrt((total**2).sum())


def people(seed, count, dtype=np.float64):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((5, 8))
    return unit_rows((centres[rng.integers(5, size=count)] + 0.5 * rng.standard_normal((count, 8))).astype(dtype))


@pytest.mark.parametrize("alpha", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("count", [1, 4, 100])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_expanded_queries_equal_the_definition(alpha, count, dtype, monkeypatch) -> None:
    monkeypatch.setattr(expansion, "_QUERIES_AT_ONCE", 3)
    queries, gallery = people(1, 8, dtype), people(2, 30, dtype)
    hidden = {index: np.flatnonzero(np.arange(30) % 3 == index % 4) for index in range(8)}  # index 3: none hidden
    found = expand_queries(queries, gallery, count, alpha=alpha, unusable=lambda index: hidden[index])
    assert found.dtype == dtype
    for index, query in enumerate(queries.astype(np.float64)):
        usable = sorted(set(range(30)) - set(hidden[index].tolist()))
        expected = expand_slowly(query, gallery.astype(np.float64), usable, count, alpha)
        assert found[index] == pytest.approx(expected, abs=1e-6 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("alpha", [0.0, 3.0])
@pytest.mark.parametrize("count", [1, 5, 100])
def test_an_augmented_gallery_equals_the_definition(alpha, count) -> None:
    gallery = people(3, 40)
    found = augment_gallery(gallery, count, alpha=alpha)
    for index, one in enumerate(gallery):
        usable = [g for g in range(40) if g != index]
        assert found[index] == pytest.approx(expand_slowly(one, gallery, usable, count, alpha), abs=1e-12)


def test_equal_images_tie_in_gallery_order_and_none_is_its_own_neighbour() -> None:
    distinct = people(4, 6)
    gallery = distinct[[0, 1, 0, 2, 0, 3]]
    found = augment_gallery(gallery, 2, alpha=0.0)
    assert found[0] == pytest.approx(distinct[0])  # drawn towards its two copies alone
    assert found[4] == pytest.approx(distinct[0])
    query = expand_queries(distinct[:1], gallery, 3, alpha=0.0)
    assert query[0] == pytest.approx(distinct[0])


def test_a_query_that_may_use_nothing_stays_as_it_is() -> None:
    queries, gallery = people(1, 3), people(2, 9)
    found = expand_queries(queries, gallery, 4, unusable=lambda index: np.arange(9) if index == 1 else np.arange(0))
    assert found[1] == pytest.approx(queries[1], abs=1e-15)
    assert not np.allclose(found[0], queries[0])


def test_a_query_is_expanded_alike_alone_and_among_others() -> None:
    queries, gallery = people(1, 300, np.float32), people(2, 50, np.float32)
    whole = expand_queries(queries, gallery, 5)
    for index in (0, 17, 299):
        assert expand_queries(queries[index : index + 1], gallery, 5)[0].tolist() == whole[index].tolist()


def test_an_opposite_neighbour_does_not_wipe_a_query_out() -> None:
    query = np.array([[1.0, 0.0]])
    assert expand_queries(query, -query, 1, alpha=0.0).tolist() == [[1.0, 0.0]]
