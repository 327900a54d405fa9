"""A chart of styles: for each camera or data set its mean image, its colours and its histogram; and the gaps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sil_cli.report.charts.figures import FAINT, INK, as_png, house_style, make_figure, plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sil_cli.data.measuring import CameraLook

_CHANNELS = ("#dc2626", "#16a34a", "#2563eb")
_SWATCHES = 5
_DOTS_PER_INCH = 110


@dataclass(frozen=True)
class StyleColumn:
    """A camera or a data set.

    Attributes:
        name: Above its column.
        look: What its images have in common.
        colours: (n, 3) mean colours of its images.
        brightness: (n,) mean luma of its images.
    """

    name: str
    look: CameraLook
    colours: NDArray[np.floating]
    brightness: NDArray[np.floating]


@house_style()
def style_chart_png(columns: Sequence[StyleColumn], distances: NDArray[np.float64], *, title: str, note: str) -> bytes:
    """Draw the chart as a PNG.

    Args:
        columns: At least one.
        distances: (k, k) style distances of the columns in grey levels.
        title: Above it.
        note: Below the title, in small letters.
    """
    count = len(columns)
    wide = max(1.25 * count, 6.0) + 1.2
    square = max(2.6, min(0.55 * count + 0.6, 7.0))
    figure = make_figure(wide, 7.2 + square)
    figure.suptitle(f"{plain(title)}\n\n", fontsize=15, color=INK, fontweight="bold", x=0.02, ha="left")
    figure.text(0.02, 1 - 0.42 / (7.2 + square), plain(note, 400), fontsize=9.5, color=FAINT, va="top")
    parts: Any = figure.subfigures(2, 1, height_ratios=[7.0, square])
    _draw_columns(parts[0], columns)
    _draw_gaps(parts[1], columns, distances)
    return as_png(figure, dots_per_inch=_DOTS_PER_INCH)


def _draw_columns(figure: Any, columns: Sequence[StyleColumn]) -> None:
    """Mean images, swatches, histograms and brightness, a column each."""
    axes = figure.subplots(4, len(columns), squeeze=False, height_ratios=[2.4, 0.42, 1.1, 1.1])
    tallest = max(float(column.look.histogram.max()) for column in columns) or 1.0
    for place, column in enumerate(columns):
        mean_image, swatches, histogram, light = axes[:, place]
        mean_image.imshow(column.look.mean_image.round().astype(np.uint8), interpolation="bilinear", aspect="equal")
        mean_image.set_title(f"{plain(column.name, 20)}\n{column.look.images:,} images", fontsize=9, color=INK)
        swatches.imshow(_swatches(column.colours)[None].astype(np.uint8), aspect="auto")
        for axis in (mean_image, swatches):
            axis.set_axis_off()
        edges = np.linspace(0, 256, column.look.histogram.shape[1] + 1)
        for channel, colour in enumerate(_CHANNELS):
            histogram.stairs(column.look.histogram[channel], edges, color=colour, linewidth=1.1)
        histogram.set(xlim=(0, 256), ylim=(0, tallest * 1.05), xticks=[0, 128, 255], yticks=[])
        counts, edges = np.histogram(column.brightness, bins=24, range=(0, 256))
        light.stairs(counts / max(counts.sum(), 1), edges, fill=True, color="#9ca3af")
        light.axvline(float(column.brightness.mean()), color=INK, linewidth=1.2)
        light.set(xlim=(0, 256), ylim=(0, None), xticks=[0, 128, 255], yticks=[])
        for axis in (histogram, light):
            axis.tick_params(labelsize=7, colors=FAINT)
            axis.spines[["top", "right", "left"]].set_visible(False)
    for axis, text in zip(axes[:, 0], ("mean image", "colours", "red, green, blue", "brightness"), strict=True):
        axis.annotate(
            text, (0, 0.5), (-0.12, 0.5), "axes fraction", "axes fraction",
            rotation=90, ha="right", va="center", fontsize=8.5, color=FAINT,
        )  # fmt: skip


def _swatches(colours: NDArray[np.floating]) -> NDArray[np.floating]:
    """Mean colours from the darkest to the brightest fifth of the images, (5, 3)."""
    order = np.argsort(colours.mean(axis=1), kind="stable")
    fifths = [part for part in np.array_split(colours[order], _SWATCHES) if len(part)]
    return np.array([part.mean(axis=0) for part in fifths])


def _draw_gaps(figure: Any, columns: Sequence[StyleColumn], distances: NDArray[np.float64]) -> None:
    axis = figure.subplots()
    largest = float(distances.max()) or 1.0
    axis.imshow(distances, cmap="Purples", vmin=0, vmax=largest)
    for row, column in np.ndindex(distances.shape):
        if row != column:
            ink = "white" if distances[row, column] > 0.6 * largest else INK
            axis.text(column, row, f"{distances[row, column]:.0f}", ha="center", va="center", fontsize=8, color=ink)
    names = [plain(each.name, 20) for each in columns]
    places = range(len(names))
    axis.set_xticks(places, names, rotation=45 if max(map(len, names)) > 4 else 0, fontsize=8)
    axis.set_yticks(places, names, fontsize=8)
    axis.set_title("style distance in grey levels", fontsize=9.5, color=FAINT)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
