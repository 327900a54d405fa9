"""Training curves: what `metrics.jsonl` holds, as a picture."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from matplotlib.ticker import MaxNLocator

from sil_cli.report.charts.figures import as_png, draw_line, house_style, legend_below, new_figure, plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLES = {
    "loss": "Loss",
    "learning_rate": "Learning rate",
    "held_out_mAP": "mAP on held-out source identities",
    "images_per_second": "Images per second",
}
MOST_PANELS = 8


@house_style()
def training_curves(runs: Sequence[tuple[str, Sequence[Mapping[str, object]]]]) -> Figure:
    """A panel for every quantity that a run logged, a line for every run.

    Args:
        runs: (label, one mapping an epoch); `epoch` is the x axis, every other number is drawn.

    Raises:
        ValueError: No run logged a number.
    """
    keys = quantities([history for _, history in runs])
    if not keys:
        raise ValueError("nothing was logged that could be drawn")
    columns = len(keys) if len(keys) <= 3 else 2
    rows = -(-len(keys) // columns)
    figure, axes = new_figure(6.0 if columns == 1 else 11.4, 2.6 * rows, rows=rows, columns=columns)
    for unused in axes[len(keys) :]:
        unused.set_visible(False)
    for panel, key in zip(axes, keys, strict=False):
        _draw(panel, key, runs)
    if len(runs) > 1:
        legend_below(figure, min(4, len(runs)))
    return figure


def curves_png(history: Sequence[Mapping[str, object]]) -> bytes:
    """The curves of one run as a PNG file.

    Raises:
        ValueError: Nothing was logged.
    """
    return as_png(training_curves([("", history)]))


def quantities(histories: Sequence[Sequence[Mapping[str, object]]]) -> list[str]:
    """The names of the numbers that were logged, the well-known ones first."""
    logged = [key for history in histories for facts in history for key in facts if _number(facts.get(key)) is not None]
    names = [key for key in dict.fromkeys(logged) if key != "epoch"]
    return ([key for key in TITLES if key in names] + [key for key in names if key not in TITLES])[:MOST_PANELS]


def _draw(panel: Axes, key: str, runs: Sequence[tuple[str, Sequence[Mapping[str, object]]]]) -> None:
    panel.set_title(TITLES.get(key, plain(key)), loc="left", fontsize=10.5, fontweight="bold")
    panel.set_xlabel("epoch")
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    lowest = math.inf
    for position, (label, history) in enumerate(runs):
        points = [
            (_number(facts.get("epoch")) or at, value)
            for at, facts in enumerate(history, start=1)
            if (value := _number(facts.get(key))) is not None
        ]
        lowest = min([lowest, *(value for _, value in points)])
        draw_line(panel, position, [x for x, _ in points], [y for _, y in points], label)
    if key == "learning_rate" and lowest > 0:
        panel.set_yscale("log")
    elif key != "loss":
        panel.set_ylim(bottom=min(0.0, lowest) if math.isfinite(lowest) else None)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
