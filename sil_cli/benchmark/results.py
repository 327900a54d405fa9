"""What `sil benchmark` returns and keeps: scores of runs, their means, how methods differ; and the table of them."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sil_cli.errors import as_cell
from sil_cli.evaluation.results import MeanRate, TargetScores
from sil_cli.evaluation.tested_models import TEST_SET
from sil_cli.results import Result

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sil_cli.data.plan import ProtocolPlan


class RunScores(Result):
    """One trained model's scores on the targets of its case.

    Attributes:
        key: What they hold for: the model's fingerprint, the targets' manifests, how it was evaluated.
    """

    method: str
    case: str
    seed: int
    run: Path
    key: dict[str, Any]
    targets: list[TargetScores]


class MethodScores(Result):
    """A method's scores, in 0..1: means over the seeds, with deviations where there are several.

    Attributes:
        mAP: By target.
        rank1: By target.
        mean_mAP: Mean over the targets.
        mean_rank1: Mean over the targets.
    """

    method: str
    seeds: list[int]
    mAP: dict[str, MeanRate]  # noqa: N815 - the field's name for it
    rank1: dict[str, MeanRate]
    mean_mAP: MeanRate  # noqa: N815
    mean_rank1: MeanRate


class Difference(Result):
    """How much higher a method scores than the first one, in 0..1, paired by target and seed.

    Attributes:
        low: Lower end of the mean's 95% bootstrap interval.
        high: Its upper end.
    """

    method: str
    baseline: str
    metric: Literal["mAP", "rank1"]
    mean: float
    low: float
    high: float
    pairs: int


class BenchmarkResult(Result):
    """The outcome of `sil benchmark`.

    Attributes:
        tables: The table as CSV, Markdown and LaTeX, published numbers below the measured ones.
        methods: Means of each method.
        differences: Of each method to the first one.
        runs: The scores of every trained model.
        results: The file with this document.
    """

    protocol: str
    folder: Path
    targets: list[str]
    methods: list[MethodScores]
    differences: list[Difference]
    runs: list[RunScores]
    tables: list[Path]
    results: Path


MEAN = "mean"
"""The column of the mean over all targets."""

LATEX_ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "×": r"$\times$",
        "τ": r"$\tau$",
        "ρ": r"$\rho$",
    }
)


@dataclass(frozen=True)
class ScoreRow:
    """A method's scores.

    Attributes:
        method: Its name.
        source: Where the numbers come from.
        scores: mAP and Rank-1 by target, in 0..1; a target without a number is absent.
        conditions: Under which they were obtained.
    """

    method: str
    source: str
    scores: Mapping[str, tuple[MeanRate, MeanRate]]
    conditions: str


@dataclass(frozen=True)
class ScoreTable:
    """Methods against targets.

    Attributes:
        title: What is compared.
        targets: The columns, in order.
        rows: The methods, in order.
    """

    title: str
    targets: tuple[str, ...]
    rows: tuple[ScoreRow, ...]

    def as_csv(self) -> str:
        """One line a method and target: the numbers in percent, where they come from, and their conditions."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(
            ["method", "target", "mAP", "mAP_deviation", "rank1", "rank1_deviation", "source", "conditions"]
        )
        for row in self.rows:
            for target, pair in row.scores.items():
                numbers = [cell for score in pair for cell in (_plain(score.mean), _plain(score.deviation))]
                words = [as_cell(text) for text in (row.method, target, row.source, row.conditions)]
                writer.writerow([*words[:2], *numbers, *words[2:]])
        return stream.getvalue()

    def as_markdown(self) -> str:
        """A table with a column a target, its conditions numbered below."""
        notes = list(dict.fromkeys(row.conditions for row in self.rows))
        heads = ["method", *(f"{target}: mAP / Rank-1" for target in self.targets), "source"]
        lines = [f"### {_cell(self.title)}", "", _line(heads), "|" + "---|" * len(heads)]
        for row in self.rows:
            number = notes.index(row.conditions) + 1
            lines.append(_line([row.method, *self._cells(row), f"{row.source} ({number})"]))
        lines += ["", "In percent; ± is the standard deviation over seeds.", ""]
        lines += [f"{number}. {_cell(note)}" for number, note in enumerate(notes, start=1)]
        return "\n".join(lines) + "\n"

    def as_latex(self) -> str:
        """A `tabular` for the package booktabs, with two columns a target."""
        count = len(self.targets)
        groups = " & ".join(rf"\multicolumn{{2}}{{c}}{{{_latex(target)}}}" for target in self.targets)
        rules = " ".join(rf"\cmidrule(lr){{{2 * at + 2}-{2 * at + 3}}}" for at in range(count))
        lines = [
            f"% {self.title}",
            rf"\begin{{tabular}}{{l{'rr' * count}}}",
            r"\toprule",
            rf"Method & {groups} \\",
            rules,
            " & ".join(["", *("mAP & R-1" for _ in self.targets)]) + r" \\",
            r"\midrule",
        ]
        for row in self.rows:
            pairs = [row.scores.get(target) for target in self.targets]
            cells = [_latex(_shown(score)) if score else "--" for pair in pairs for score in (pair or (None, None))]
            lines.append(" & ".join([_latex(row.method), *cells]) + r" \\")
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"

    def _cells(self, row: ScoreRow) -> list[str]:
        pairs = [row.scores.get(target) for target in self.targets]
        return [f"{_shown(pair[0])} / {_shown(pair[1])}" if pair else "–" for pair in pairs]


@dataclass(frozen=True)
class PublishedResult:
    """One reported pair of numbers.

    Attributes:
        target: As the protocol calls it, or `mean` for the mean of its targets.
        mAP: In percent, as reported.
        rank1: In percent, as reported.
        source: Who reports it.
        conditions: What is known of how it was obtained.
    """

    protocol: str
    method: str
    backbone: str
    target: str
    mAP: float  # noqa: N815 - the field's name for it
    rank1: float
    source: str
    conditions: str


def score_table(
    plan: ProtocolPlan, targets: Sequence[str], methods: Sequence[MethodScores], runs: Sequence[RunScores]
) -> ScoreTable:
    """What was measured here, and below it what others report for the same protocol and targets."""
    rows = [_own_row(method, next(run for run in runs if run.method == method.method)) for method in methods]
    reported: dict[tuple[str, str, str, str], dict[str, tuple[MeanRate, MeanRate]]] = {}
    whole = {target for case in plan.all_cases.values() for target in case.targets} <= set(targets)
    for each in published_results(plan.name):
        if each.target in targets or (each.target == MEAN and whole):  # the mean of all targets, where no more is known
            named = f"{each.method}, {each.backbone}" if each.backbone != each.method else each.method
            key = (named, each.source, each.conditions, each.protocol)
            reported.setdefault(key, {})[each.target] = (_published(each.mAP), _published(each.rank1))
    rows += [ScoreRow(method, source, scores, note) for (method, source, note, _), scores in reported.items()]
    columns = (*targets, MEAN) if len(targets) > 1 else tuple(targets)
    return ScoreTable(f"{plan.name}: {plan.about}".removesuffix(": "), columns, tuple(rows))


def _own_row(method: MethodScores, run: RunScores) -> ScoreRow:
    conditions = dict(run.targets[0].splits[0].conditions)
    for of_the_case in ("sources", "protocol", TEST_SET):
        conditions.pop(of_the_case, None)
    seeds = f"seeds: {', '.join(map(str, method.seeds))}"
    scores = {name: (method.mAP[name], method.rank1[name]) for name in method.mAP}
    if len(scores) > 1:
        scores[MEAN] = (method.mean_mAP, method.mean_rank1)
    return ScoreRow(
        method=method.method,
        source="measured",
        scores=scores,
        conditions="; ".join([*(f"{name}: {value}" for name, value in conditions.items()), seeds]),
    )


def published_results(protocol: str) -> list[PublishedResult]:
    """All numbers reported for a protocol, in the file's order; none for one that nobody else uses."""
    text = (resources.files("sil_cli") / "comparison" / "published.csv").read_text(encoding="utf-8")
    rows = [row for row in csv.DictReader(text.splitlines()) if row["protocol"] == protocol]
    return [PublishedResult(mAP=float(row.pop("map")), rank1=float(row.pop("rank1")), **row) for row in rows]


def _published(percent: float) -> MeanRate:
    return MeanRate(mean=percent / 100, deviation=None)


def _shown(rate: MeanRate) -> str:
    return f"{100 * rate.mean:.1f}" + ("" if rate.deviation is None else f" ± {100 * rate.deviation:.1f}")


def _plain(rate: float | None) -> str:
    return "" if rate is None else f"{100 * rate:.4g}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _latex(text: str) -> str:
    return text.translate(LATEX_ESCAPES)
