from __future__ import annotations

import numpy as np
from PIL import Image

from sil_cli.report.overlay import overlay

GREY = Image.new("RGB", (40, 80), (120, 120, 120))


def test_colours_lie_where_the_shares_are_in_the_pictures_orientation():
    shares = np.zeros((4, 2))
    shares[0, 1], shares[3, 0] = 0.2, -0.2
    drawn = np.asarray(overlay(GREY, shares, scale=0.2)).astype(int)
    assert drawn.shape == (80, 40, 3)
    red, blue = drawn[..., 0] - drawn[..., 2], drawn[..., 2] - drawn[..., 0]
    assert red[5, 35] > 80 > 0 >= red[5, 2]
    assert blue[75, 4] > 80
    assert abs(red[40, 20]) <= 1


def test_nothing_is_coloured_where_nothing_is_shared():
    drawn = np.asarray(overlay(GREY, np.zeros((4, 2)), scale=1.0))
    assert (drawn == drawn[0, 0, 0]).all()
