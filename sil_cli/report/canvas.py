"""What every drawn sheet and every page is made of: colours, letters, images fitted into tiles, signs, and files."""

from __future__ import annotations

import base64
import io
from bisect import bisect_left
from functools import cache
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from sil_cli.data.images import drawn_tags
from sil_cli.errors import SilError, UsageError, visible
from sil_cli.files import writing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from PIL.ImageFont import FreeTypeFont
    from PIL.ImageFont import ImageFont as BitmapFont

    from sil_cli.evaluation.calibration import Decision

    Font = FreeTypeFont | BitmapFont

PAGE, CARD, LETTERBOX, LINE = "#f3f4f6", "#ffffff", "#e5e7eb", "#d1d5db"
INK, FAINT = "#111827", "#6b7280"
DECISION_INKS: dict[Decision, str] = {"match": "#1d4ed8", "possible": "#92400e", "no match": FAINT}
SMOOTH = 4
"""Shapes are drawn this much larger and scaled down, as Pillow doesn't smooth them."""

NO_SHEET = "none"
_CELLS = 4  # squares in a line of a pixelated image: of a person, a head is one
_MOST_LETTERS = 1_000  # at either end of a text: more fit nowhere
MOST_PIXELS = 80_000_000
"""Of a sheet: 240 MB while it is drawn."""

_SIDES = {"JPEG": 65_500, "WEBP": 16_383}  # pixels that a file of this type can have in a line or a column
_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}


@cache  # Pillow unpacks its font again each time
def font(size: int) -> Font:
    """Pillow's own font, so that sheets look alike on every machine."""
    return ImageFont.load_default(size)


def shorten(text: str, letters: Font, width: float) -> str:
    """The text made harmless, or its beginning and end around an ellipsis so that it fits into `width` pixels."""
    text = visible(text[:_MOST_LETTERS] + text[max(_MOST_LETTERS, len(text) - _MOST_LETTERS) :])
    if letters.getlength(text) <= width:
        return text

    def around(kept: int) -> str:
        return f"{text[: kept // 2]}…{text[-(kept - kept // 2) :]}"

    fitting = bisect_left(range(2, len(text)), x=True, key=lambda kept: letters.getlength(around(kept)) > width)
    return around(fitting + 1) if fitting else "…"


def fitted(image: Image.Image | None, size: tuple[int, int], *, ground: str = LETTERBOX) -> Image.Image:
    """An image scaled into the middle of a tile, with bars where its aspect is another.

    Args:
        image: Of any size and mode; None where it can't be opened, which the tile then says.
        size: Width and height of the tile, in pixels.
        ground: The colour of the bars.

    Returns:
        An RGB image of that size.
    """
    tile = Image.new("RGB", size, ground)
    if image is None:
        _say_that_there_is_none(tile)
        return tile
    scaled = _scaled(image, size)
    tile.paste(scaled, ((size[0] - scaled.width) // 2, (size[1] - scaled.height) // 2), scaled)
    return tile


def shrunk(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """An image as `fitted` scales it into a tile of this size, where it is larger; it looks the same there."""
    return _scaled(image, size).convert("RGB") if image.width * image.height > size[0] * size[1] else image


def pixelated(image: Image.Image) -> Image.Image:
    """An image of which nobody is recognised: so few squares, each of one colour, that nothing can bring them back."""
    width = max(1, min(_CELLS, image.width))
    height = max(1, min(round(width * image.height / image.width), 4 * _CELLS))
    return (
        image.convert("RGB").resize((width, height), Image.Resampling.BOX).resize(image.size, Image.Resampling.NEAREST)
    )


def _scaled(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    scale = min(size[0] / image.width, size[1] / image.height)
    inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.convert("RGBA").resize(inner, Image.Resampling.LANCZOS)


def _say_that_there_is_none(tile: Image.Image) -> None:
    draw, (x, y) = ImageDraw.Draw(tile), (tile.width // 2, tile.height // 2)
    if tile.width < 120:
        draw.text((x, y), "no image", fill=FAINT, font=font(13), anchor="mm")
        return
    draw.text((x, y - 10), "no image", fill=FAINT, font=font(16), anchor="mm")
    draw.text((x, y + 12), "moved or unreadable", fill=FAINT, font=font(13), anchor="mm")


def stacked(sheets: Sequence[Image.Image]) -> Image.Image:
    """Sheets below each other, the first at the top."""
    page = Image.new("RGB", (max(each.width for each in sheets), sum(each.height for each in sheets)), PAGE)
    top = 0
    for each in sheets:
        page.paste(each, (0, top))
        top += each.height
    return page


def decision_sign(decision: Decision, size: int) -> Image.Image:
    """A round sign that tells decisions apart without colour: full, half full or empty."""
    large = size * SMOOTH
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


def thumbnail_uri(image: Image.Image, size: tuple[int, int]) -> str:
    """A small JPEG of an image, its aspect kept, as an address that holds it."""
    small = image.convert("RGB")
    small.thumbnail(size, Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    small.save(stream, format="JPEG", quality=85, optimize=True)
    return data_uri(stream.getvalue(), "image/jpeg")


def data_uri(content: bytes, media_type: str) -> str:
    """Bytes as an address that holds them, `data:image/png;base64,...`."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def as_png(image: Image.Image) -> bytes:
    """The image as a PNG file."""
    stream = io.BytesIO()
    image.save(stream, format="PNG", exif=drawn_tags())
    return stream.getvalue()


def is_wanted(sheet: Path) -> bool:
    """Whether a sheet is to be drawn: one that is called `none` is not."""
    return sheet.name != NO_SHEET


def tallest(path: Path, width: int) -> int:
    """How high a sheet of this width can be, in pixels: as its file type allows, and the memory it is drawn in."""
    return min(_SIDES.get(_FORMATS[path.suffix.lower()], MOST_PIXELS), MOST_PIXELS // width)


def require_sheet_format(path: Path) -> None:
    """Refuse a name that says no file type in which sheets are written, and is not `none` either.

    Raises:
        UsageError: It is not one of .jpg, .png and .webp.
    """
    if is_wanted(path) and path.suffix.lower() not in _FORMATS:
        raise UsageError(f"A sheet can't be written as {path.name}.", "Use a name that ends in .jpg, .png or .webp.")


def write_sheet(path: Path, sheet: Image.Image, *, users_own: bool) -> None:
    """Write a sheet in the file type that its name says; only where the user named it are links followed.

    Raises:
        OSError: It can't be written.
        SilError: It is larger than its file type can be.
    """
    side = _SIDES.get(_FORMATS[path.suffix.lower()], max(sheet.size))
    if max(sheet.size) > side:
        raise SilError(
            f"The sheet has {sheet.width:,} × {sheet.height:,} pixels; a {path.suffix} file holds {side:,} a side.",
            "Name it .png, or ask for less on it.",
        )
    with writing(path, users_own=users_own) as stream:
        sheet.save(stream, format=_FORMATS[path.suffix.lower()], quality=92, exif=drawn_tags())
