"""Re-ranked scores in the metrics: against sorting the dense original's distances by the rules."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from benchmarks.dense_rerank import dense_k_reciprocal, squared_by_differences

from sil_cli.errors import DataError
from sil_cli.evaluation.metrics import mean_scores, score_queries
from sil_cli.evaluation.pairs import EmbeddingSet
from sil_cli.evaluation.ranking import rank_matches, rank_reranked
from sil_cli.settings import RerankSettings
from sil_cli.similarity.distance import unit_rows


def side(seed: int, count: int, *, junk: bool, dtype=np.float32) -> EmbeddingSet:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((12, 24))
    who, where = rng.integers(12, size=count), rng.integers(3, size=count)
    rows = centres[who] + 0.9 * rng.standard_normal((count, 24))
    rows[count // 2 : count // 2 + 3] = rows[:3]  # copies, which tie
    return EmbeddingSet(
        rows.astype(dtype),
        [f"p{one}" for one in who],
        [f"c{one}" for one in where],
        (rng.random(count) < 0.2).tolist() if junk else None,
    )


def kept(one: EmbeddingSet) -> list[int]:
    return [index for index in range(len(one)) if one.junk is None or not one.junk[index]]


def sorted_ranks(query: EmbeddingSet, gallery: EmbeddingSet) -> dict[int, list[int]]:
    queries, images = kept(query), kept(gallery)
    units = np.concatenate([unit_rows(query.embeddings)[queries], unit_rows(gallery.embeddings)[images]])
    distances = dense_k_reciprocal(squared_by_differences(units), len(queries), sort="stable").round(9)
    ranks = {}
    for row, index in zip(distances, queries, strict=True):
        listed = []
        for distance, image in zip(row, images, strict=True):
            same = gallery.identities[image] == query.identities[index]
            if not (same and gallery.cameras[image] == query.cameras[index]):
                listed.append((distance, image, same))
        ranks[index] = [rank for rank, (_, _, same) in enumerate(sorted(listed), start=1) if same]
    return {index: found for index, found in ranks.items() if found}


@pytest.mark.parametrize("junk", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ranks_equal_sorting_the_dense_distances(junk, dtype) -> None:
    query, gallery = side(1, 30, junk=junk, dtype=dtype), side(2, 140, junk=junk, dtype=dtype)
    expected = sorted_ranks(query, gallery)
    for chunk_bytes in (1, 10_000, 2**27):
        found = rank_reranked(query, gallery, RerankSettings(), chunk_bytes=chunk_bytes)
        ranks = zip(found.queries.tolist(), found.ranks, strict=True)
        assert {index: one.tolist() for index, one in ranks} == expected
        assert found.dropped.tolist() == [index for index in kept(query) if index not in expected]
        assert found.gallery == len(kept(gallery))


def test_it_raises_map_where_people_form_clusters() -> None:
    query, gallery = side(1, 60, junk=False), side(2, 300, junk=False)
    plain = mean_scores(score_queries(rank_matches(query, gallery))).mAP
    reranked = mean_scores(score_queries(rank_reranked(query, gallery, RerankSettings()))).mAP
    assert reranked > plain + 0.05


def test_with_the_original_distance_alone_it_is_the_plain_ranking() -> None:
    query, gallery = side(1, 20, junk=True), side(2, 80, junk=True)
    plain, reranked = rank_matches(query, gallery), rank_reranked(query, gallery, RerankSettings(weight=1.0))
    assert [one.tolist() for one in plain.ranks] == [one.tolist() for one in reranked.ranks]


def test_a_query_without_a_match_is_left_out_and_junk_alone_leaves_none() -> None:
    query = side(1, 5, junk=False)
    alone = dataclasses.replace(query, identities=["nobody", *query.identities[1:]], cameras=["other"] * 5)
    assert rank_reranked(alone, query, RerankSettings()).dropped.tolist() == [0]
    junk = dataclasses.replace(query, junk=[True] * 5)
    assert rank_reranked(query, junk, RerankSettings()).dropped.tolist() == [0, 1, 2, 3, 4]


def test_sides_that_do_not_fit_are_refused() -> None:
    query, gallery = side(1, 5, junk=False), side(2, 9, junk=False, dtype=np.float64)
    with pytest.raises(DataError, match="Embed both sides"):
        rank_reranked(query, gallery, RerankSettings())
