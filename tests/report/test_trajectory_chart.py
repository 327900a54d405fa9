from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from PIL import Image

from sil_cli.report import trajectory as module
from sil_cli.report.contact_sheet import DECISION_INKS, SheetRow, Tile, contact_sheet, decision_sign, stacked
from sil_cli.report.query_page import PageQuery, query_page
from sil_cli.report.trajectory import DRAWN_STOPS, Stop, draw_trail, duration

PINK = (255, 0, 200)
NOON = datetime(2024, 5, 31, 12, tzinfo=UTC)


def stop(camera: str = "c1", minutes: float | None = 0, after: float | None = None, **more) -> Stop:
    start = None if minutes is None else NOON + timedelta(minutes=minutes)
    values = {"image": Image.new("RGB", (64, 128), PINK), "images": 1, "score": 0.5}
    gap = None if after is None else timedelta(minutes=after)
    return Stop(**{"camera": camera, "start": start, "end": start, "after": gap, **values, **more})


def pictures_drawn(drawing: Image.Image) -> int:
    columns = (np.asarray(drawing) == PINK).all(axis=2).any(axis=0)
    return int((np.diff(columns.astype(int)) == 1).sum())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (3599.6, "1 h"),
        (7500, "2 h 5 min"),
        (90000, "1 d 1 h"),
        (-5, "at once"),
    ],
)
def test_spans_of_time_in_two_units_at_most(seconds, text):
    assert duration(seconds) == text


def test_every_station_has_its_picture_and_every_camera_a_lane():
    one = draw_trail([stop()])
    several = draw_trail([stop(), stop("c2", 3, 3), stop("c3", 9, 6), stop("c1", 10, 1)])
    assert (pictures_drawn(one), pictures_drawn(several)) == (1, 4)
    assert several.height - one.height == 2 * module._LANE


def test_stations_without_time_picture_or_decision_are_drawn():
    drawing = draw_trail([stop(image=None, minutes=None), stop("a camera with a very long name", at_once=True)])
    assert pictures_drawn(drawing) == 1


def test_more_stations_than_fit_are_counted():
    stops = [stop(minutes=number, after=1) for number in range(DRAWN_STOPS + 5)]
    drawing = draw_trail(stops)
    assert pictures_drawn(drawing) == DRAWN_STOPS
    assert drawing.tobytes() == draw_trail(stops).tobytes()


def test_decisions_differ_without_colour():
    signs = [np.asarray(decision_sign(each, 16))[..., 3] > 128 for each in DECISION_INKS]
    areas = [sign.sum() for sign in signs]
    assert areas[0] > areas[1] > areas[2] > 0
    assert areas[1] > 1.2 * areas[2]


def test_a_sheet_says_the_decision_below_the_picture():
    def sheet(**more):
        return np.asarray(contact_sheet([SheetRow(Tile(None), [Tile(None, rank=1, score=0.5, **more)])]))

    ink = np.array(tuple(int(DECISION_INKS["match"][at : at + 2], 16) for at in (1, 3, 5)))
    assert (sheet(decision="match") == ink).all(axis=2).sum() > 50
    assert not (sheet() == ink).all(axis=2).any()


def test_pictures_of_a_fused_query_stand_below_each_other():
    first = Tile(Image.new("RGB", (64, 128), PINK))
    also = [Tile(Image.new("RGB", (64, 128), (0, 200, 255)))] * 2
    sheet = contact_sheet([SheetRow(first, [Tile(None, rank=1, score=0.5)], also=also)])
    rows = (np.asarray(sheet) == (0, 200, 255)).all(axis=2).any(axis=1)
    assert int((np.diff(rows.astype(int)) == 1).sum()) == 2


def test_pictures_are_stacked_whole():
    page = stacked([Image.new("RGB", (30, 10), PINK), Image.new("RGB", (50, 20), PINK)])
    assert page.size == (50, 30)
    assert (np.asarray(page) == PINK).all(axis=2).sum() == 30 * 10 + 50 * 20


def test_everything_on_a_page_is_escaped():
    nasty = '"><script>alert(1)</script>&'
    tile = Tile(Image.new("RGB", (20, 40)), identity=nasty, camera=nasty, name=nasty, rank=1, score=0.5, images=3)
    query = PageQuery(nasty, [tile], nasty, [tile], left_out=4, stops=[stop(nasty)])
    page = query_page([query], gallery=nasty)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 6
    assert "4 more matches are not shown" in page
    assert "tracklet of 3 images" in page


def test_a_page_says_when_there_is_nothing():
    page = query_page([PageQuery("q", [Tile(None, name="q")], "No match.", [], stops=[])], gallery="g")
    assert "Nothing was found." in page
    assert "No match is good enough to be part of a path." in page
