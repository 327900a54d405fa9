from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sil_cli.gallery.entry import GalleryEntry, Match
from sil_cli.report.canvas import MOST_PIXELS, write_sheet
from sil_cli.search import trajectory_drawing as module
from sil_cli.search.drawing import DRAWN_IMAGES, DRAWN_MATCHES, Crop, DrawnQuery, query_page, query_sheet
from sil_cli.search.trajectory import CameraVisit
from sil_cli.search.trajectory_drawing import DRAWN_STATIONS, draw_trajectory, duration

PINK = (255, 0, 200)
IMAGE = Image.new("RGB", (64, 128), PINK)
NOON = datetime(2024, 5, 31, 12, tzinfo=UTC)


def match(**known) -> Match:
    values = {"path": "a/1.jpg", "content_hash": "", "source": "s", "rank": 1, "score": 0.5, "id": 7}
    return Match(**values | known)


def station(camera: str = "c1", minutes: float | None = 0, after: float | None = None, at_once: bool = False, **known):
    start = None if minutes is None else NOON + timedelta(minutes=minutes)
    values = {"start": start, "end": start, "images": 1, "score": 0.5, "decision": None, "ids": [1]}
    seconds = None if after is None else 60 * after
    return CameraVisit(**values | known, camera=camera, seconds_after=seconds, at_once=at_once), IMAGE


def drawn_query(crops, matches, trajectory=None, **more) -> DrawnQuery:
    return DrawnQuery(
        **{"label": "q", "verdict": "No match.", "left_out": 0, "zone": UTC} | more,
        crops=crops,
        matches=matches,
        trajectory=trajectory,
    )


def images_drawn(drawing: Image.Image) -> int:
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


def test_every_station_has_its_image_and_every_camera_a_lane():
    one = draw_trajectory([station()], UTC)
    several = draw_trajectory([station(), station("c2", 3, 3), station("c3", 9, 6), station("c1", 10, 1)], UTC)
    assert (images_drawn(one), images_drawn(several)) == (1, 4)
    assert several.height - one.height == 2 * module._LANE


def test_stations_without_time_image_or_decision_are_drawn():
    undated = (station(minutes=None)[0], None)
    named = station("a camera with a very long name", at_once=True, decision="possible")
    assert images_drawn(draw_trajectory([undated, named], None)) == 1


def test_more_stations_than_fit_are_counted():
    stations = [station(minutes=number, after=1) for number in range(DRAWN_STATIONS + 5)]
    drawing = draw_trajectory(stations, UTC)
    assert images_drawn(drawing) == DRAWN_STATIONS
    assert drawing.tobytes() == draw_trajectory(stations, UTC).tobytes()


def test_cards_say_what_is_known():
    entry = match(identity="p7", camera="c3", images=3, rank=2, decision="match", correct=True)
    card = Crop(IMAGE, entry, NOON.replace(minute=30), 7).card()
    assert (card.name, card.facts) == ("p7", ["camera c3", "2024-05-31 12:30", "tracklet of 3 images"])
    assert (card.rank, card.score, card.decision, card.correct) == (2, 0.5, "match", True)
    unknown = Crop(None, GalleryEntry("a/x.jpg", "", "")).card()
    assert (unknown.name, unknown.facts, unknown.rank) == (None, ["x.jpg"], None)


def test_the_sheet_shows_the_path_below_its_query():
    crop = Crop(None, match())
    plain, _ = query_sheet([drawn_query([crop], [crop])], Path("a.jpg"))
    with_path, _ = query_sheet([drawn_query([crop], [crop], [station()])], Path("a.jpg"))
    assert with_path.height - plain.height == draw_trajectory([station()], UTC).height
    assert images_drawn(with_path) == 1


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("a.webp", 16_383),
        pytest.param("a.jpg", MOST_PIXELS, marks=pytest.mark.thorough),
        pytest.param("a.png", MOST_PIXELS, marks=pytest.mark.thorough),
    ],
)
def test_of_many_queries_as_many_are_drawn_as_the_file_has_room_for(tmp_path, name, most):
    crop = Crop(IMAGE, match())
    queries = [drawn_query([crop], [crop] * 10) for _ in range(150)]
    sheet, count = query_sheet(queries, tmp_path / name)
    assert 0.8 * min(most, MOST_PIXELS / sheet.width) < sheet.height + 500
    assert sheet.height <= most
    assert sheet.width * sheet.height <= MOST_PIXELS
    alone, _ = query_sheet(queries[:count], tmp_path / name)
    assert alone.size == sheet.size
    write_sheet(tmp_path / name, sheet, users_own=True)
    with Image.open(tmp_path / name) as written:
        assert written.size == sheet.size


def test_a_query_of_the_most_images_and_matches_fits_into_any_file_type(tmp_path):
    crop = Crop(None, match(identity="p", camera="c", images=3, decision="match"), NOON)
    query = drawn_query([crop] * DRAWN_IMAGES, [crop] * DRAWN_MATCHES, [station(str(number)) for number in range(99)])
    sheet, _ = query_sheet([query], tmp_path / "a.webp")
    assert max(sheet.size) <= 16_383


def test_a_page_says_how_many_queries_there_were():
    crop = Crop(None, match())
    assert "Matches in g, the first 1 of 1,200 queries" in query_page([drawn_query([crop], [])], gallery="g", of=1200)
    assert "the first" not in query_page([drawn_query([crop], [])], gallery="g", of=1)


def test_everything_on_a_page_is_escaped_and_obeys_nothing():
    nasty = '"><script>alert(1)</script>&\x1b\x9b\u202e\u200f'
    entry = match(identity=nasty, camera=nasty, path=nasty.replace("/", ""), images=3, correct=False)
    crop = Crop(IMAGE, entry, NOON, 7)
    query = drawn_query([crop], [crop], [station(nasty)], label=nasty, verdict=nasty, left_out=4)
    page = query_page([query], gallery=nasty)
    assert "<script" not in page
    assert not set("\x1b\x9b\u202e\u200f") & set(page)
    assert page.count("&lt;script&gt;") >= 6
    assert "4 more matches are not shown" in page
    assert "tracklet of 3 images" in page
    assert 'title="another person">✗' in page


def test_a_page_says_when_there_is_nothing():
    page = query_page([drawn_query([Crop(None, GalleryEntry("q", "", ""))], [], [])], gallery="g")
    assert "Nothing was found." in page
    assert "No match is good enough to be part of a path." in page
