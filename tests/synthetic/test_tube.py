from __future__ import annotations

import numpy as np
import pytest

from sil_cli.synthetic.tube import Light, Tube, draw_tube

EVEN = Light(angle=0.0, ambient=1.0)


def white(rows: int = 60, columns: int = 40) -> np.ndarray:
    return np.ones((rows, columns, 3), np.float32)


def four_sides() -> np.ndarray:
    """Front red, left green, back blue, right black; (1, 8, 3)."""
    red, green, blue, black = (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0)
    return np.asarray([[blue, black, black, red, red, green, green, blue]], np.float32)


@pytest.mark.parametrize(
    ("turn", "channel"), [(0.0, 0), (np.pi / 2, 1), (np.pi, 2), (-np.pi, 2), (2 * np.pi, 0), (5 * np.pi / 2, 1)]
)
def test_the_side_that_faces_the_camera_shows(turn: float, channel: int) -> None:
    canvas = np.zeros((60, 40, 3), np.float32)
    draw_tube(canvas, Tube((20, 5), (20, 55), (10, 10), four_sides(), turn), EVEN)
    assert canvas[30, 20].argmax() == channel
    assert canvas[30, 20].max() > 0.9


def test_from_the_front_a_persons_left_is_on_the_pictures_right() -> None:
    canvas = np.zeros((60, 40, 3), np.float32)
    draw_tube(canvas, Tube((20, 5), (20, 55), (10, 10), four_sides()), EVEN)
    assert canvas[30, 28, 1] > 0.5
    assert canvas[30, 12].max() < 0.1


@pytest.mark.parametrize(
    ("start", "end"), [((20, 10), (20, 50)), ((8, 12), (30, 47)), ((33, 44), (9, 15)), ((5, 30), (35, 30))]
)
def test_the_outline_is_that_of_the_oracle(start: tuple[float, float], end: tuple[float, float]) -> None:
    halves, caps = (4.0, 7.0), (4.0, 0.0)
    canvas = white()
    draw_tube(canvas, Tube(start, end, halves, np.zeros((1, 1, 3), np.float32), caps=caps), EVEN)
    axis = np.subtract(end, start)
    length = np.hypot(*axis)
    for y in range(60):
        for x in range(40):
            offset = np.subtract((x + 0.5, y + 0.5), start)
            along = offset @ axis / length
            aside = abs(offset[0] * axis[1] - offset[1] * axis[0]) / length
            half = halves[0] + (halves[1] - halves[0]) * np.clip(along / length, 0, 1)
            if along < 0:
                half *= np.sqrt(max(1 - (along / caps[0]) ** 2, 0))
            inside = min(half - aside, along + caps[0], length - along)
            if abs(inside) > 1.2:  # the edge itself is smooth
                assert canvas[y, x, 0] == (0.0 if inside > 0 else 1.0), (x, y)


def test_opacity_lets_the_canvas_through() -> None:
    texture = np.zeros((1, 2, 4), np.float32)
    texture[0, :, 3] = 0.25
    canvas = white()
    draw_tube(canvas, Tube((20, 5), (20, 55), (10, 10), texture), EVEN)
    assert canvas[30, 20] == pytest.approx(np.full(3, 0.75), abs=1e-6)


@pytest.mark.parametrize("place", [(-100.0, 20.0), (20.0, 500.0), (300.0, -300.0)])
def test_a_tube_outside_the_canvas_leaves_it_alone(place: tuple[float, float]) -> None:
    canvas = white()
    draw_tube(canvas, Tube(place, (place[0] + 5, place[1] + 5), (6, 6), np.zeros((1, 1, 3), np.float32)), EVEN)
    assert (canvas == 1).all()


def test_a_tube_seen_end_on_is_still_drawn() -> None:
    canvas = white()
    draw_tube(canvas, Tube((20, 30), (20, 30), (6, 6), np.zeros((1, 1, 3), np.float32), caps=(6, 6)), EVEN)
    assert 60 < (canvas[..., 0] < 0.5).sum() < 160


def test_the_lit_side_is_brighter() -> None:
    canvas = white()
    grey = np.full((1, 1, 3), 0.5, np.float32)
    draw_tube(canvas, Tube((20, 5), (20, 55), (10, 10), grey), Light(angle=1.0, ambient=0.4))
    assert canvas[30, 26, 0] > canvas[30, 14, 0] + 0.05
