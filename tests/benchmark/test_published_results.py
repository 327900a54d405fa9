from __future__ import annotations

import pytest

from sil_cli.benchmark.results import MEAN, published_results, score_table
from sil_cli.data.plan import read_plan


def test_the_papers_table_is_there_with_conditions():
    results = {(each.method, each.target): each for each in published_results("SIL-4")}
    paper = results["IL (SIL)", "market1501"]
    assert (paper.mAP, paper.rank1, paper.source) == (65.8, 86.2, "SIL paper")
    assert "best on the target" in paper.conditions
    assert all(each.conditions and 0 < each.mAP < each.rank1 + 20 <= 120 for each in results.values())


def test_targets_are_called_as_in_the_protocol_files():
    for name in ("p1", "p2", "p3", "sil-4"):
        plan, _ = read_plan(name, [])
        targets = {target for case in plan.all_cases.values() for target in case.targets}
        results = published_results(plan.name)
        assert {each.target for each in results} - {MEAN} == targets


def test_every_row_is_there_once_with_its_conditions():
    for protocol in ("P1", "P2", "P3", "SIL-4"):
        results = published_results(protocol)
        assert len({(each.method, each.source, each.target) for each in results}) == len(results)
        assert all(each.conditions and each.source for each in results)


@pytest.mark.parametrize(
    ("protocol", "method", "numbers"),
    [
        ("P2", "ReNorm", {"cuhk03": (43.6, 44.7), "msmt17": (25.6, 55.6), "market1501": (72.7, 89.1)}),
        ("P2", "ISR", {"cuhk03": (27.4, 26.1), "msmt17": (21.2, 45.7), "market1501": (65.1, 85.1)}),
        ("P2", "CLIP-ReID", {"cuhk03": (42.1, 41.9), "msmt17": (26.6, 53.1), "market1501": (68.8, 84.4)}),
        ("P3", "GMN", {"cuhk03": (49.5, 50.1), "msmt17": (24.8, 51.0), "market1501": (75.9, 89.0)}),
        ("P3", "META", {"cuhk03": (47.1, 46.2), "msmt17": (24.4, 52.1), "market1501": (76.5, 90.5)}),
        ("P1", "ACL", {MEAN: (75.2, 66.6)}),
        ("P1", "DSM+SHS", {MEAN: (74.1, 66.0)}),
    ],
)
def test_numbers_that_others_quote_stand_under_their_targets(protocol, method, numbers):
    found = {each.target: (each.mAP, each.rank1) for each in published_results(protocol) if each.method == method}
    assert found == numbers


def test_conditions_that_change_what_a_number_means_are_beside_it():
    for protocol in ("P1", "P2", "P3"):
        for each in published_results(protocol):
            if each.method == "CILP-FGDI":
                assert "224x224" in each.conditions
            if each.method == "BAU":
                assert "best on the target's test set" in each.conditions
                assert "iterations by target" in each.conditions
            if each.method == "ISR":
                assert "unsupervised pretraining" in each.conditions
    assert not [each for each in published_results("SIL-4") if each.method == "MUVA"]  # of another protocol


def test_a_published_mean_stands_only_beside_a_mean_of_all_targets():
    plan, _ = read_plan("p1", [])
    targets = [target for case in plan.all_cases.values() for target in case.targets]
    whole, part = (score_table(plan, some, [], []) for some in (targets, targets[:2]))
    assert [row.scores[MEAN][0].mean for row in whole.rows if row.method == "ACL"] == [0.752]
    assert not [row for row in part.rows if row.method == "ACL"]
    assert "| ACL | – | – | – | – | 75.2 / 66.6 |" in whole.as_markdown()


def test_nobody_reports_the_generated_networks():
    assert published_results("generated") == []
