from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest

from sil_cli.footage.frames import Detection, Frame
from sil_cli.footage.tracker import Tracker
from sil_cli.settings import TrackSettings

BLANK = np.zeros((360, 640, 3), np.uint8)
RED, BLUE = np.eye(2, 8)
UNKNOWN = np.zeros(8)
Box = tuple[int, int, int, int]
Seen = list[tuple[Box, np.ndarray]]


def person(x: float, y: float = 100.0) -> Box:
    """A box of 40 × 100 pixels around a place."""
    return round(x) - 20, round(y), 40, 100


def follow(
    moments: list[tuple[float, Seen]], *, options: TrackSettings | None = None, looks: bool = True, score: float = 0.9
) -> list[list[int]]:
    """The tracklets' numbers of each moment's boxes; 0 for one that is not followed."""
    tracker = Tracker(options or TrackSettings())
    return [step(tracker, at, seconds, seen, looks=looks, score=score) for at, (seconds, seen) in enumerate(moments)]


def step(tracker: Tracker, at: int, seconds: float, seen: Seen, *, looks: bool = True, score: float = 0.9) -> list[int]:
    detections = [Detection(box, score) for box, _ in seen]
    embeddings = np.asarray([look for _, look in seen], np.float32).reshape(-1, 8) if looks else None
    followed = tracker.update(Frame(at, None, seconds, BLANK), detections, embeddings)
    numbers = {id(detection): number for detection, number in followed}
    return [numbers.get(id(detection), 0) for detection in detections]


@pytest.mark.parametrize("looks", [True, False])
def test_two_who_cross_keep_their_numbers(looks: bool) -> None:
    """They meet in the middle, where for four frames there is one box alone: that of the nearer one."""
    moments = []
    for frame in range(60):
        left, right = 100 + 6 * frame, 460 - 6 * frame
        seen = [(person(left), RED), (person(right, 104), BLUE)]
        moments.append((frame / 10, seen[:1] if abs(left - right) < 24 else seen))
    numbers = follow(moments, looks=looks)
    assert numbers[0] == [1, 2]
    assert numbers[-1] == [1, 2]
    assert {number for each in numbers for number in each} == {1, 2}


def test_two_who_meet_and_turn_back_are_told_apart_by_their_looks_alone() -> None:
    """Motion says that they passed each other; what they look like says that they did not."""
    moments = []
    for frame in range(60):
        gap = abs(180 - 6 * frame) + 3
        seen = [(person(320 - gap), RED), (person(320 + gap, 102), BLUE)]
        moments.append((frame / 10, [] if gap < 40 else seen))
    assert follow(moments)[-1] == [1, 2]
    assert follow(moments, looks=False)[-1] == [2, 1]


def test_one_who_stops_while_others_walk_by_stays_who_they_are() -> None:
    moments = []
    for frame in range(80):
        still = 100 + 5 * min(frame, 40)
        moments.append((frame / 10, [(person(still), RED), (person(560 - 6 * frame, 110), BLUE)]))
    assert all(each == [1, 2] for each in follow(moments, looks=False))


def test_who_enters_where_another_left_is_somebody_else() -> None:
    """One leaves at the right; a second later another comes in there."""
    moments: list[tuple[float, Seen]] = []
    for frame in range(60):
        seen: Seen = []
        if frame < 20:
            seen = [(person(500 + 8 * frame), RED)]
        elif frame >= 32:
            seen = [(person(636 - 8 * (frame - 32)), BLUE)]
        moments.append((frame / 10, seen))
    for looks in (True, False):
        numbers = [number for each in follow(moments, looks=looks) for number in each]
        assert set(numbers[:20]) == {1}
        assert set(numbers[20:]) == {2}


def test_who_comes_to_a_place_that_another_just_left_unseen_is_told_apart_by_looks() -> None:
    moments: list[tuple[float, Seen]] = [(frame / 10, [(person(300), RED)]) for frame in range(20)]
    moments += [((30 + frame) / 10, [(person(300), BLUE)]) for frame in range(20)]
    numbers = [each[0] for each in follow(moments)]
    assert set(numbers[:20]) == {1}
    assert set(numbers[20:]) == {2}


def test_a_gap_of_two_seconds_is_bridged_and_one_beyond_patience_is_not() -> None:
    def numbers(gap: float) -> list[int]:
        times = [frame / 10 for frame in range(20)] + [2 + gap + frame / 10 for frame in range(20)]
        moments: list[tuple[float, Seen]] = [(seconds, [(person(100 + 30 * seconds), RED)]) for seconds in times]
        return [each[0] for each in follow(moments)]

    assert set(numbers(2.0)) == {1}
    assert set(numbers(3.0)) == {1, 2}


def test_time_counts_and_not_frames() -> None:
    """A walk that is seen at moments by chance is one tracklet; at twenty times the speed it is not."""
    times = np.cumsum(np.random.default_rng(0).uniform(0.02, 0.6, 30))
    moments: list[tuple[float, Seen]] = [(float(t), [(person(60 + 60 * t), UNKNOWN)]) for t in times]
    assert {each[0] for each in follow(moments, looks=False)} == {1}
    rushed = [(seconds / 20, seen) for seconds, seen in moments]
    assert len({each[0] for each in follow(rushed, looks=False)}) > 1


def test_a_clock_that_jumps_back_stands_still_and_one_that_jumps_ahead_ends_all() -> None:
    walk: list[tuple[float, Seen]] = [(frame / 10, [(person(100 + 3 * frame), RED)]) for frame in range(20)]
    back = [(seconds - 500 if frame >= 10 else seconds, seen) for frame, (seconds, seen) in enumerate(walk)]
    assert {each[0] for each in follow(back)} == {1}
    ahead = [(seconds + 3600 if frame >= 10 else seconds, seen) for frame, (seconds, seen) in enumerate(walk)]
    assert [each[0] for each in follow(ahead)] == [1] * 10 + [2] * 10


def test_uncertain_boxes_continue_tracklets_and_begin_none() -> None:
    tracker = Tracker(TrackSettings())
    assert step(tracker, 0, 0.0, [(person(100), UNKNOWN)], score=0.3) == [0]
    assert step(tracker, 1, 0.1, [(person(100), UNKNOWN)], score=0.9) == [1]
    assert step(tracker, 2, 0.2, [(person(101), UNKNOWN), (person(400), UNKNOWN)], score=0.3) == [1, 0]
    assert step(tracker, 3, 0.3, [(person(101), UNKNOWN)], score=0.05) == [0]


def test_what_is_seen_now_and_then_is_over_soon_and_who_was_seen_for_long_is_not() -> None:
    """A poster that is taken for a person in every fifth frame, beside somebody who stands still."""
    poster = [(person(100), RED)]
    moments: list[tuple[float, Seen]] = [(frame / 10, poster if frame % 5 == 0 else []) for frame in range(40)]
    numbers = [number for each in follow(moments) for number in each]
    assert len(set(numbers)) == len(numbers)
    steady: list[tuple[float, Seen]] = [(frame / 10, [(person(100), RED)]) for frame in range(10)]
    later: list[tuple[float, Seen]] = [(1 + frame / 10, [] if frame < 9 else poster) for frame in range(10)]
    assert {number for each in follow(steady + later) for number in each} == {1}


def test_tracklets_end_once_each() -> None:
    tracker = Tracker(TrackSettings(patience=1.0))
    for at in range(3):
        step(tracker, at, at / 10, [(person(100), RED), (person(400), BLUE)])
    assert tracker.ended() == []
    step(tracker, 3, 0.9, [(person(400), BLUE)])
    step(tracker, 4, 1.8, [(person(400), BLUE)])
    assert tracker.ended() == [1]
    assert tracker.ended() == []
    assert tracker.finish() == [2]
    assert tracker.finish() == []


def test_no_detections_and_no_frames_are_nothing() -> None:
    tracker = Tracker(TrackSettings())
    assert tracker.update(Frame(0, None, 0.0, BLANK), [], np.empty((0, 8), np.float32)) == []
    assert tracker.update(Frame(1, None, 0.1, BLANK), []) == []
    assert tracker.finish() == []


def crowd(frames: int, seed: int = 0) -> list[tuple[float, Seen]]:
    """People who walk, vanish and come back."""
    rng = np.random.default_rng(seed)
    places, speeds = rng.uniform(50, 590, 6), rng.uniform(-40, 40, 6)
    looks = rng.normal(size=(6, 8))
    moments = []
    for at in range(frames):
        seen = []
        for one in range(6):
            if rng.random() < 0.8:
                look = looks[one] + rng.normal(0, 0.3, 8)
                x = float(np.clip(places[one] + speeds[one] * at / 10 + rng.normal(0, 2), 20, 620))
                seen.append((person(x, 100 + 10 * one), look / np.linalg.norm(look)))
        moments.append((at / 10, seen))
    return moments


def test_a_tracker_goes_on_from_its_stored_state_as_if_it_had_never_stopped() -> None:
    moments = crowd(60)
    whole = follow(moments)
    tracker = Tracker(TrackSettings())
    parted = []
    for at, (seconds, seen) in enumerate(moments):
        tracker = Tracker(TrackSettings(), json.loads(json.dumps(tracker.state())))
        parted.append(step(tracker, at, seconds, seen))
    assert parted == whole


def test_the_order_of_detections_changes_nothing() -> None:
    moments = crowd(40, seed=3)
    turned = [(seconds, seen[::-1]) for seconds, seen in moments]
    first, second = follow(moments), [each[::-1] for each in follow(turned)]
    names: dict[int, int] = {}
    for one, other in zip(first, second, strict=True):
        for a, b in zip(one, other, strict=True):
            assert names.setdefault(a, b) == b  # but for the order in which those of the first frame are numbered


def test_a_model_whose_cosines_are_all_high_is_learnt() -> None:
    """Cosines of two people are 0.9 here, of one 0.99: what was taken for one person at first becomes two."""
    rng = np.random.default_rng(1)
    shared = np.asarray([3.0, *([0.0] * 7)])

    def look(of: int) -> np.ndarray:
        vector = shared + np.eye(8)[of + 1] + rng.normal(0, 0.05, 8)
        return vector / np.linalg.norm(vector)

    moments: list[tuple[float, Seen]] = [
        (frame / 10, [(person(100 + frame), look(0)), (person(400, 150), look(1))]) for frame in range(60)
    ]
    moments += [(6.5 + frame / 10, [(person(400, 150), look(2))]) for frame in range(5)]
    numbers = follow(moments)
    assert numbers[59] == [1, 2]
    assert [each[0] for each in numbers[60:]] == [3] * 5


@pytest.mark.thorough
def test_of_ten_thousand_detections_in_a_frame_so_many_are_followed_as_are_allowed() -> None:
    """Which bounds the time: 0.3 s a frame; the Hungarian method on ten thousand would take minutes."""
    rng = np.random.default_rng(0)
    tracker = Tracker(TrackSettings())
    for frame in range(5):
        boxes = rng.uniform((0, 0), (600, 260), (10_000, 2))
        detections = [Detection((int(x), int(y), 40, 100), float(rng.uniform(0, 1))) for x, y in boxes]
        looks = rng.normal(size=(10_000, 64)).astype(np.float32)
        looks /= np.linalg.norm(looks, axis=1, keepdims=True)
        followed = tracker.update(Frame(frame, None, frame / 10, BLANK), detections, looks)
        assert len(followed) <= 300
        assert len({number for _, number in followed}) == len(followed)
        assert len(tracker.state()["tracks"]) <= 600


def test_numbers_rise_and_are_never_used_again() -> None:
    firsts: list[int] = []
    for each in follow(crowd(80, seed=5), options=TrackSettings(patience=0.2)):
        firsts += [number for number in sorted(each) if number and number not in firsts]
    assert all(after > before for before, after in pairwise(firsts))
