from __future__ import annotations

import faiss
import numpy as np
import pytest
from clusters import clustered

from sil_cli.gallery.local.approximate import ApproximateIndex, along_main_axis, put_near_together

COUNT = 3000
ROWS, WHO, _ = clustered(COUNT, 32, people=100, noise=0.3)
IDS = np.arange(COUNT) * 2 + 5


def plain_graph(factory):
    index = faiss.IndexIDMap(faiss.index_factory(32, factory, faiss.METRIC_INNER_PRODUCT))
    index.train(ROWS)
    index.add_with_ids(ROWS, IDS)
    inner = faiss.downcast_index(index.index)
    graph = faiss.downcast_index(inner.index) if isinstance(inner, faiss.IndexPreTransform) else inner
    return index, graph


@pytest.mark.parametrize("factory", ["HNSW16,SQ8", "HNSW8", "PCA16,HNSW16,SQ8"])
def test_every_search_finds_the_same_as_before(factory):
    index, graph = plain_graph(factory)
    queries = clustered(50, 32, people=100, noise=0.3, seed=1)[0]
    before = index.search(queries, 10)
    put_near_together(index, graph)
    after = index.search(queries, 10)
    assert np.array_equal(after[0], before[0])
    same = [set(one) == set(other) for one, other in zip(after[1].tolist(), before[1].tolist(), strict=True)]
    assert np.mean(same) >= 0.95  # equal codes may stand in another order
    assert sorted(faiss.vector_to_array(index.id_map).tolist()) == IDS.tolist()


def test_images_of_a_person_lie_together():
    index, graph = plain_graph("HNSW16,SQ8")
    put_near_together(index, graph)
    order = (faiss.vector_to_array(index.id_map) - 5) // 2
    assert np.mean(WHO[order][1:] == WHO[order][:-1]) > 0.3
    assert np.mean(WHO[1:] == WHO[:-1]) < 0.05


def test_an_index_is_built_laid_out():
    index = ApproximateIndex.build("HNSW16,SQ8", ROWS, [(IDS, ROWS)])
    assert index.ids.tolist() != IDS.tolist()
    assert np.mean(index.search(ROWS, 1, 64, None)[:, 0] == IDS) > 0.97


def test_queries_are_ordered_along_the_direction_in_which_they_vary_most():
    rng = np.random.default_rng(0)
    place = rng.permutation(200)
    rows = np.outer(place, [3.0, 4.0, 0.0]) + rng.standard_normal((200, 3)) * 0.1 + [100.0, -50.0, 7.0]
    order = along_main_axis(rows.astype(np.float32))
    assert place[order].tolist() in ([*range(200)], [*range(199, -1, -1)])


@pytest.mark.parametrize("rows", [np.zeros((0, 8)), np.eye(8)[:5], np.ones((100, 8)), np.zeros((100, 8))])
def test_what_has_no_direction_keeps_its_order(rows):
    assert along_main_axis(rows.astype(np.float32)).tolist() == [*range(len(rows))]


def test_the_order_of_queries_changes_no_answer():
    rows, _, _ = clustered(3000, 160, people=150, seed=1)
    queries, _, _ = clustered(100, 160, people=150, seed=2)
    index = ApproximateIndex.build("HNSW16,SQ8", rows, [(np.arange(3000), rows)])
    together = index.search(queries, 7, 40, None)
    alone = np.concatenate([index.search(query[None], 7, 40, None) for query in queries])
    assert (together == alone).all()
