"""How charts look, and how they become files; no pyplot, so nothing global is left behind."""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sil_cli.data.images import DRAWN
from sil_cli.errors import visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

# Okabe and Ito's palette (2008), told apart with any colour vision; black is for text.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6B4C9A", "#8C6D1F")
DASHES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
INK, FAINT, GRID = "#1f2937", "#6b7280", "#e5e7eb"
FEW_POINTS = 30


def new_figure(width: float, height: float, *, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """An empty figure.

    Args:
        width: Inches.
        height: Inches.
        rows: Of axes.
        columns: Of axes.
    """
    figure = make_figure(width, height)
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.grid(visible=True, color=GRID, linewidth=0.8)
        each.set_axisbelow(True)
    return figure, axes


def make_figure(width: float, height: float) -> Figure:
    """A figure without axes, to be filled within `house_style`."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def plain(text: str, length: int = 32) -> str:
    """A name as matplotlib draws it letter by letter: no formulas, no hidden label, not longer than `length`."""
    text = visible(text)
    if len(text) > length:
        text = f"{text[: length // 2]}…{text[-(length // 2 - 1) :]}"
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def draw_line(axes: Axes, position: int, xs: Sequence[float], ys: Sequence[float], label: str) -> None:
    """Draw the nth line of a chart; lines differ in colour and dashes, so that they are told apart in grey too."""
    axes.plot(
        xs,
        ys,
        color=COLOURS[position % len(COLOURS)],
        linestyle=DASHES[position % len(DASHES)],
        marker="o" if len(xs) <= FEW_POINTS else "",
        markersize=3,
        label=plain(label),
    )


def legend_below(figure: Figure, columns: int, handles: Sequence[Artist] | None = None) -> None:
    """A legend below the axes, of those lines that have a label or of the handles given."""
    if handles is None:
        handles = [each for axes in figure.axes[:1] for each in axes.get_legend_handles_labels()[0]]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize=9.5,
        columnspacing=1.2,
        handletextpad=0.5,
    )


def as_png(figure: Figure, *, dots_per_inch: int = 160) -> bytes:
    """The figure as a PNG file."""
    return _saved(figure, "png", {"Software": DRAWN}, dots_per_inch)


def as_svg(figure: Figure) -> bytes:
    """The figure as an SVG file with its letters as shapes; the same figure gives the same bytes."""
    return _saved(figure, "svg", {"Date": None, "Creator": None}, 160)


def _saved(figure: Figure, kind: str, metadata: Mapping[str, str | None], dots_per_inch: int) -> bytes:
    stream = io.BytesIO()
    with house_style(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # drawn as a box
        figure.savefig(stream, format=kind, dpi=dots_per_inch, metadata=metadata)
    return stream.getvalue()


@contextlib.contextmanager
def house_style() -> Iterator[None]:
    """Matplotlib's own settings but for ours, whatever a `matplotlibrc` says; charts are made and saved within it."""
    own = {
        "font.size": 10.0,
        "font.family": ["DejaVu Sans"],
        "axes.edgecolor": "#9ca3af",
        "axes.labelcolor": INK,
        "text.color": INK,
        "xtick.color": FAINT,
        "ytick.color": FAINT,
        "svg.fonttype": "path",
        "svg.hashsalt": "sil",
    }
    settings: dict[Any, Any] = {**mpl.rcParamsDefault, **own}
    with mpl.rc_context({key: value for key, value in settings.items() if not key.startswith("backend")}):
        yield
