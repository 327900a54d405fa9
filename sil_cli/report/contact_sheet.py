"""A picture of search results: the query on the left, its matches beside it in rank order.

Right and wrong matches differ in the colour of their frame and, for those who can't tell the colours apart, in
a tick or a cross.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from PIL.ImageFont import FreeTypeFont
    from PIL.ImageFont import ImageFont as BitmapFont

    Font = FreeTypeFont | BitmapFont

Verdict = Literal["right", "wrong", "unknown"]
Decision = Literal["match", "possible", "no match"]

IMAGE_SIZE = (144, 288)  # pixels; people are about twice as high as wide
MATCHES_IN_A_LINE = 10

PAGE = "#f3f4f6"
CARD = "#ffffff"
LETTERBOX = "#e5e7eb"
INK = "#111827"
FAINT = "#6b7280"
QUERY_FRAME = "#1f2937"
FRAMES: dict[Verdict, str] = {"right": "#15803d", "wrong": "#c81e1e", "unknown": "#9ca3af"}
LEGEND: dict[Verdict, str] = {"right": "same person", "wrong": "another person", "unknown": "identity unknown"}

DECISION_INKS: dict[Decision, str] = {"match": "#1d4ed8", "possible": "#92400e", "no match": "#6b7280"}

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
_SMOOTH = 4  # shapes are drawn this much larger and scaled down, as Pillow doesn't smooth them


@dataclass(frozen=True)
class Tile:
    """One image on the sheet; what is None isn't drawn.

    Attributes:
        image: The picture; None where it can't be opened any more.
        identity: The person.
        camera: The camera.
        time: When it was taken.
        rank: From 1; None for a query.
        score: Cosine similarity; None for a query.
        name: Of the file, shown where the identity is unknown.
        domain: The camera network within which the identity is a name.
        decision: What the score means.
        images: Of how many images of one sighting the entry is the mean; only one is shown.
        id: The gallery entry's number, shown where it is a query.
    """

    image: Image.Image | None
    identity: str | None = None
    camera: str | None = None
    time: datetime | None = None
    rank: int | None = None
    score: float | None = None
    name: str | None = None
    domain: str | None = None
    decision: Decision | None = None
    images: int = 1
    id: int | None = None


@dataclass(frozen=True)
class SheetRow:
    """A query and its matches in rank order; `also` are the further pictures of a query that is made of several."""

    query: Tile
    matches: Sequence[Tile]
    also: Sequence[Tile] = ()


@dataclass(frozen=True)
class _Layout:
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
        """Of a row: of its matches, or of its query's pictures where these are more."""
        lines = max(1 + len(row.also), -(-len(row.matches) // self.columns))
        return lines * (self.card[1] + _GAP) - _GAP


def verdict(query: Tile, match: Tile) -> Verdict:
    """Whether a match shows the person of the query, as far as both identities are known in one network."""
    if query.identity is None or match.identity is None or query.domain != match.domain:
        return "unknown"
    return "right" if query.identity == match.identity else "wrong"


def contact_sheet(rows: Sequence[SheetRow], *, matches_in_a_line: int = MATCHES_IN_A_LINE) -> Image.Image:
    """Draw queries below each other, each with its matches to the right.

    Args:
        rows: At least one. Images may be of any size and mode; they keep their aspect.
        matches_in_a_line: More matches than this go on below the first ones.

    Returns:
        An RGB image.
    """
    columns = min(matches_in_a_line, max(1, *[len(row.matches) for row in rows]))
    layouts = [_Layout(columns, max(map(_lines, (row.query, *row.also, *row.matches)))) for row in rows]
    heights = [layout.height(row) for layout, row in zip(layouts, rows, strict=True)]
    height = 2 * _MARGIN + sum(heights) + 2 * _GAP * (len(rows) - 1) + _LEGEND_HEIGHT
    sheet = Image.new("RGB", (max(layouts[0].width, _NARROWEST), height), PAGE)
    top = _MARGIN
    for layout, row in zip(layouts, rows, strict=True):
        _draw_row(sheet, layout, row, top)
        top += layout.height(row) + 2 * _GAP
    shown = {verdict(row.query, match) for row in rows for match in row.matches}
    _draw_legend(sheet, shown, top)
    return sheet


def _draw_row(sheet: Image.Image, layout: _Layout, row: SheetRow, top: int) -> None:
    for line, tile in enumerate((row.query, *row.also)):
        _draw_card(sheet, layout, tile, (_MARGIN, top + line * (layout.card[1] + _GAP)), QUERY_FRAME)
    draw = ImageDraw.Draw(sheet)
    bar = _MARGIN + layout.card[0] + 3 * _GAP // 2
    draw.line([(bar, top), (bar, top + layout.height(row) - 1)], fill="#d1d5db", width=2)
    if not row.matches:
        middle = top + layout.card[1] // 2
        draw.text((layout.first_match, middle), "no matches", fill=FAINT, font=_font(18), anchor="lm")
    for position, match in enumerate(row.matches):
        line, column = divmod(position, layout.columns)
        corner = (layout.first_match + column * (layout.card[0] + _GAP), top + line * (layout.card[1] + _GAP))
        kind = verdict(row.query, match)
        _draw_card(sheet, layout, match, corner, FRAMES[kind])
        if kind != "unknown":
            badge = _badge(kind, _BADGE)
            at = (corner[0] + layout.card[0] - _BADGE + 5, corner[1] - 7)
            sheet.paste(badge, at, badge)


def _draw_card(sheet: Image.Image, layout: _Layout, tile: Tile, corner: tuple[int, int], frame: str) -> None:
    left, top = corner
    width, height = layout.card
    _paste_rounded(sheet, corner, layout.card, _RADIUS, frame)
    inner = (left + _FRAME, top + _FRAME)
    _paste_rounded(sheet, inner, (width - 2 * _FRAME, height - 2 * _FRAME), _RADIUS - _FRAME, CARD)
    draw = ImageDraw.Draw(sheet)
    left, top = left + _FRAME + _PADDING, top + _FRAME + _PADDING
    heading = "query" if tile.rank is None else str(tile.rank)
    draw.text((left, top + 10), heading, fill=INK, font=_font(20), anchor="lm")
    if tile.score is not None:
        after = left + draw.textlength(heading, font=_font(20)) + 10
        draw.text((after, top + 11), f"{tile.score:.3f}", fill=FAINT, font=_font(16), anchor="lm")
    top += _HEAD
    sheet.paste(_fitted(tile.image), (left, top))
    top += IMAGE_SIZE[1] + 5
    if tile.decision is not None:
        sign = decision_sign(tile.decision, 14)
        sheet.paste(sign, (left, top + _LINE // 2 - 7), sign)
        ink = DECISION_INKS[tile.decision]
        draw.text((left + 20, top + _LINE // 2), tile.decision, fill=ink, font=_font(15), anchor="lm")
        top += _LINE
    for number, (text, ink) in enumerate(_caption(tile)):
        font = _font(15 if ink == INK else 13)
        line = shorten(text, font, IMAGE_SIZE[0])
        draw.text((left, top + number * _LINE + _LINE // 2), line, fill=ink, font=font, anchor="lm")


def _lines(tile: Tile) -> int:
    """The lines of text below an image."""
    return len(_caption(tile)) + (tile.decision is not None)


def _caption(tile: Tile) -> list[tuple[str, str]]:
    """The lines below an image with their ink, the most important first."""
    lines = [(tile.identity, INK)] if tile.identity is not None else [(tile.name or "unknown", FAINT)]
    if tile.camera is not None:
        lines.append((f"camera {tile.camera}", FAINT))
    if tile.time is not None:
        lines.append((tile.time.strftime("%Y-%m-%d %H:%M"), FAINT))
    if tile.images > 1:
        lines.append((f"tracklet of {tile.images} images", FAINT))
    return lines


def shorten(text: str, font: Font, width: float) -> str:
    """The text, or its beginning and end around an ellipsis so that it fits into `width` pixels."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    if font.getlength(text) <= width:
        return text
    for kept in range(len(text) - 1, 1, -1):
        shorter = f"{text[: kept // 2]}…{text[-(kept - kept // 2) :]}"
        if font.getlength(shorter) <= width:
            return shorter
    return "…"


def _fitted(image: Image.Image | None) -> Image.Image:
    """The image scaled into the middle of a tile, with bars where its aspect is another."""
    tile = Image.new("RGB", IMAGE_SIZE, LETTERBOX)
    if image is None:
        _draw_placeholder(tile)
        return tile
    scale = min(IMAGE_SIZE[0] / image.width, IMAGE_SIZE[1] / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    scaled = image.convert("RGBA").resize(size, Image.Resampling.LANCZOS)
    tile.paste(scaled, ((IMAGE_SIZE[0] - size[0]) // 2, (IMAGE_SIZE[1] - size[1]) // 2), scaled)
    return tile


def _draw_placeholder(tile: Image.Image) -> None:
    draw = ImageDraw.Draw(tile)
    x, y = IMAGE_SIZE[0] // 2, IMAGE_SIZE[1] // 2
    draw.text((x, y - 10), "no image", fill=FAINT, font=_font(16), anchor="mm")
    draw.text((x, y + 12), "moved or unreadable", fill=FAINT, font=_font(13), anchor="mm")


def _draw_legend(sheet: Image.Image, shown: set[Verdict], top: int) -> None:
    draw = ImageDraw.Draw(sheet)
    left, middle = _MARGIN, top + _LEGEND_HEIGHT // 2
    for kind in (kind for kind in LEGEND if kind in shown):
        mark = _badge(kind, 22)
        sheet.paste(mark, (left, middle - 11), mark)
        draw.text((left + 30, middle), LEGEND[kind], fill=FAINT, font=_font(15), anchor="lm")
        left += 30 + round(draw.textlength(LEGEND[kind], font=_font(15))) + 28


def decision_sign(decision: Decision, size: int) -> Image.Image:
    """A round sign that tells decisions apart without colour: full, half full or empty."""
    large = size * _SMOOTH
    sign = Image.new("RGBA", (large, large), (0, 0, 0, 0))
    draw = ImageDraw.Draw(sign)
    ink = DECISION_INKS[decision]
    whole = [0, 0, large - 1, large - 1]
    draw.ellipse(whole, outline=ink, width=large // 7)
    if decision == "match":
        draw.ellipse(whole, fill=ink)
    elif decision == "possible":
        draw.pieslice(whole, 90, 270, fill=ink)
    return sign.resize((size, size), Image.Resampling.LANCZOS)


def stacked(pictures: Sequence[Image.Image]) -> Image.Image:
    """Pictures below each other on one page, the first at the top; a single one as it is."""
    if len(pictures) == 1:
        return pictures[0]
    page = Image.new("RGB", (max(each.width for each in pictures), sum(each.height for each in pictures)), PAGE)
    top = 0
    for each in pictures:
        page.paste(each, (0, top))
        top += each.height
    return page


def _badge(kind: Verdict, size: int) -> Image.Image:
    """A round mark with a white rim: a tick, a cross, or nothing."""
    large = size * _SMOOTH
    badge = Image.new("RGBA", (large, large), (0, 0, 0, 0))
    draw = ImageDraw.Draw(badge)
    draw.ellipse([0, 0, large - 1, large - 1], fill=PAGE)
    rim = large // 14
    draw.ellipse([rim, rim, large - 1 - rim, large - 1 - rim], fill=FRAMES[kind])
    strokes: dict[Verdict, list[list[tuple[float, float]]]] = {
        "right": [[(0.29, 0.53), (0.44, 0.67), (0.71, 0.36)]],
        "wrong": [[(0.34, 0.34), (0.66, 0.66)], [(0.66, 0.34), (0.34, 0.66)]],
        "unknown": [],
    }
    for stroke in strokes[kind]:
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
    large = (size[0] * _SMOOTH, size[1] * _SMOOTH)
    mask = Image.new("L", large, 0)
    ImageDraw.Draw(mask).rounded_rectangle([0, 0, large[0] - 1, large[1] - 1], radius * _SMOOTH, fill=255)
    return mask.resize(size, Image.Resampling.BOX)


@cache  # Pillow unpacks its font anew each time
def _font(size: int) -> Font:
    return ImageFont.load_default(size)
