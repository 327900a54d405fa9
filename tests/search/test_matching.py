"""What is listed of what was found, and the short list of `--rerank` in the order of the dense original."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmarks.dense_rerank import dense_k_reciprocal, squared_by_differences
from commands import sil

from sil_cli.gallery.entry import Match
from sil_cli.gallery.stores import open_gallery
from sil_cli.search.matching import RerankedSearch, ResultLimits, find_groups
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


class FakeSearch:
    """A search over known scores, which counts what is asked of it."""

    def __init__(self, scores: np.ndarray, people: list[str | None]) -> None:
        self.scores, self.people = scores, people
        self.asked: list[int] = []

    def __call__(self, embeddings, k, *, exclude=None):
        self.asked.append(k)
        found = []
        for row, unwanted in zip(embeddings[:, 0].astype(int), exclude, strict=True):
            order = [at for at in np.argsort(-self.scores[row], kind="stable") if at not in unwanted][:k]
            found.append(
                [
                    Match(rank=rank, score=self.scores[row, at], id=at, path="", source="s", identity=self.people[at])
                    for rank, at in enumerate(order, start=1)
                ]
            )
        return found


class TestLimits:
    @pytest.fixture
    def fake(self) -> FakeSearch:
        rng = np.random.default_rng(3)
        people = [None if number % 10 == 0 else f"p{number % 40}" for number in range(900)]
        return FakeSearch(rng.uniform(-1, 1, size=(3, 900)), people)

    def listed(self, fake: FakeSearch, limits: ResultLimits, exclude=frozenset()):
        return find_groups(fake, np.arange(3.0)[:, None], limits, [exclude] * 3)

    def test_the_best_k_ask_once(self, fake) -> None:
        found = self.listed(fake, ResultLimits(top=7))
        assert fake.asked == [7]
        assert [[one.id for one, *_ in each] for each in found] == np.argsort(-fake.scores)[:, :7].tolist()

    @pytest.mark.parametrize("at_least", [0.99, 0.5, -0.2, -2.0])
    def test_all_from_a_score_on_is_all(self, fake, at_least) -> None:
        for row, each in enumerate(self.listed(fake, ResultLimits(top=None, at_least=at_least))):
            assert [one.score for one, *_ in each] == sorted(
                (score for score in fake.scores[row] if score >= at_least), reverse=True
            )
            assert all(len(group) == 1 for group in each)

    def test_the_best_of_each_identity(self, fake) -> None:
        for row, each in enumerate(self.listed(fake, ResultLimits(top=30, by_identity=True))):
            seen: dict[object, int] = {}
            for at in np.argsort(-fake.scores[row]):
                seen.setdefault(fake.people[at] or int(at), int(at))
            assert [one.id for one, *_ in each] == list(seen.values())[:30]

    def test_every_identity_where_no_number_is_wanted(self, fake) -> None:
        (first, *_) = self.listed(fake, ResultLimits(top=None, by_identity=True))
        assert len([group for group in first if group[0].identity is not None]) == 36
        assert sum(map(len, first)) == 900
        assert all(len({match.identity for match in group}) == 1 for group in first)

    def test_what_is_excluded_is_not_listed(self, fake) -> None:
        best = int(np.argmax(fake.scores[0]))
        (first, *_) = self.listed(fake, ResultLimits(top=None, at_least=0.0), exclude=frozenset({best}))
        assert best not in {one.id for one, *_ in first}
