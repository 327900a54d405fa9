"""`score`: what programs get is what every other test of evaluation measures."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from evaluation_cases import slow_pairs

from sil_cli.errors import DataError
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


def test_labels_written_differently_are_warned_of_before_the_numbers():
    query, gallery = sides()
    renamed = dataclasses.replace(gallery, cameras=["1"] * len(gallery))
    same = int((np.array(query.identities)[:, None] == np.array(gallery.identities)).sum())
    with pytest.warns(UserWarning, match=f"'1' and 'c1'.*{same:,} pairs of one person by one camera") as caught:
        found = score(query, renamed)
    assert found.warnings == [str(each.message) for each in caught]
    assert caught[0].filename == __file__
    assert score(query, gallery).warnings == []


def test_people_written_differently_are_the_reason_that_nobody_is_found():
    query, gallery = sides()
    query = dataclasses.replace(query, identities=[f"000{each}" for each in query.identities])
    with pytest.raises(DataError) as raised:
        score(query, gallery)
    assert raised.value.what == "None of the 20 queries has a valid match in the gallery."
    assert "('0000' and 0, '0001' and 1" in raised.value.fix
    assert "Write each person alike" in raised.value.fix


def test_copies_of_queries_under_other_names_are_warned_of():
    query, gallery = sides()
    names = [f"q{index}" for index in range(20)], [f"g{index}" for index in range(50)]
    rows = np.concatenate([gallery.embeddings[:-3], query.embeddings[:3] * (1 + 1e-7)])
    copied = EmbeddingSet(rows, [*gallery.identities[:-3], *query.identities[:3]], gallery.cameras, keys=names[1])
    query = dataclasses.replace(query, keys=names[0])
    with pytest.warns(UserWarning, match=r"3 of 20 queries have a copy .*\(q0 and g47 and others\)"):
        score(query, copied)
    ignored = dataclasses.replace(copied, cameras=[*gallery.cameras[:-3], *query.cameras[:3]])
    assert score(query, ignored).warnings == []  # of the query's own camera
    same_names = dataclasses.replace(copied, keys=[*names[1][:-3], *names[0][:3]])
    assert score(query, same_names).warnings == []  # the query itself


def test_a_model_that_tells_nobody_apart_has_no_copies():
    query, gallery = sides()
    flat = [dataclasses.replace(side, embeddings=np.ones((len(side), 4))) for side in (query, gallery)]
    assert score(*flat).warnings == []
