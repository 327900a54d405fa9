from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sil_cli.report.image_rows import image_rows


def picture(colour: tuple[int, int, int], size: tuple[int, int] = (64, 128)) -> Image.Image:
    return Image.new("RGB", size, colour)


def test_each_row_shows_its_images_in_order() -> None:
    red, green, blue = (picture(colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255)))
    pixels = np.asarray(image_rows([("first", [red, green]), ("second", [blue])], tile=(32, 64)), int)
    places = {}
    for name, colour in (("red", (255, 0, 0)), ("green", (0, 255, 0)), ("blue", (0, 0, 255))):
        rows, columns = np.where((pixels == colour).all(axis=2))
        assert len(rows) == 32 * 64
        places[name] = (rows.min(), columns.min())
    assert places["red"][0] == places["green"][0] < places["blue"][0]
    assert places["red"][1] == places["blue"][1] < places["green"][1]


def test_labels_are_drawn_left_of_the_images() -> None:
    red = picture((255, 0, 0))
    pixels = np.asarray(image_rows([("harbour", [red])]), int)
    first = np.where((pixels == (255, 0, 0)).all(axis=2))[1].min()
    assert (pixels[:, :first].sum(axis=2) < 300).any()
    assert not (np.asarray(image_rows([("", [red])]), int).sum(axis=2) < 200).any()


def test_an_image_of_another_shape_keeps_its_proportions() -> None:
    wide = picture((255, 0, 0), size=(100, 50))
    pixels = np.asarray(image_rows([("wide", [wide])], tile=(64, 128)), int)
    rows, columns = np.where((pixels == (255, 0, 0)).all(axis=2))
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (32, 64)


def test_no_rows_is_an_error() -> None:
    with pytest.raises(ValueError, match="row"):
        image_rows([])
