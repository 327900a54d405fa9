from __future__ import annotations

import numpy as np
from PIL import Image, ImageColor

from sil_cli.report import contact_sheet as module
from sil_cli.report.canvas import CARD, DECISION_INKS, PAGE
from sil_cli.report.contact_sheet import FRAMES, IMAGE_SIZE, QUERY_FRAME, Card, SheetRow, contact_sheet

PINK = (255, 0, 200)


def picture(size=(64, 128), colour=PINK, mode="RGB"):
    return Image.new("RGB", size, colour).convert(mode)


def card(rank=None, correct=None, name="p1", **more):
    known = {"image": picture(), "rank": rank, "score": 0.5, "name": name, "facts": ["camera c1"], "correct": correct}
    return Card(**known | more)


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


def test_frames_tell_right_wrong_and_unknown_apart():
    matches = [card(rank, correct) for rank, correct in enumerate((True, False, False, None, True, True), start=1)]
    sheet = contact_sheet([SheetRow([card()], matches)])
    assert sheet.mode == "RGB"
    assert frame_lines(sheet, FRAMES[True]) == 3
    assert frame_lines(sheet, FRAMES[False]) == 2
    assert frame_lines(sheet, FRAMES[None]) == 1
    assert frame_lines(sheet, QUERY_FRAME) == 1


def test_right_and_wrong_differ_without_colour_too():
    def white_in(correct):
        return pixels(module._badge(correct, 30))[..., :3].min(axis=2) > 200

    assert white_in(True).sum() > 20
    assert white_in(False).sum() > 20
    assert (white_in(True) != white_in(False)).sum() > 40


def test_the_query_stands_left_and_matches_in_the_order_given():
    colours = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
    matches = [card(rank, image=picture(colour=colour)) for rank, colour in enumerate(colours, start=1)]
    sheet = contact_sheet([SheetRow([card()], matches)])
    lefts = [places_of(sheet, colour)[1].min() for colour in [PINK, *colours]]
    assert lefts == sorted(lefts)
    assert len({places_of(sheet, colour)[0].min() for colour in [PINK, *colours]}) == 1


def test_more_matches_than_fit_into_a_line_go_on_below():
    matches = [card(rank) for rank in range(1, 8)]
    one, two = (
        contact_sheet([SheetRow([card()], matches)]),
        contact_sheet([SheetRow([card()], matches)], matches_in_a_line=4),
    )
    assert two.width < one.width
    assert runs(places_of(one, PINK)[0]) == 1
    assert runs(places_of(two, PINK)[0]) == 2
    assert runs(places_of(two, PINK)[1]) == 5


def test_every_query_has_a_row_of_its_own():
    rows = [SheetRow([card()], [card(1)]), SheetRow([card()], []), SheetRow([card()], [card(1), card(2)])]
    sheet = contact_sheet(rows)
    assert runs(places_of(sheet, PINK)[0]) == 3
    assert runs(places_of(sheet, PINK)[1]) == 3
    assert runs(places_of(contact_sheet(rows[1:2]), PINK)[1]) == 1


def test_no_caption_leaves_its_card():
    long = "a name that is far too long for the width of one card, by any measure"
    row = SheetRow(
        [card(name=long)],
        [card(1, name=long, facts=[long, "2024-05-01 00:00"]), card(10**6, name=None, facts=[long])],
    )
    sheet = contact_sheet([row])
    size = module._Grid(2, 3).card
    for corner in (module._MARGIN, module._Grid(2, 3).first_match):
        right_edge = corner + size[0] - module._FRAME - module._PADDING
        below_image = module._MARGIN + module._FRAME + module._PADDING + module._HEAD + IMAGE_SIZE[1] + 3
        gutter = sheet.crop(
            (right_edge + 1, below_image, right_edge + module._PADDING - 1, module._MARGIN + size[1] - 12)
        )
        assert (pixels(gutter) == ImageColor.getrgb(CARD)).all()


def test_the_same_cards_give_the_same_sheet():
    rows = [SheetRow([card()], [card(1, True), card(2, False)])]
    assert contact_sheet(rows).tobytes() == contact_sheet(rows).tobytes()


def test_the_legend_fits_the_narrowest_sheet():
    matches = [card(1), card(2, False), card(3)]
    sheet = contact_sheet([SheetRow([card()], matches)], matches_in_a_line=1)
    legend = pixels(sheet)[-module._LEGEND_HEIGHT - module._MARGIN + 5 : -10, -10:]
    assert (legend == ImageColor.getrgb(PAGE)).all()


def test_the_decision_stands_below_the_image():
    def sheet(**more):
        return contact_sheet([SheetRow([Card(None)], [Card(None, rank=1, score=0.5, **more)])])

    assert len(places_of(sheet(decision="match"), DECISION_INKS["match"])[0]) > 50
    assert len(places_of(sheet(), DECISION_INKS["match"])[0]) == 0


def test_images_of_a_fused_query_stand_below_each_other():
    blue = (0, 200, 255)
    sheet = contact_sheet([SheetRow([card(), *[card(image=picture(colour=blue))] * 2], [card(1)])])
    assert runs(places_of(sheet, blue)[0]) == 2
