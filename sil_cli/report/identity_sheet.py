"""A sheet of people × cameras: a row a person, a column a camera, so that what each camera does to them is seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from sil_cli.report.contact_sheet import CARD, FAINT, INK, LETTERBOX, PAGE, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sil_cli.report.contact_sheet import Font

TILE = (64, 128)
"""Width and height of each picture on the sheet, in pixels."""

SPLIT_COLOURS = {"train": "#2563eb", "query": "#c2410c", "gallery": "#7c3aed"}

_MARGIN, _GAP, _PADDING = 24, 3, 7
_TITLE, _HEAD, _FOOT = 40, 30, 6  # heights of a section's title, of its line of cameras, of a picture's coloured line
_LABEL = 96  # width of the column of identities
_LEGEND = 30


@dataclass(frozen=True)
class Cell:
    """One person seen by one camera.

    Attributes:
        pictures: (picture, split) from left to right; None for one that can't be opened.
        more: How many further ones there are.
    """

    pictures: Sequence[tuple[Image.Image | None, str]]
    more: int = 0


@dataclass(frozen=True)
class PersonRow:
    """One person: a cell for each camera of the section, in its order."""

    identity: str
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Section:
    """One data set.

    Attributes:
        title: Above its rows.
        note: In small letters beside the title.
        cameras: A column each.
    """

    title: str
    note: str
    cameras: Sequence[str]
    rows: Sequence[PersonRow]


def identity_sheet(sections: Sequence[Section]) -> Image.Image:
    """Draw the sections below each other.

    Returns:
        An RGB image.

    Raises:
        ValueError: There is no section.
    """
    if not sections:
        raise ValueError("a sheet needs at least one section")
    slots = max((len(cell.pictures) for each in sections for row in each.rows for cell in row.cells), default=1) or 1
    column = slots * (TILE[0] + _GAP) - _GAP + 2 * _PADDING
    line = TILE[1] + _FOOT + 2 * _PADDING
    columns = max(len(section.cameras) for section in sections)
    heights = [_TITLE + _HEAD + len(section.rows) * line for section in sections]
    width = max(2 * _MARGIN + _LABEL + columns * column, 560)
    sheet = Image.new("RGB", (width, 2 * _MARGIN + sum(heights) + _MARGIN * (len(sections) - 1) + _LEGEND), PAGE)
    top = _MARGIN
    for section, height in zip(sections, heights, strict=True):
        _draw_section(sheet, section, top, column, line)
        top += height + _MARGIN
    shown = {split for each in sections for row in each.rows for cell in row.cells for _, split in cell.pictures}
    _draw_legend(ImageDraw.Draw(sheet), [split for split in SPLIT_COLOURS if split in shown], top - _MARGIN)
    return sheet


def _draw_section(sheet: Image.Image, section: Section, top: int, column: int, line: int) -> None:
    draw = ImageDraw.Draw(sheet)
    title = shorten(section.title, _font(22), sheet.width / 2)
    draw.text((_MARGIN, top + _TITLE // 2), title, fill=INK, font=_font(22), anchor="lm")
    after = _MARGIN + draw.textlength(title, font=_font(22)) + 16
    note = shorten(section.note, _font(14), max(sheet.width - after - _MARGIN, 1))
    draw.text((after, top + _TITLE // 2 + 3), note, fill=FAINT, font=_font(14), anchor="lm")
    top += _TITLE
    first = _MARGIN + _LABEL
    for place, camera in enumerate(section.cameras):
        middle = first + place * column + column // 2
        text = shorten(camera, _font(15), column - 6)
        draw.text((middle, top + _HEAD // 2), text, fill=INK, font=_font(15), anchor="mm")
    top += _HEAD
    right, bottom = first + len(section.cameras) * column, top + len(section.rows) * line
    draw.rounded_rectangle([first, top, right, bottom], 8, fill=CARD)
    for number, row in enumerate(section.rows):
        middle = top + number * line + line // 2
        draw.text((_MARGIN, middle), shorten(row.identity, _font(15), _LABEL - 10), INK, _font(15), anchor="lm")
        for place, cell in enumerate(row.cells):
            _draw_cell(sheet, cell, (first + place * column + _PADDING, top + number * line + _PADDING), column)
        if number:
            draw.line([first, top + number * line, right, top + number * line], fill=LETTERBOX)
    for place in range(1, len(section.cameras)):
        draw.line([first + place * column, top, first + place * column, bottom], fill=LETTERBOX)


def _draw_cell(sheet: Image.Image, cell: Cell, corner: tuple[int, int], column: int) -> None:
    draw = ImageDraw.Draw(sheet)
    left, top = corner
    if not cell.pictures:
        middle = (left - _PADDING + column // 2, top + TILE[1] // 2)
        draw.text(middle, "–", fill="#9ca3af", font=_font(18), anchor="mm")
    for place, (picture, split) in enumerate(cell.pictures):
        x = left + place * (TILE[0] + _GAP)
        sheet.paste(_fitted(picture), (x, top))
        draw.rectangle([x, top + TILE[1] + 2, x + TILE[0] - 1, top + TILE[1] + 4], fill=SPLIT_COLOURS.get(split, FAINT))
    if cell.more:
        text = f"+{cell.more}"
        right, bottom = left + len(cell.pictures) * (TILE[0] + _GAP) - _GAP, top + TILE[1]
        wide = round(draw.textlength(text, font=_font(12))) + 8
        draw.rounded_rectangle([right - wide, bottom - 17, right - 1, bottom - 1], 4, fill=INK)
        draw.text((right - wide // 2, bottom - 9), text, fill=CARD, font=_font(12), anchor="mm")


def _fitted(picture: Image.Image | None) -> Image.Image:
    """The picture scaled into the middle of its tile, with bars where its aspect is another."""
    tile = Image.new("RGB", TILE, LETTERBOX)
    if picture is None:
        draw = ImageDraw.Draw(tile)
        draw.text((TILE[0] // 2, TILE[1] // 2), "unreadable", fill=FAINT, font=_font(11), anchor="mm")
        return tile
    scale = min(TILE[0] / picture.width, TILE[1] / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    scaled = picture.resize(size, Image.Resampling.LANCZOS)
    tile.paste(scaled, ((TILE[0] - size[0]) // 2, (TILE[1] - size[1]) // 2))
    return tile


def _draw_legend(draw: ImageDraw.ImageDraw, splits: Sequence[str], top: int) -> None:
    left, middle = _MARGIN + _LABEL, top + _LEGEND // 2 + 6
    for split in splits:
        draw.rectangle([left, middle - 2, left + 22, middle + 1], fill=SPLIT_COLOURS[split])
        draw.text((left + 30, middle), split, fill=FAINT, font=_font(14), anchor="lm")
        left += 30 + round(draw.textlength(split, font=_font(14))) + 26


def _font(size: int) -> Font:
    return ImageFont.load_default(size)
