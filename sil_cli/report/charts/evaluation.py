"""Charts of an evaluation: CMC, precision and recall, score histograms, camera pairs, maps of embeddings."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from sil_cli.report.charts.figures import (
    COLOURS,
    FAINT,
    INK,
    MARKERS,
    draw_line,
    house_style,
    legend_below,
    new_figure,
    plain,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

SAME, DIFFERENT = COLOURS[0], COLOURS[1]
_HEAT = "YlGnBu"  # light to dark, in grey too
MOST_BARS = 60


@house_style()
def cmc_chart(runs: Sequence[tuple[str, Sequence[float]]]) -> Figure:
    """CMC curves; (label, share at rank 1, 2, ...)."""
    figure, (axes,) = new_figure(5.2, 3.7)
    for position, (label, curve) in enumerate(runs):
        draw_line(axes, position, range(1, len(curve) + 1), curve, label)
    last = max(len(curve) for _, curve in runs)
    axes.set_xlim(1, max(2, last))
    axes.set_xticks([1, *range(5, last + 1, 5)] if last > 10 else range(1, last + 1))
    axes.set_xlabel("rank k")
    axes.set_ylabel("queries with a match by rank k")
    _shares(figure, len(runs))
    return figure


@house_style()
def precision_recall_chart(runs: Sequence[tuple[str, Sequence[float]]]) -> Figure:
    """Precision-recall curves; (label, precision at equal steps of recall from 0 to 1)."""
    figure, (axes,) = new_figure(5.2, 3.7)
    for position, (label, curve) in enumerate(runs):
        draw_line(axes, position, np.linspace(0, 1, len(curve)).tolist(), curve, label)
    axes.set_xlabel("recall")
    axes.set_ylabel("interpolated precision")
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    _shares(figure, len(runs))
    return figure


@house_style()
def identification_chart(runs: Sequence[tuple[str, Sequence[tuple[float, float]]]]) -> Figure:
    """FNIR over FPIR of identification at rank 1; (label, points by ascending FPIR)."""
    figure, (axes,) = new_figure(5.2, 3.7)
    for position, (label, curve) in enumerate(runs):
        draw_line(axes, position, [false for false, _ in curve], [missed for _, missed in curve], label)
    axes.set_xscale("log")
    axes.set_xlabel("FPIR: people not in the gallery who are taken for somebody")
    axes.set_ylabel("FNIR: people in it who are missed")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    _shares(figure, len(runs))
    return figure


@house_style()
def histogram_chart(
    same: Sequence[int], different: Sequence[int], *, match: float | None = None, possible: float | None = None
) -> Figure:
    """Shares of same and different pairs by score, with the thresholds where there are.

    Args:
        same: Counts in equal bins over -1..1.
        different: Likewise.
        match: Scores from here on are a match.
        possible: Scores from here on may be one.
    """
    figure, (axes,) = new_figure(7.2, 3.7)
    edges = np.linspace(-1, 1, len(same) + 1)
    used = np.flatnonzero(np.asarray(same) + np.asarray(different))
    low, high = (used[0], used[-1] + 1) if len(used) else (0, len(same))
    step = max(1, -(-int(high - low) // MOST_BARS))
    high = low + -(-int(high - low) // step) * step
    lines = ((different, DIFFERENT, "different people", ".."), (same, SAME, "the same person", None))
    for counts, colour, label, hatch in lines:
        padded = np.concatenate([np.asarray(counts)[low:high], np.zeros(max(0, high - len(same)), dtype=np.int64)])
        share = padded.reshape(-1, step).sum(axis=1) / max(1, sum(counts))
        places = edges[0] + (edges[1] - edges[0]) * np.arange(low, high + 1, step)
        text = f"{label} ({sum(counts):,} pairs)"
        axes.stairs(share, places, fill=True, color=colour, alpha=0.3, hatch=hatch, linewidth=0)
        axes.stairs(share, places, color=colour, linewidth=1.6, label=text)
    for value, name, dashes in ((match, "match", "-"), (possible, "possible", "--")):
        if value is not None:
            axes.axvline(value, color=INK, linewidth=1.4, linestyle=dashes, label=f"{name} from {value:.3f}")
    axes.set_xlabel("cosine similarity")
    axes.set_ylabel("share of pairs")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylim(bottom=0)
    legend_below(figure, 2)
    return figure


@house_style()
def camera_chart(rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float | None]]) -> Figure:
    """A heat map of mAP: query cameras downwards, gallery cameras to the right."""
    cell = 0.62 if len(columns) <= 12 else 0.45
    figure, (axes,) = new_figure(2.6 + cell * len(columns), 1.5 + cell * len(rows))
    table = np.array([[np.nan if value is None else value for value in line] for line in values], dtype=float)
    image = axes.imshow(table, cmap=_HEAT, vmin=0, vmax=1, aspect="equal")
    axes.grid(visible=False)
    axes.set_xticks(range(len(columns)), [plain(name, 12) for name in columns], rotation=45, ha="right")
    axes.set_yticks(range(len(rows)), [plain(name, 12) for name in rows])
    axes.set_xlabel("gallery camera")
    axes.set_ylabel("query camera")
    for (line, column), value in np.ndenumerate(table):
        text = "–" if np.isnan(value) else f"{100 * value:.0f}"
        ink = FAINT if np.isnan(value) else ("white" if value > 0.55 else INK)
        axes.text(column, line, text, ha="center", va="center", color=ink, fontsize=9 if len(columns) <= 12 else 7)
    figure.colorbar(image, ax=axes, format=PercentFormatter(1.0), shrink=0.8, label="mAP")
    return figure


def heat_colour(value: float) -> str:
    """The colour of an mAP of 0..1 in that heat map, such as `#225da8`."""
    return to_hex(mpl.colormaps[_HEAT](value))


@house_style()
def map_chart(points: NDArray[np.floating], groups: Sequence[str | None], *, most: int, what: str) -> Figure:
    """A map of embeddings: a colour and a mark for each of the largest groups, the others grey.

    Args:
        points: (N, 2).
        groups: The group of each point; None where unknown.
        most: Groups to show in colour.
        what: What a group is, for the legend ("identities").
    """
    figure, (axes,) = new_figure(5.0, 5.4)
    counts = Counter(group for group in groups if group is not None)
    shown = sorted(group for group, _ in counts.most_common(most))
    of_point = np.array([shown.index(group) if group in shown else -1 for group in groups], dtype=np.int64)
    grey = int((of_point < 0).sum())
    size = float(np.clip(12_000 / max(1, len(points)), 9, 40))
    axes.scatter(points[of_point < 0, 0], points[of_point < 0, 1], s=size * 0.5, color="#c5cad3", linewidths=0)
    handles = []
    for number, group in enumerate(shown):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[(number + number // len(COLOURS)) % len(MARKERS)]
        axes.scatter(
            points[of_point == number, 0],
            points[of_point == number, 1],
            s=size,
            color=colour,
            marker=marker,
            alpha=0.85,
            linewidths=0,
        )
        label = plain(group, 16)
        handles.append(Line2D([], [], linestyle="", markersize=6, color=colour, marker=marker, label=label))
    if grey:
        others = len(counts) - len(shown)
        label = f"{others} other {what}" if others else "unknown"
        handles.append(Line2D([], [], linestyle="", marker="o", markersize=5, color="#c5cad3", label=label))
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[["left", "bottom"]].set_visible(False)
    legend_below(figure, 4, handles)
    return figure


def _shares(figure: Figure, lines: int) -> None:
    (axes,) = figure.axes
    axes.set_ylim(0, 1.02)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    if lines > 1:
        legend_below(figure, min(3, lines))
