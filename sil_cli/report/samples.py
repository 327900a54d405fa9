"""A sheet of sample images: labelled rows, one for each network or person."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image, ImageFont

_PAPER, _INK, _LINE = (255, 255, 255), (38, 42, 51), (226, 229, 234)
_MARGIN, _GAP = 16, 4


def sample_sheet(
    rows: Sequence[tuple[str, Sequence[Image.Image]]], *, tile: tuple[int, int] = (64, 128)
) -> Image.Image:
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
    from PIL import Image, ImageDraw, ImageFont

    if not rows:
        raise ValueError("a sheet of samples needs at least one row")
    wide, high = tile
    font = ImageFont.load_default(size=max(11, min(16, high // 8)))
    label_width = max((_text_size(font, label)[0] for label, _ in rows), default=0)
    left = _MARGIN + label_width + (_MARGIN if label_width else 0)
    columns = max(len(images) for _, images in rows)
    sheet = Image.new(
        "RGB",
        (left + columns * (wide + _GAP) - _GAP + _MARGIN, 2 * _MARGIN + len(rows) * (high + 2 * _GAP) - 2 * _GAP),
        _PAPER,
    )
    pen = ImageDraw.Draw(sheet)
    for index, (label, images) in enumerate(rows):
        top = _MARGIN + index * (high + 2 * _GAP)
        if index:
            pen.line([_MARGIN, top - _GAP, sheet.width - _MARGIN, top - _GAP], fill=_LINE)
        pen.text((_MARGIN, top + (high - _text_size(font, label)[1]) // 2), label, fill=_INK, font=font)
        for column, image in enumerate(images):
            _place(sheet, image, (left + column * (wide + _GAP), top), tile)
    return sheet


def _text_size(font: ImageFont.FreeTypeFont | ImageFont.ImageFont, text: str) -> tuple[int, int]:
    """Width and height of a text in pixels."""
    _, top, right, bottom = font.getbbox(text)
    return int(right), int(bottom + top)


def _place(sheet: Image.Image, image: Image.Image, corner: tuple[int, int], tile: tuple[int, int]) -> None:
    """Fit one image into its tile."""
    from PIL import Image

    scale = min(tile[0] / image.width, tile[1] / image.height)
    size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
    if size != image.size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    sheet.paste(image, (corner[0] + (tile[0] - size[0]) // 2, corner[1] + (tile[1] - size[1]) // 2))
