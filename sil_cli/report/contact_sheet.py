"""Search results on one sheet: the query on the left, its matches beside it in rank order.

Right and wrong matches differ in the colour of their frame and, for those who can't tell the colours apart, in
a tick or a cross.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from sil_cli.report.canvas import (
    CARD,
    DECISION_INKS,
    FAINT,
    INK,
    LINE,
    PAGE,
    SMOOTH,
    decision_sign,
    fitted,
    font,
    shorten,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sil_cli.evaluation.calibration import Decision

IMAGE_SIZE = (144, 288)  # pixels; people are about twice as high as wide
MATCHES_IN_A_LINE = 10

QUERY_FRAME = "#1f2937"
FRAMES: dict[bool | None, str] = {True: "#15803d", False: "#c81e1e", None: "#9ca3af"}
LEGEND: dict[bool | None, str] = {True: "same person", False: "another person", None: "identity unknown"}

_MARGIN = 28  # around the sheet
_GAP = 14  # between cards
_FRAME = 4
_PADDING = 8  # between a card's frame and what is in it
_RADIUS = 10
_HEAD = 30  # the line with rank and score
_LINE = 19  # each line of the caption
_BADGE = 30
_LEGEND_HEIGHT = 40
_NARROWEST = 520  # so that the legend fits
_STROKES: dict[bool | None, list[list[tuple[float, float]]]] = {
    True: [[(0.29, 0.53), (0.44, 0.67), (0.71, 0.36)]],
    False: [[(0.34, 0.34), (0.66, 0.66)], [(0.66, 0.34), (0.34, 0.66)]],
    None: [],
}


@dataclass(frozen=True)
class Card:
    """One image on the sheet, and what is written around it.

    Attributes:
        image: Of any size and mode; None where it can't be opened.
        name: The line below it: the person; None where nobody knows.
        facts: The smaller lines below that.
        rank: From 1; None for a query.
        score: Cosine similarity; None for a query.
        decision: What the score means.
        correct: Whether it shows the query's person; None where that is unknown.
    """

    image: Image.Image | None
    name: str | None = None
    facts: Sequence[str] = ()
    rank: int | None = None
    score: float | None = None
    decision: Decision | None = None
    correct: bool | None = None

    @property
    def lines(self) -> int:
        """The lines of text below the image."""
        return (self.decision is not None) + (self.name is not None) + len(self.facts)


@dataclass(frozen=True)
class SheetRow:
    """A query, of several images where they were fused, and its matches in rank order."""

    query: Sequence[Card]
    matches: Sequence[Card]


@dataclass(frozen=True)
class _Grid:
    """Where everything of one row goes, in pixels."""

    columns: int
    caption_lines: int

    @property
    def card(self) -> tuple[int, int]:
        inside = 2 * (_FRAME + _PADDING)
        width, height = IMAGE_SIZE
        return width + inside, height + _HEAD + self.caption_lines * _LINE + inside

    @property
    def first_match(self) -> int:
        return _MARGIN + self.card[0] + 3 * _GAP

    @property
    def width(self) -> int:
        return self.first_match + self.columns * (self.card[0] + _GAP) - _GAP + _MARGIN

    def height(self, row: SheetRow) -> int:
        """Of a row: of its matches, or of its query's images where these are more."""
        lines = max(len(row.query), -(-len(row.matches) // self.columns))
        return lines * (self.card[1] + _GAP) - _GAP


def contact_sheet(rows: Sequence[SheetRow], *, matches_in_a_line: int = MATCHES_IN_A_LINE) -> Image.Image:
    """Draw queries below each other, each with its matches to the right.

    Args:
        rows: At least one. Images keep their aspect.
        matches_in_a_line: More matches than this go on below the first ones.

    Returns:
        An RGB image.
    """
    grids = _grids(rows, matches_in_a_line)
    sheet = Image.new("RGB", sheet_size(rows, matches_in_a_line=matches_in_a_line), PAGE)
    top = _MARGIN
    for grid, row in zip(grids, rows, strict=True):
        _draw_row(sheet, grid, row, top)
        top += grid.height(row) + 2 * _GAP
    _draw_legend(sheet, {match.correct for row in rows for match in row.matches}, top)
    return sheet


def sheet_size(rows: Sequence[SheetRow], *, matches_in_a_line: int = MATCHES_IN_A_LINE) -> tuple[int, int]:
    """Width and height of a contact sheet of these rows, in pixels, without drawing it."""
    grids = _grids(rows, matches_in_a_line)
    heights = [grid.height(row) for grid, row in zip(grids, rows, strict=True)]
    height = 2 * _MARGIN + sum(heights) + 2 * _GAP * (len(rows) - 1) + _LEGEND_HEIGHT
    return max(grids[0].width, _NARROWEST), height


def pair_sheet(pairs: Sequence[tuple[Card, Card]], *, pairs_in_a_line: int = 4) -> Image.Image:
    """Draw pairs of images side by side, numbered from 1.

    Args:
        pairs: At least one. Images keep their aspect.
        pairs_in_a_line: More pairs than this go on below the first ones.

    Returns:
        An RGB image.
    """
    columns = min(pairs_in_a_line, len(pairs))
    grid = _Grid(2 * columns, max(card.lines for pair in pairs for card in pair))
    across, down = 2 * grid.card[0] + _GAP // 2 + 2 * _GAP, grid.card[1] + 2 * _GAP
    lines = -(-len(pairs) // columns)
    sheet = Image.new("RGB", (columns * across + 2 * _MARGIN - 2 * _GAP, lines * down + 2 * _MARGIN - 2 * _GAP), PAGE)
    for place, (one, other) in enumerate(pairs):
        line, column = divmod(place, columns)
        left, top = _MARGIN + column * across, _MARGIN + line * down
        _draw_card(sheet, grid, one, (left, top), QUERY_FRAME, heading=str(place + 1))
        _draw_card(sheet, grid, other, (left + grid.card[0] + _GAP // 2, top), QUERY_FRAME, heading="")
    return sheet


def _grids(rows: Sequence[SheetRow], matches_in_a_line: int) -> list[_Grid]:
    columns = min(matches_in_a_line, max(1, *[len(row.matches) for row in rows]))
    return [_Grid(columns, max(card.lines for card in (*row.query, *row.matches))) for row in rows]


def _draw_row(sheet: Image.Image, grid: _Grid, row: SheetRow, top: int) -> None:
    for line, card in enumerate(row.query):
        _draw_card(sheet, grid, card, (_MARGIN, top + line * (grid.card[1] + _GAP)), QUERY_FRAME)
    draw = ImageDraw.Draw(sheet)
    bar = _MARGIN + grid.card[0] + 3 * _GAP // 2
    draw.line([(bar, top), (bar, top + grid.height(row) - 1)], fill=LINE, width=2)
    if not row.matches:
        middle = top + grid.card[1] // 2
        draw.text((grid.first_match, middle), "no matches", fill=FAINT, font=font(18), anchor="lm")
    for position, match in enumerate(row.matches):
        line, column = divmod(position, grid.columns)
        corner = (grid.first_match + column * (grid.card[0] + _GAP), top + line * (grid.card[1] + _GAP))
        _draw_card(sheet, grid, match, corner, FRAMES[match.correct])
        if match.correct is not None:
            badge = _badge(match.correct, _BADGE)
            sheet.paste(badge, (corner[0] + grid.card[0] - _BADGE + 5, corner[1] - 7), badge)


def _draw_card(
    sheet: Image.Image, grid: _Grid, card: Card, corner: tuple[int, int], frame: str, *, heading: str | None = None
) -> None:
    left, top = corner
    width, height = grid.card
    _paste_rounded(sheet, corner, grid.card, _RADIUS, frame)
    inner = (left + _FRAME, top + _FRAME)
    _paste_rounded(sheet, inner, (width - 2 * _FRAME, height - 2 * _FRAME), _RADIUS - _FRAME, CARD)
    draw = ImageDraw.Draw(sheet)
    left, top = left + _FRAME + _PADDING, top + _FRAME + _PADDING
    heading = heading if heading is not None else "query" if card.rank is None else str(card.rank)
    draw.text((left, top + 10), heading, fill=INK, font=font(20), anchor="lm")
    if card.score is not None:
        after = left + draw.textlength(heading, font=font(20)) + 10
        draw.text((after, top + 11), f"{card.score:.3f}", fill=FAINT, font=font(16), anchor="lm")
    sheet.paste(fitted(card.image, IMAGE_SIZE), (left, top + _HEAD))
    middle = top + _HEAD + IMAGE_SIZE[1] + 5 + _LINE // 2
    if card.decision is not None:
        sign = decision_sign(card.decision, 14)
        sheet.paste(sign, (left, middle - 7), sign)
        draw.text((left + 20, middle), card.decision, fill=DECISION_INKS[card.decision], font=font(15), anchor="lm")
        middle += _LINE
    named = [] if card.name is None else [(card.name, INK, font(15))]
    for text, ink, letters in [*named, *((fact, FAINT, font(13)) for fact in card.facts)]:
        draw.text((left, middle), shorten(text, letters, IMAGE_SIZE[0]), fill=ink, font=letters, anchor="lm")
        middle += _LINE


def _draw_legend(sheet: Image.Image, shown: set[bool | None], top: int) -> None:
    draw = ImageDraw.Draw(sheet)
    left, middle = _MARGIN, top + _LEGEND_HEIGHT // 2
    for correct, text in LEGEND.items():
        if correct in shown:
            mark = _badge(correct, 22)
            sheet.paste(mark, (left, middle - 11), mark)
            draw.text((left + 30, middle), text, fill=FAINT, font=font(15), anchor="lm")
            left += 30 + round(draw.textlength(text, font=font(15))) + 28


def _badge(correct: bool | None, size: int) -> Image.Image:
    """A round mark with a white rim: a tick, a cross, or nothing."""
    large = size * SMOOTH
    badge = Image.new("RGBA", (large, large), (0, 0, 0, 0))
    draw = ImageDraw.Draw(badge)
    draw.ellipse([0, 0, large - 1, large - 1], fill=PAGE)
    rim = large // 14
    draw.ellipse([rim, rim, large - 1 - rim, large - 1 - rim], fill=FRAMES[correct])
    for stroke in _STROKES[correct]:
        points = [(x * large, y * large) for x, y in stroke]
        draw.line(points, fill=CARD, width=large // 10, joint="curve")
        for x, y in (points[0], points[-1]):  # round ends
            end = large // 20
            draw.ellipse([x - end, y - end, x + end, y + end], fill=CARD)
    return badge.resize((size, size), Image.Resampling.LANCZOS)


def _paste_rounded(
    sheet: Image.Image, corner: tuple[int, int], size: tuple[int, int], radius: int, colour: str
) -> None:
    sheet.paste(colour, (*corner, corner[0] + size[0], corner[1] + size[1]), _rounded(size, radius))


@cache  # the cards of a sheet have few sizes, and to draw all of their masks took half of the time
def _rounded(size: tuple[int, int], radius: int) -> Image.Image:
    large = (size[0] * SMOOTH, size[1] * SMOOTH)
    mask = Image.new("L", large, 0)
    ImageDraw.Draw(mask).rounded_rectangle([0, 0, large[0] - 1, large[1] - 1], radius * SMOOTH, fill=255)
    return mask.resize(size, Image.Resampling.BOX)
