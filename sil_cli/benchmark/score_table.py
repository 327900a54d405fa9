"""A table of scores as CSV, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

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
class Score:
    """One number of a table.

    Attributes:
        mean: In percent.
        deviation: Standard deviation, in percent; None where there is one value.
    """

    mean: float
    deviation: float | None = None

    def __str__(self) -> str:
        return f"{self.mean:.1f}" + ("" if self.deviation is None else f" ± {self.deviation:.1f}")


@dataclass(frozen=True)
class ScoreRow:
    """A method's scores.

    Attributes:
        method: Its name.
        source: Where the numbers come from.
        scores: mAP and Rank-1 by target; a target without a number is absent.
        conditions: Under which they were obtained.
    """

    method: str
    source: str
    scores: Mapping[str, tuple[Score, Score]]
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
                numbers = [cell for score in pair for cell in (f"{score.mean:.4g}", _plain(score.deviation))]
                writer.writerow([row.method, target, *numbers, row.source, row.conditions])
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
            cells = [_latex(str(score)) for pair in pairs for score in (pair or ("--", "--"))]
            lines.append(" & ".join([_latex(row.method), *cells]) + r" \\")
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"

    def _cells(self, row: ScoreRow) -> list[str]:
        pairs = [row.scores.get(target) for target in self.targets]
        return [f"{pair[0]} / {pair[1]}" if pair else "–" for pair in pairs]


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(_cell(cell) for cell in cells) + " |"


def _latex(text: str) -> str:
    return text.translate(LATEX_ESCAPES)
