"""A sheet of labelled rows of images, one row for each network, person or group of queries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from sil_cli.errors import visible
from sil_cli.report.canvas import CARD, INK, LETTERBOX, fitted, font

if TYPE_CHECKING:
    from collections.abc import Sequence

_MARGIN, _GAP = 16, 4


def image_rows(rows: Sequence[tuple[str, Sequence[Image.Image]]], *, tile: tuple[int, int] = (64, 128)) -> Image.Image:
    """Lay out rows of images, each with its label on the left.

    Args:
        rows: (label, images) from top to bottom; rows may differ in length.
        tile: Width and height of each image on the sheet, in pixels. An image of another shape is fitted into
            its tile and centred.

    Returns:
        The sheet, RGB.

    Raises:
        ValueError: There are no rows.
    """
    if not rows:
        raise ValueError("a sheet needs at least one row of images")
    wide, high = tile
    letters = font(max(11, min(16, high // 8)))
    labels = [visible(label) for label, _ in rows]
    label_width = max(round(letters.getlength(label)) for label in labels)
    left = _MARGIN + label_width + (_MARGIN if label_width else 0)
    columns = max(len(images) for _, images in rows)
    sheet = Image.new(
        "RGB",
        (left + columns * (wide + _GAP) - _GAP + _MARGIN, 2 * _MARGIN + len(rows) * (high + 2 * _GAP) - 2 * _GAP),
        CARD,
    )
    draw = ImageDraw.Draw(sheet)
    for index, (label, (_, images)) in enumerate(zip(labels, rows, strict=True)):
        top = _MARGIN + index * (high + 2 * _GAP)
        if index:
            draw.line([_MARGIN, top - _GAP, sheet.width - _MARGIN, top - _GAP], fill=LETTERBOX)
        draw.text((_MARGIN, top + high // 2), label, fill=INK, font=letters, anchor="lm")
        for column, image in enumerate(images):
            sheet.paste(fitted(image, tile, ground=CARD), (left + column * (wide + _GAP), top))
    return sheet
