from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image, ImageColor

from sil_cli.errors import SilError
from sil_cli.report.canvas import (
    DECISION_INKS,
    LETTERBOX,
    data_uri,
    decision_sign,
    fitted,
    font,
    shorten,
    shrunk,
    stacked,
    thumbnail_uri,
    write_sheet,
)

PINK = (255, 0, 200)
TILE = (144, 288)


def picture(size=(64, 128), mode="RGB"):
    return Image.new("RGB", size, PINK).convert(mode)


def pixels(image):
    return np.asarray(image).astype(int)


def places_of(image, colour):
    """Rows and columns of the pixels of exactly this colour."""
    wanted = np.array(ImageColor.getrgb(colour) if isinstance(colour, str) else colour)
    return np.nonzero((pixels(image) == wanted).all(axis=2))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((64, 128), (144, 288)),
        ((300, 100), (144, 48)),
        ((10, 400), (7, 288)),
        ((5000, 1), (144, 1)),
        ((1, 1), (144, 144)),
    ],
)
def test_the_aspect_is_kept_between_bars(size, expected):
    tile = fitted(picture(size), TILE)
    assert tile.size == TILE
    rows, columns = places_of(tile, PINK)
    assert (np.ptp(columns) + 1, np.ptp(rows) + 1) == expected
    bars = len(places_of(tile, LETTERBOX)[0])
    assert bars == TILE[0] * TILE[1] - expected[0] * expected[1]
    assert abs((rows.min() + rows.max() + 1) / 2 - TILE[1] / 2) <= 0.5  # in the middle


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_images_of_any_mode_are_drawn(mode):
    image = Image.new("I;16", (20, 40), 7) if mode == "I;16" else picture(mode=mode)
    assert fitted(image, TILE).mode == "RGB"


def test_what_is_transparent_shows_the_ground():
    clear = Image.new("RGBA", (10, 20), (255, 0, 0, 0))
    assert len(places_of(fitted(clear, TILE), LETTERBOX)[0]) == TILE[0] * TILE[1]


def test_a_missing_image_becomes_a_placeholder_with_words():
    placeholder = fitted(None, TILE)
    assert placeholder.size == TILE
    assert 50 < (pixels(placeholder) != ImageColor.getrgb(LETTERBOX)).any(axis=2).sum() < 5000


def test_long_texts_are_shortened_to_the_width_and_keep_both_ends():
    letters = font(13)
    text = "entrance/2024/05/01/camera-7/frame_000123.jpg"
    for width in (40, 100, 144):
        shorter = shorten(text, letters, width)
        assert letters.getlength(shorter) <= width
        assert "…" in shorter
    assert shorten(text, letters, 144).startswith("entr")
    assert shorten(text, letters, 144).endswith("123.jpg")
    assert shorten("short", letters, 144) == "short"
    assert shorten("two\nlines\x1b\u202e", letters, 200) == r"two\nlines\x1b\u202e"
    assert shorten("wide", letters, 1) == "…"


def test_sheets_are_stacked_whole():
    page = stacked([Image.new("RGB", (30, 10), PINK), Image.new("RGB", (50, 20), PINK)])
    assert page.size == (50, 30)
    assert len(places_of(page, PINK)[0]) == 30 * 10 + 50 * 20


def test_decisions_differ_without_colour():
    signs = [np.asarray(decision_sign(each, 16))[..., 3] > 128 for each in DECISION_INKS]
    areas = [sign.sum() for sign in signs]
    assert areas[0] > areas[1] > areas[2] > 0
    assert areas[1] > 1.2 * areas[2]


def test_data_uris_hold_the_bytes():
    assert data_uri(b"\0\1", "image/png") == "data:image/png;base64,AAE="


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_thumbnails_are_small_jpegs_whatever_the_image(mode):
    noise = np.random.default_rng(0).integers(0, 256, (900, 400, 3), dtype=np.uint8)
    kind, content = thumbnail_uri(Image.fromarray(noise).convert(mode), (96, 192)).split(",")
    with Image.open(io.BytesIO(base64.b64decode(content))) as small:
        assert (kind, small.format, small.size) == ("data:image/jpeg;base64", "JPEG", (85, 192))
    assert len(content) < 30_000


def test_a_sheet_beyond_its_file_type_is_refused_in_words(tmp_path):
    sheet = Image.new("RGB", (4, 16_384))
    with pytest.raises(SilError, match=r"4 × 16,384 pixels; a .webp file holds 16,383") as caught:
        write_sheet(tmp_path / "s.webp", sheet, users_own=True)
    assert ".png" in caught.value.fix
    write_sheet(tmp_path / "s.png", sheet, users_own=True)
    assert [path.name for path in tmp_path.iterdir()] == ["s.png"]


def test_a_shrunk_image_looks_the_same_in_its_tile():
    noise = np.random.default_rng(0).integers(0, 256, (400, 300, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    small = shrunk(image, (144, 288))
    assert small.size == (144, 192)
    assert fitted(small, (144, 288)).tobytes() == fitted(image, (144, 288)).tobytes()
    assert shrunk(small, (144, 288)) is small


def test_endless_texts_are_shortened_at_once():
    letters = font(15)
    assert shorten("x" * 10_000_000 + "end", letters, 144).endswith("end")
