from __future__ import annotations

from sil_cli.benchmark.score_table import published_results
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
        assert {each.target for each in results} == targets


def test_nobody_reports_the_generated_networks():
    assert published_results("generated") == []
