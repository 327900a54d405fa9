"""A chart of styles: for each camera or data set its mean picture, its colours and its histogram; and the gaps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

    from numpy.typing import NDArray

_CHANNELS = ("#dc2626", "#16a34a", "#2563eb")
_INK, _FAINT = "#111827", "#6b7280"
_SWATCHES = 5
_DOTS_PER_INCH = 110


@dataclass(frozen=True)
class StyleColumn:
    """A camera or a data set.

    Attributes:
        name: Above its column.
        images: How many pictures.
        mean_image: (h, w, 3), 0..255.
        histogram: (3, b) shares of red, green and blue over 0..256.
        colours: (n, 3) mean colours of its pictures.
        brightness: (n,) mean luma of its pictures.
    """

    name: str
    images: int
    mean_image: NDArray[np.float64]
    histogram: NDArray[np.float64]
    colours: NDArray[np.floating]
    brightness: NDArray[np.floating]


def write_style_chart(
    stream: BinaryIO, columns: Sequence[StyleColumn], distances: NDArray[np.float64], *, title: str, note: str
) -> None:
    """Draw the chart as a PNG.

    Args:
        stream: Where it goes.
        columns: At least one.
        distances: (k, k) style distances of the columns in grey levels.
        title: Above it.
        note: Below the title, in small letters.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = len(columns)
    wide = max(1.25 * count, 6.0) + 1.2
    square = max(2.6, min(0.55 * count + 0.6, 7.0))
    figure = Figure(figsize=(wide, 7.2 + square), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{title}\n\n", fontsize=15, color=_INK, fontweight="bold", x=0.02, ha="left")
    figure.text(0.02, 1 - 0.42 / (7.2 + square), note, fontsize=9.5, color=_FAINT, va="top")
    parts: Any = figure.subfigures(2, 1, height_ratios=[7.0, square])
    _draw_columns(parts[0], columns)
    _draw_gaps(parts[1], columns, distances)
    figure.savefig(stream, format="png", dpi=_DOTS_PER_INCH)


def _draw_columns(figure: Any, columns: Sequence[StyleColumn]) -> None:
    """Mean pictures, swatches, histograms and brightness, a column each."""
    axes = figure.subplots(4, len(columns), squeeze=False, height_ratios=[2.4, 0.42, 1.1, 1.1])
    tallest = max(float(column.histogram.max()) for column in columns) or 1.0
    for place, column in enumerate(columns):
        picture, swatches, histogram, light = axes[:, place]
        picture.imshow(column.mean_image.round().astype(np.uint8), interpolation="bilinear", aspect="equal")
        picture.set_title(f"{column.name}\n{column.images:,} images", fontsize=9, color=_INK)
        swatches.imshow(_swatches(column.colours)[None].astype(np.uint8), aspect="auto")
        for axis in (picture, swatches):
            axis.set_axis_off()
        edges = np.linspace(0, 256, column.histogram.shape[1] + 1)
        for channel, colour in enumerate(_CHANNELS):
            histogram.stairs(column.histogram[channel], edges, color=colour, linewidth=1.1)
        histogram.set(xlim=(0, 256), ylim=(0, tallest * 1.05), xticks=[0, 128, 255], yticks=[])
        counts, edges = np.histogram(column.brightness, bins=24, range=(0, 256))
        light.stairs(counts / max(counts.sum(), 1), edges, fill=True, color="#9ca3af")
        light.axvline(float(column.brightness.mean()), color=_INK, linewidth=1.2)
        light.set(xlim=(0, 256), ylim=(0, None), xticks=[0, 128, 255], yticks=[])
        for axis in (histogram, light):
            axis.tick_params(labelsize=7, colors=_FAINT)
            axis.spines[["top", "right", "left"]].set_visible(False)
    for axis, text in zip(axes[:, 0], ("mean picture", "colours", "red, green, blue", "brightness"), strict=True):
        axis.annotate(
            text, (0, 0.5), (-0.12, 0.5), "axes fraction", "axes fraction",
            rotation=90, ha="right", va="center", fontsize=8.5, color=_FAINT,
        )  # fmt: skip


def _swatches(colours: NDArray[np.floating]) -> NDArray[np.floating]:
    """Mean colours from the darkest to the brightest fifth of the pictures, (5, 3)."""
    order = np.argsort(colours.mean(axis=1), kind="stable")
    fifths = [part for part in np.array_split(colours[order], _SWATCHES) if len(part)]
    return np.array([part.mean(axis=0) for part in fifths])


def _draw_gaps(figure: Any, columns: Sequence[StyleColumn], distances: NDArray[np.float64]) -> None:
    axis = figure.subplots()
    largest = float(distances.max()) or 1.0
    axis.imshow(distances, cmap="Purples", vmin=0, vmax=largest)
    for row, column in np.ndindex(distances.shape):
        if row != column:
            ink = "white" if distances[row, column] > 0.6 * largest else _INK
            axis.text(column, row, f"{distances[row, column]:.0f}", ha="center", va="center", fontsize=8, color=ink)
    names = [each.name for each in columns]
    places = range(len(names))
    axis.set_xticks(places, names, rotation=45 if max(map(len, names)) > 4 else 0, fontsize=8)
    axis.set_yticks(places, names, fontsize=8)
    axis.set_title("style distance in grey levels", fontsize=9.5, color=_FAINT)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
