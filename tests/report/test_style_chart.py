from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from sil_cli.data.measuring import CameraLook
from sil_cli.report.charts.styles import StyleColumn, style_chart_png


def column(name: str, colour: tuple[int, int, int], count: int = 7) -> StyleColumn:
    return StyleColumn(
        name=name,
        look=CameraLook(count, np.full((64, 32, 3), colour, dtype=np.float64), np.full((3, 32), 1 / 32)),
        colours=np.tile(np.array(colour, dtype=np.float64), (count, 1)),
        brightness=np.linspace(90, 110, count),
    )


@pytest.mark.parametrize("count", [1, 2, 9])
def test_every_column_shows_its_mean_picture(count):
    colours = [(200 - 20 * number, 30, 20 * number) for number in range(count)]
    columns = [column(f"camera {number} ✓", colour, number + 1) for number, colour in enumerate(colours)]
    distances = np.abs(np.subtract.outer(np.arange(count), np.arange(count))) * 5.0
    png = style_chart_png(columns, distances, title="Cameras of $x_", note="a note of _ $ and \x1b")
    assert png.startswith(b"\x89PNG")
    drawn = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).reshape(-1, 3)
    for colour in colours:
        assert (drawn == colour).all(axis=1).sum() > 1000
