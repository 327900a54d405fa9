from __future__ import annotations

import csv

from sil_cli.benchmark.results import ScoreRow, ScoreTable, published_results
from sil_cli.evaluation.results import MeanRate


def score(percent: float, deviation: float | None = None) -> MeanRate:
    return MeanRate(mean=percent / 100, deviation=None if deviation is None else deviation / 100)


TABLE = ScoreTable(
    "A_test & more",
    ("a", "b"),
    (
        ScoreRow("own|ed", "measured", {"a": (score(12.346, 1.0), score(50.0)), "b": (score(1.0), score(2.0))}, "c1"),
        ScoreRow("100%_else", "a paper", {"a": (score(60.0), score(80.0))}, "c2"),
    ),
)


def test_csv_has_a_line_a_method_and_target():
    rows = list(csv.DictReader(TABLE.as_csv().splitlines()))
    assert [(row["method"], row["target"], row["mAP"], row["mAP_deviation"], row["rank1"]) for row in rows] == [
        ("own|ed", "a", "12.35", "1", "50"),
        ("own|ed", "b", "1", "", "2"),
        ("100%_else", "a", "60", "", "80"),
    ]


def test_markdown_numbers_the_conditions_and_leaves_no_cell_out():
    lines = TABLE.as_markdown().splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {5}
    assert "| own\\|ed | 12.3 ± 1.0 / 50.0 | 1.0 / 2.0 | measured (1) |" in lines
    assert "| 100%_else | 60.0 / 80.0 | – | a paper (2) |" in lines
    assert lines[-2:] == ["1. c1", "2. c2"]


def test_latex_is_escaped_and_rectangular():
    text = TABLE.as_latex()
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
    assert [line.replace(r"\%", "").count("&") for line in body] == [4, 4]
    assert r"100\%\_else & 60.0 & 80.0 & -- & -- \\" in body
    assert r"12.3 $\pm$ 1.0" in body[0]
    assert r"\begin{tabular}{lrrrr}" in text


def test_published_numbers_are_shown_as_they_were_published():
    for each in published_results("SIL-4"):
        row = ScoreRow("x", "y", {"a": (score(each.mAP), score(each.rank1))}, "z")
        assert f"| {each.mAP:.1f} / {each.rank1:.1f} |" in ScoreTable("t", ("a",), (row,)).as_markdown()
