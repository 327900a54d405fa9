"""`score`: what programs get is what every other test of evaluation measures."""

from __future__ import annotations

import numpy as np
import pytest
from evaluation_cases import slow_pairs

from sil_cli.evaluation.metrics import mean_scores, score_queries
from sil_cli.evaluation.pairs import EmbeddingSet
from sil_cli.evaluation.ranking import rank_reranked
from sil_cli.evaluation.score import score
from sil_cli.settings import RerankSettings


def sides() -> tuple[EmbeddingSet, EmbeddingSet]:
    rng = np.random.default_rng(1)
    people = rng.standard_normal((6, 12))
    names = rng.integers(6, size=70)
    rows = people[names] + 0.8 * rng.standard_normal((70, 12))
    return EmbeddingSet(rows[:20], names[:20], ["c1"] * 20), EmbeddingSet(rows[20:], names[20:], ["c2"] * 50)


def test_scores_hold_every_number_of_a_test():
    query, gallery = sides()
    found = score(query, gallery)
    pairs = [pair for each in slow_pairs(query, gallery, "cosine").values() for pair in each]
    assert (found.queries, found.gallery, found.dropped_queries) == (20, 50, 0)
    assert found.open_set.same_pairs == sum(same for _, _, same in pairs)
    assert found.open_set.different_pairs == sum(not same for _, _, same in pairs)
    for name, value in (("mAP", found.mAP), ("Rank-1", found.cmc[1]), ("mINP", found.mINP)):
        assert found.intervals[name].low <= value <= found.intervals[name].high


@pytest.mark.parametrize(("rerank", "options"), [(True, RerankSettings()), (RerankSettings(k1=4, k2=2),) * 2])
def test_scores_can_be_those_after_reranking(rerank, options):
    query, gallery = sides()
    reranked = mean_scores(score_queries(rank_reranked(query, gallery, options)))
    found = score(query, gallery, rerank=rerank)
    assert (found.mAP, found.cmc, found.mINP) == (reranked.mAP, reranked.cmc, reranked.mINP)
    assert found.mAP != score(query, gallery).mAP
    assert found.open_set == score(query, gallery).open_set


def test_cameras_are_unknown_where_none_are_given():
    assert EmbeddingSet(np.ones((3, 2)), "abc").cameras == [None] * 3
    assert not len(EmbeddingSet(np.ones((0, 2)), ""))
