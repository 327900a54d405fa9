"""`sil query --rerank`: the short list in the order of the dense original."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmarks.dense_rerank import dense_k_reciprocal, squared_by_differences
from commands import sil

from sil_cli.gallery.stores import open_gallery
from sil_cli.search.rerank_shortlist import RerankedSearch
from sil_cli.settings import RerankSettings

OPTIONS = RerankSettings(k1=4, k2=2)


@pytest.fixture
def gallery(in_world):
    with open_gallery(Path("gallery")) as opened:
        yield opened


@pytest.fixture
def queries(gallery) -> np.ndarray:
    stored = gallery.vectors([1, 2, 3])
    return stored + 0.02 * np.random.default_rng(0).standard_normal(stored.shape).astype(np.float32)


@pytest.mark.parametrize("shortlist", [1, 5, 12, 10_000])
def test_the_short_list_is_in_the_order_of_the_dense_original(gallery, queries, shortlist) -> None:
    found = RerankedSearch(gallery, shortlist, OPTIONS)(queries, 8)
    for query, matches in zip(queries, found, strict=True):
        (plain,) = gallery.search(query[None], max(8, shortlist))
        listed, rest = plain[:shortlist], plain[shortlist:]
        unit = query / np.linalg.norm(query)
        units = np.concatenate([unit[None], gallery.vectors([match.id for match in listed])])
        (distances,) = dense_k_reciprocal(squared_by_differences(units), 1, k1=4, k2=2, sort="stable")
        expected = [listed[at].id for at in np.argsort(distances.round(7), kind="stable")]
        assert [match.id for match in matches] == expected + [match.id for match in rest]
        assert [match.rank for match in matches] == list(range(1, len(matches) + 1))
        scores = {match.id: match.score for match in plain}
        assert all(match.score == scores[match.id] for match in matches)


def test_a_query_gets_the_same_answer_alone_and_among_others(gallery, queries) -> None:
    search = RerankedSearch(gallery, 10, OPTIONS)
    together = search(queries, 5)
    for at in range(len(queries)):
        assert search(queries[at : at + 1], 5) == [together[at]]


def test_nothing_is_found_where_everything_is_excluded(gallery, queries) -> None:
    every = {match.id for match in gallery.search(queries[:1], len(gallery))[0]}
    assert RerankedSearch(gallery, 10, OPTIONS)(queries[:1], 5, exclude=[every]) == [[]]


def test_query_re_ranks_and_says_so(in_world, tmp_path) -> None:
    picture = sorted(Path("data").glob("*/images/query/*.jpg"))[0]
    ask = ["query", picture, "--top", 6, "--sheet", tmp_path / "sheet.jpg"]
    plain, reranked = sil(*ask, "--json").document, sil(*ask, "--rerank", "--json").document
    assert plain["reranking"] is None
    assert "its best 200 matches, k1 = 20, k2 = 6, λ = 0.3" in reranked["reranking"]
    assert [match["rank"] for match in reranked["matches"]] == [1, 2, 3, 4, 5, 6]
    short = sil(*ask, "--rerank", "--set", "query.shortlist=6", "--json").document
    assert {match["id"] for match in short["matches"]} == {match["id"] for match in plain["matches"]}
    assert "Scores are cosines" in sil(*ask, "--rerank").out
    assert sil(*ask, "--rerank", "--set", "query.shortlist=0").code == 2


def test_what_is_filtered_out_is_not_re_ranked(in_world, tmp_path) -> None:
    picture = sorted(Path("data").glob("*/images/query/*.jpg"))[0]
    ask = ["query", picture, "--rerank", "--top", 100, "--sheet", tmp_path / "sheet.jpg", "--json"]
    cameras = {match["camera"] for match in sil(*ask).document["matches"]}
    left_out = sorted(cameras)[0]
    found = sil(*ask, "--exclude-camera", left_out).document["matches"]
    assert {match["camera"] for match in found} == cameras - {left_out} != set()
