from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest
from PIL import Image, ImageColor, ImageFont

from sil_cli.report import contact_sheet as module
from sil_cli.report.contact_sheet import (
    CARD,
    FRAMES,
    IMAGE_SIZE,
    LETTERBOX,
    QUERY_FRAME,
    SheetRow,
    Tile,
    contact_sheet,
    shorten,
    verdict,
)

PINK = (255, 0, 200)


def picture(size=(64, 128), colour=PINK, mode="RGB"):
    return Image.new("RGB", size, colour).convert(mode)


def tile(rank=None, identity="p1", **more):
    return Tile(**{"image": picture(), "rank": rank, "score": 0.5, "identity": identity, "camera": "c1"} | more)


def pixels(sheet):
    return np.asarray(sheet).astype(int)


def places_of(sheet, colour):
    """Rows and columns of the pixels of exactly this colour."""
    wanted = np.array(ImageColor.getrgb(colour) if isinstance(colour, str) else colour)
    return np.nonzero((pixels(sheet) == wanted).all(axis=2))


def runs(positions):
    """The number of groups of consecutive positions."""
    unique = np.unique(positions)
    return 1 + int((np.diff(unique) > 1).sum()) if len(unique) else 0


def frame_lines(sheet, colour):
    """How many frames of a colour stand side by side, on a line through the middle of the first images."""
    middle = module._MARGIN + module._FRAME + module._PADDING + module._HEAD + IMAGE_SIZE[1] // 2
    return runs(places_of(sheet.crop((0, middle, sheet.width, middle + 1)), colour)[1]) // 2


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("p1", "p1", "right"),
        ("p1", "p2", "wrong"),
        (None, "p1", "unknown"),
        ("p1", None, "unknown"),
        (None, None, "unknown"),
    ],
)
def test_a_match_is_judged_only_where_both_identities_are_known(one, other, expected):
    assert verdict(tile(identity=one), tile(identity=other)) == expected


def test_frames_tell_right_wrong_and_unknown_apart():
    matches = [tile(1), tile(2, "p2"), tile(3, "p2"), tile(4, None), tile(5), tile(6)]
    sheet = contact_sheet([SheetRow(tile(), matches)])
    assert sheet.mode == "RGB"
    assert frame_lines(sheet, FRAMES["right"]) == 3
    assert frame_lines(sheet, FRAMES["wrong"]) == 2
    assert frame_lines(sheet, FRAMES["unknown"]) == 1
    assert frame_lines(sheet, QUERY_FRAME) == 1


def test_right_and_wrong_differ_without_colour_too():
    def white_in(kind):
        return pixels(module._badge(kind, 30))[..., :3].min(axis=2) > 200

    assert white_in("right").sum() > 20
    assert white_in("wrong").sum() > 20
    assert (white_in("right") != white_in("wrong")).sum() > 40


def test_the_query_stands_left_and_matches_in_the_order_given():
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
    matches = [tile(rank, image=picture(colour=colour)) for rank, colour in enumerate(colours, start=1)]
    sheet = contact_sheet([SheetRow(tile(), matches)])
    lefts = [places_of(sheet, colour)[1].min() for colour in [PINK, *colours]]
    assert lefts == sorted(lefts)
    assert len({places_of(sheet, colour)[0].min() for colour in [PINK, *colours]}) == 1


def test_more_matches_than_fit_into_a_line_go_on_below():
    matches = [tile(rank) for rank in range(1, 8)]
    one, two = (
        contact_sheet([SheetRow(tile(), matches)]),
        contact_sheet([SheetRow(tile(), matches)], matches_in_a_line=4),
    )
    assert two.width < one.width
    assert runs(places_of(one, PINK)[0]) == 1
    assert runs(places_of(two, PINK)[0]) == 2
    assert runs(places_of(two, PINK)[1]) == 5


def test_every_query_has_a_row_of_its_own():
    rows = [SheetRow(tile(), [tile(1)]), SheetRow(tile(), []), SheetRow(tile(), [tile(1), tile(2)])]
    sheet = contact_sheet(rows)
    assert runs(places_of(sheet, PINK)[0]) == 3
    assert runs(places_of(sheet, PINK)[1]) == 3
    assert runs(places_of(contact_sheet(rows[1:2]), PINK)[1]) == 1


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
    fitted = module._fitted(picture(size))
    assert fitted.size == IMAGE_SIZE
    rows, columns = places_of(fitted, PINK)
    assert (np.ptp(columns) + 1, np.ptp(rows) + 1) == expected
    bars = len(places_of(fitted, LETTERBOX)[0])
    assert bars == IMAGE_SIZE[0] * IMAGE_SIZE[1] - expected[0] * expected[1]
    assert abs((rows.min() + rows.max() + 1) / 2 - IMAGE_SIZE[1] / 2) <= 0.5  # in the middle


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_images_of_any_mode_are_drawn(mode):
    image = Image.new("I;16", (20, 40), 7) if mode == "I;16" else picture(mode=mode)
    assert module._fitted(image).mode == "RGB"


def test_what_is_transparent_shows_the_tile():
    clear = Image.new("RGBA", (10, 20), (255, 0, 0, 0))
    assert len(places_of(module._fitted(clear), LETTERBOX)[0]) == IMAGE_SIZE[0] * IMAGE_SIZE[1]


def test_a_missing_image_becomes_a_placeholder_with_words():
    placeholder = module._fitted(None)
    assert placeholder.size == IMAGE_SIZE
    assert 50 < (pixels(placeholder) != ImageColor.getrgb(LETTERBOX)).any(axis=2).sum() < 5000
    contact_sheet([SheetRow(tile(image=None), [tile(1, image=None)])])


def test_long_texts_are_shortened_to_the_width_and_keep_both_ends():
    font = ImageFont.load_default(13)
    text = "entrance/2024/05/01/camera-7/frame_000123.jpg"
    for width in (40, 100, 144):
        shorter = shorten(text, font, width)
        assert font.getlength(shorter) <= width
        assert "…" in shorter
    assert shorten(text, font, 144).startswith("entr")
    assert shorten(text, font, 144).endswith("123.jpg")
    assert shorten("short", font, 144) == "short"
    assert shorten("two\nlines\t\x00", font, 144) == "two?lines??"
    assert shorten("wide", font, 1) == "…"


def test_no_caption_leaves_its_card():
    long = "a name that is far too long for the width of one card, by any measure"
    row = SheetRow(
        tile(identity=long),
        [tile(1, long, camera=long, time=datetime(2024, 5, 1)), tile(10**6, None, name=long)],
    )
    sheet = contact_sheet([row])
    card = module._Layout(2, 3).card
    for corner in (module._MARGIN, module._Layout(2, 3).first_match):
        right_edge = corner + card[0] - module._FRAME - module._PADDING
        below_image = module._MARGIN + module._FRAME + module._PADDING + module._HEAD + IMAGE_SIZE[1] + 3
        gutter = sheet.crop(
            (right_edge + 1, below_image, right_edge + module._PADDING - 1, module._MARGIN + card[1] - 12)
        )
        assert (pixels(gutter) == ImageColor.getrgb(CARD)).all()


def test_captions_say_what_is_known():
    known = tile(1, "p7", camera="c3", time=datetime(2024, 5, 1, 12, 30), name="x.jpg")
    assert [text for text, _ in module._caption(known)] == ["p7", "camera c3", "2024-05-01 12:30"]
    assert [text for text, _ in module._caption(Tile(None, name="x.jpg"))] == ["x.jpg"]
    assert [text for text, _ in module._caption(Tile(None))] == ["unknown"]


def test_the_same_tiles_give_the_same_picture():
    rows = [SheetRow(tile(), [tile(1), tile(2, "p2")])]
    assert contact_sheet(rows).tobytes() == contact_sheet(rows).tobytes()


def test_the_legend_fits_the_narrowest_sheet():
    matches = [tile(1), tile(2, "p2"), tile(3, None)]
    sheet = contact_sheet([SheetRow(tile(), matches)], matches_in_a_line=1)
    legend = pixels(sheet)[-module._LEGEND_HEIGHT - module._MARGIN + 5 : -10, -10:]
    assert (legend == ImageColor.getrgb(module.PAGE)).all()
