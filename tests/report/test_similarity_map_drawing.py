from __future__ import annotations

import numpy as np
from PIL import Image

from sil_cli.report.contact_sheet import IMAGE_SIZE
from sil_cli.report.similarity_maps import overlay

GREY = Image.new("RGB", (40, 80), (120, 120, 120))


def test_colours_lie_where_the_shares_are_in_the_pictures_orientation():
    shares = np.zeros((4, 2))
    shares[0, 1], shares[3, 0] = 0.2, -0.2
    drawn = np.asarray(overlay(GREY, shares, scale=0.2)).astype(int)
    assert drawn.shape == (288, 144, 3) == (*IMAGE_SIZE[::-1], 3)
    red, blue = drawn[..., 0] - drawn[..., 2], drawn[..., 2] - drawn[..., 0]
    assert red[18, 126] > 80 > 0 >= red[18, 7]
    assert blue[270, 14] > 80
    assert abs(red[144, 72]) <= 1


def test_nothing_is_coloured_where_nothing_is_shared():
    drawn = np.asarray(overlay(GREY, np.zeros((4, 2)), scale=1.0))
    assert (drawn == drawn[0, 0, 0]).all()
