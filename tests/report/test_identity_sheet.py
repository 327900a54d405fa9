from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sil_cli.report.identity_sheet import SPLIT_COLOURS, Cell, PeopleTable, identity_sheet


def coloured(colour, size=(32, 64)):
    return Image.new("RGB", size, colour)


def section(cells, cameras=("c1", "c2"), title="x"):
    return PeopleTable(title, "", cameras, [("0001", cells)])


def pixels_of(sheet, colour) -> int:
    return int((np.asarray(sheet) == colour).all(axis=2).sum())


def rgb(text: str) -> tuple[int, int, int]:
    return tuple(int(text[place : place + 2], 16) for place in (1, 3, 5))


def test_every_image_is_drawn_whole_and_marked_by_its_split():
    red, blue = (250, 0, 0), (0, 0, 250)
    sheet = identity_sheet([section([Cell([(coloured(red), "train")]), Cell([(coloured(blue), "query")])])])
    assert pixels_of(sheet, red) == pixels_of(sheet, blue) == 64 * 128
    places = [np.argwhere((np.asarray(sheet) == colour).all(axis=2)) for colour in (red, blue)]
    assert places[0][:, 1].max() < places[1][:, 1].min()
    assert pixels_of(sheet, rgb(SPLIT_COLOURS["train"])) >= 64 * 3
    assert pixels_of(sheet, rgb(SPLIT_COLOURS["query"])) >= 64 * 3
    assert pixels_of(sheet, rgb(SPLIT_COLOURS["gallery"])) == 0


def test_another_aspect_is_kept():
    green = (0, 250, 0)
    sheet = identity_sheet([section([Cell([(coloured(green, (100, 100)), "train")]), Cell([])])])
    places = np.argwhere((np.asarray(sheet) == green).all(axis=2))
    assert (np.ptp(places, axis=0) + 1).tolist() == [64, 64]


def test_sections_lie_below_each_other_and_an_unreadable_image_leaves_a_gap():
    one = section([Cell([(None, "train")], more=3), Cell([])], title="one")
    two = PeopleTable("zwei ✓ " * 40, "note " * 80, ["a\nb"], [])
    alone, both = identity_sheet([one]), identity_sheet([one, two])
    assert both.height > alone.height
    assert both.width == alone.width
    assert both.mode == "RGB"
    with pytest.raises(ValueError, match="at least one table"):
        identity_sheet([])
