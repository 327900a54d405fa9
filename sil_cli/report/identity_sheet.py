"""A sheet of people × cameras: a row a person, a column a camera, so that what each camera does to them is seen."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from sil_cli.data.images import ImageError
from sil_cli.report.canvas import CARD, FAINT, INK, LETTERBOX, PAGE, fitted, font, shorten, tallest
from sil_cli.report.dataset_numbers import camera_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sil_cli.data.manifest import Dataset, ImageRecord
    from sil_cli.report.dataset_numbers import Shown

TILE = (64, 128)
"""Width and height of each image on the sheet, in pixels."""

SPLIT_COLOURS = {"train": "#2563eb", "query": "#c2410c", "gallery": "#7c3aed"}
MOST_CAMERAS = 16
"""More columns than these are not drawn: the cameras with most images are."""

_MARGIN, _GAP, _PADDING = 24, 3, 7
_TITLE, _HEAD, _FOOT = 40, 30, 6  # heights of a table's title, of its line of cameras, of an image's coloured line
_LABEL = 96  # width of the column of identities
_LEGEND = 30


@dataclass(frozen=True)
class Cell:
    """One person seen by one camera.

    Attributes:
        images: (image, split) from left to right; None for one that can't be opened.
        more: How many further ones there are.
    """

    images: Sequence[tuple[Image.Image | None, str]] = ()
    more: int = 0


@dataclass(frozen=True)
class PeopleTable:
    """One data set's people and cameras.

    Attributes:
        title: Above its rows.
        note: In small letters beside the title.
        cameras: A column each.
        rows: Each identity with a cell for every camera, in their order.
    """

    title: str
    note: str
    cameras: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell]]]

    @property
    def cells(self) -> list[Cell]:
        """All of them."""
        return [cell for _, cells in self.rows for cell in cells]


def people_that_fit(shown: Sequence[Shown], path: Path) -> int:
    """How many people of each data set a sheet of this file type has room for, two images a camera; at least one."""
    cameras = max(min(len(each.cameras), MOST_CAMERAS) for each in shown)
    width = 2 * _MARGIN + _LABEL + cameras * (2 * (TILE[0] + _PADDING) + _GAP)
    room = (tallest(path, width) - _MARGIN - _LEGEND) // len(shown) - _MARGIN - _TITLE - _HEAD
    return max(1, room // (TILE[1] + _FOOT + 2 * _PADDING))


def choose_people(shown: Shown, *, identities: int, seed: int) -> PeopleTable:
    """The table of a data set's people whom most cameras saw.

    Args:
        shown: The data set.
        identities: How many people.
        seed: Draws among those whom equally many cameras saw.
    """
    places: dict[tuple[str, str | None], list[ImageRecord]] = {}
    for record in (each for each in shown.records if each.is_named):
        places.setdefault((record.identity, record.camera), []).append(record)
    images = {camera: sum(record.camera == camera for record in shown.records) for camera in shown.cameras}
    drawn = set(sorted(images, key=lambda camera: -images[camera])[:MOST_CAMERAS])
    cameras = [camera for camera in shown.cameras if camera in drawn]
    people = seen_by_most(list(places), identities, seed)
    more = f", {len(cameras)} of them drawn" if len(cameras) < len(shown.cameras) else ""
    known = "no camera known" if shown.cameras == [None] else f"{len(shown.cameras)} cameras{more}"
    everyone = len({identity for identity, _ in places})
    return PeopleTable(
        title=shown.dataset.name,
        note=f"{len(people)} of {everyone:,} people, those whom most cameras saw; {known}",
        cameras=[camera_name(camera) for camera in cameras],
        rows=[
            (identity, [_cell(shown.dataset, places.get((identity, camera), [])) for camera in cameras])
            for identity in people
        ],
    )


def seen_by_most(places: Sequence[tuple[str, str | None]], count: int, seed: int) -> list[str]:
    """The identities that most cameras saw; among equals the seed draws.

    Args:
        places: (identity, camera), each once.
        count: How many to choose.
        seed: Same seed, same people.

    Returns:
        Their names, sorted.
    """
    seen = Counter(identity for identity, _ in places)
    names = sorted(seen)
    shuffled = [names[place] for place in np.random.default_rng(seed).permutation(len(names))]
    return sorted(sorted(shuffled, key=lambda identity: -seen[identity])[:count])


def _cell(dataset: Dataset, records: Sequence[ImageRecord]) -> Cell:
    """The first and the last image: the two that are farthest apart in time, as a rule."""
    chosen = [*records[:1], *records[1:][-1:]]
    return Cell([(_open(dataset, record), record.split) for record in chosen], more=len(records) - len(chosen))


def _open(dataset: Dataset, record: ImageRecord) -> Image.Image | None:
    try:
        return fitted(dataset.load_image(record), TILE)
    except ImageError:
        return None  # the numbers name it


def identity_sheet(tables: Sequence[PeopleTable]) -> Image.Image:
    """Draw the tables below each other.

    Returns:
        An RGB image.

    Raises:
        ValueError: There is no table.
    """
    if not tables:
        raise ValueError("a sheet needs at least one table of people")
    cells = [cell for table in tables for cell in table.cells]
    slots = max((len(cell.images) for cell in cells), default=1) or 1
    column = slots * (TILE[0] + _GAP) - _GAP + 2 * _PADDING
    line = TILE[1] + _FOOT + 2 * _PADDING
    columns = max(len(table.cameras) for table in tables)
    heights = [_TITLE + _HEAD + len(table.rows) * line for table in tables]
    width = max(2 * _MARGIN + _LABEL + columns * column, 560)
    sheet = Image.new("RGB", (width, 2 * _MARGIN + sum(heights) + _MARGIN * (len(tables) - 1) + _LEGEND), PAGE)
    top = _MARGIN
    for table, height in zip(tables, heights, strict=True):
        _draw_table(sheet, table, top, column, line)
        top += height + _MARGIN
    shown = {split for cell in cells for _, split in cell.images}
    _draw_legend(ImageDraw.Draw(sheet), [split for split in SPLIT_COLOURS if split in shown], top - _MARGIN)
    return sheet


def _draw_table(sheet: Image.Image, table: PeopleTable, top: int, column: int, line: int) -> None:
    draw = ImageDraw.Draw(sheet)
    title = shorten(table.title, font(22), sheet.width / 2)
    draw.text((_MARGIN, top + _TITLE // 2), title, fill=INK, font=font(22), anchor="lm")
    after = _MARGIN + draw.textlength(title, font=font(22)) + 16
    note = shorten(table.note, font(14), max(sheet.width - after - _MARGIN, 1))
    draw.text((after, top + _TITLE // 2 + 3), note, fill=FAINT, font=font(14), anchor="lm")
    top += _TITLE
    first = _MARGIN + _LABEL
    for place, camera in enumerate(table.cameras):
        middle = first + place * column + column // 2
        text = shorten(camera, font(15), column - 6)
        draw.text((middle, top + _HEAD // 2), text, fill=INK, font=font(15), anchor="mm")
    top += _HEAD
    right, bottom = first + len(table.cameras) * column, top + len(table.rows) * line
    draw.rounded_rectangle([first, top, right, bottom], 8, fill=CARD)
    for number, (identity, cells) in enumerate(table.rows):
        middle = top + number * line + line // 2
        draw.text((_MARGIN, middle), shorten(identity, font(15), _LABEL - 10), INK, font(15), anchor="lm")
        for place, cell in enumerate(cells):
            _draw_cell(sheet, cell, (first + place * column + _PADDING, top + number * line + _PADDING), column)
        if number:
            draw.line([first, top + number * line, right, top + number * line], fill=LETTERBOX)
    for place in range(1, len(table.cameras)):
        draw.line([first + place * column, top, first + place * column, bottom], fill=LETTERBOX)


def _draw_cell(sheet: Image.Image, cell: Cell, corner: tuple[int, int], column: int) -> None:
    draw = ImageDraw.Draw(sheet)
    left, top = corner
    if not cell.images:
        middle = (left - _PADDING + column // 2, top + TILE[1] // 2)
        draw.text(middle, "–", fill="#9ca3af", font=font(18), anchor="mm")
    for place, (image, split) in enumerate(cell.images):
        x = left + place * (TILE[0] + _GAP)
        sheet.paste(fitted(image, TILE), (x, top))
        draw.rectangle([x, top + TILE[1] + 2, x + TILE[0] - 1, top + TILE[1] + 4], fill=SPLIT_COLOURS.get(split, FAINT))
    if cell.more:
        text = f"+{cell.more}"
        right, bottom = left + len(cell.images) * (TILE[0] + _GAP) - _GAP, top + TILE[1]
        wide = round(draw.textlength(text, font=font(12))) + 8
        draw.rounded_rectangle([right - wide, bottom - 17, right - 1, bottom - 1], 4, fill=INK)
        draw.text((right - wide // 2, bottom - 9), text, fill=CARD, font=font(12), anchor="mm")


def _draw_legend(draw: ImageDraw.ImageDraw, splits: Sequence[str], top: int) -> None:
    left, middle = _MARGIN + _LABEL, top + _LEGEND // 2 + 6
    for split in splits:
        draw.rectangle([left, middle - 2, left + 22, middle + 1], fill=SPLIT_COLOURS[split])
        draw.text((left + 30, middle), split, fill=FAINT, font=font(14), anchor="lm")
        left += 30 + round(draw.textlength(split, font=font(14))) + 26
