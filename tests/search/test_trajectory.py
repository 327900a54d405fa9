from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from sil_cli.gallery.entry import Match
from sil_cli.search.trajectory import find_visits

NOON = datetime(2024, 5, 31, 12, tzinfo=UTC)


def match(rank: int, camera: str | None, seconds: float | None, **known) -> Match:
    time = None if seconds is None else NOON + timedelta(seconds=seconds)
    values = {"score": 1 - rank / 100, "id": rank, "path": f"{rank}.jpg", "source": "s", "identity": None}
    return Match(**{**values, "rank": rank, "camera": camera, "time": time, "domain": None, "box": None, **known})


def told(visits):
    return [(one.camera, one.ids) for one in visits]


class TestVisits:
    def test_a_pause_or_another_camera_begins_a_new_one(self) -> None:
        matches = [match(1, "a", 0), match(2, "b", 100), match(3, "a", 50), match(4, "a", 300), match(5, "a", 20)]
        found = find_visits(matches, gap=60)
        assert told(found) == [("a", [1, 5, 3]), ("b", [2]), ("a", [4])]
        assert [one.seconds_after for one in found] == [None, 50, 200]
        assert found[0].score == matches[0].score
        assert not any(one.at_once for one in found)
        assert told(find_visits(matches, gap=10)) == [("a", [1]), ("a", [5]), ("a", [3]), ("b", [2]), ("a", [4])]

    def test_a_pause_of_exactly_the_gap_is_none(self) -> None:
        assert len(find_visits([match(1, "a", 0), match(2, "a", 60)], gap=60)) == 1
        assert len(find_visits([match(1, "a", 0), match(2, "a", 60.001)], gap=60)) == 2

    def test_what_has_no_time_comes_last_and_joins_nothing(self) -> None:
        matches = [match(1, "b", None), match(2, "a", None), match(3, None, 5), match(4, "b", None)]
        found = find_visits(matches, gap=60)
        assert told(found) == [("unknown camera", [3]), ("a", [2]), ("b", [1, 4])]
        assert found[1].start is None

    def test_two_cameras_at_once_are_marked(self) -> None:
        matches = [match(1, "a", 0), match(2, "a", 40), match(3, "b", 20), match(4, "b", 500)]
        found = find_visits(matches, gap=60)
        assert [one.at_once for one in found] == [True, True, False]
        assert found[1].seconds_after == -20

    def test_cameras_of_several_networks_are_told_apart(self) -> None:
        matches = [match(1, "c1", 0, domain="x"), match(2, "c1", 1, domain="y")]
        assert told(find_visits(matches, gap=60)) == [("x/c1", [1]), ("y/c1", [2])]

    def test_tracklets_last_until_their_last_image(self) -> None:
        known = {"tracklet_images": "12", "tracklet_end": (NOON + timedelta(seconds=55)).isoformat()}
        found = find_visits([match(1, "a", 0, metadata=known, images=12), match(2, "a", 100)], gap=60)
        assert told(found) == [("a", [1, 2])]
        assert found[0].images == 13

    def test_what_lies_within_a_tracklet_does_not_shorten_it(self) -> None:
        known = {"tracklet_images": "12", "tracklet_end": (NOON + timedelta(seconds=60)).isoformat()}
        found = find_visits([match(1, "a", 0, metadata=known), match(2, "a", 10), match(3, "a", 100)], gap=60)
        assert told(found) == [("a", [1, 2, 3])]
        assert found[0].end == NOON + timedelta(seconds=100)

    def test_times_of_any_zone_are_in_one_order(self) -> None:
        tokyo = match(1, "a", None, time=datetime(2024, 5, 31, 21, 1, tzinfo=timezone(timedelta(hours=9))))
        naive = match(2, "b", None, time=datetime(2024, 5, 31, 12, 2))
        assert told(find_visits([naive, tokyo], gap=1)) == [("a", [1]), ("b", [2])]

    def test_nothing_is_no_path(self) -> None:
        assert find_visits([], gap=60) == []
