"""The one door through which images enter: opened with suspicion, handed on as 8-bit RGB.

Image files are bad input as a rule: cut short, misnamed, huge by their header, rotated by a tag, or in a colour
mode that no network takes. Only the formats named here are ever parsed (so no PostScript and no rarely used
decoder), and the size is read from the header before a pixel is decoded.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageOps
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from sil_cli.errors import DataError
from sil_cli.files import one_line, open_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from PIL.ImageFile import ImageFile

MAX_PIXELS = 50_000_000
MIN_SIDE = 8
"""A crop narrower or lower than this many pixels can't show a person."""

Box = tuple[int, int, int, int]
"""(left, top, width, height) in pixels, as in `ImageRecord.box`."""

DRAWN = "drawn by sil, not photographed"
"""What the tag Software of every picture says that this program draws, so that none is ever taken for a crop."""

_HEAD = 4096
_GREY = (128, 128, 128, 255)

_FORMATS: tuple[tuple[tuple[bytes, ...], Callable[[BinaryIO], ImageFile]], ...] = (
    ((b"\xff\xd8\xff",), JpegImageFile),
    ((b"\x89PNG\r\n\x1a\n",), PngImageFile),
    ((b"BM",), BmpImageFile),
    ((b"RIFF",), WebPImageFile),
    ((b"II*\0", b"MM\0*"), TiffImageFile),
    ((b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"), PpmImageFile),
    ((b"GIF87a", b"GIF89a"), GifImageFile),
)
"""How each format begins, and its decoder. These are called directly because `Image.open` reports large sizes as
Python warnings, and silencing those would change a global that other threads share."""


@dataclass(frozen=True)
class Shot:
    """What the tags of an image say; None where they don't.

    Attributes:
        time: DateTimeOriginal with its fraction and offset where they are given: `2024:05:31 13:45:00.25+02:00`.
        camera: The model, and the serial number that tells two of one model apart.
    """

    time: str | None = None
    camera: str | None = None


class ImageError(DataError):
    """An image that can't be used.

    Attributes:
        path: The file.
        reason: Why, without the file's name: short enough for a table.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}.", "Replace the file, or leave it out.")
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type[ImageError], tuple[Path, str]]:
        return type(self), (self.path, self.reason)  # so that it survives the way out of another process


def drawn_tags() -> Image.Exif:
    """The tags to save a drawn picture with."""
    tags = Image.Exif()
    tags[ExifTags.Base.Software] = DRAWN
    return tags


def is_drawn(path: Path) -> bool:
    """Whether a file is a picture that this program drew, wherever it was copied to.

    Raises:
        OSError: It can't be read.
    """
    with open_file(path) as stream:
        head = stream.read(_HEAD)
        stream.seek(max(0, stream.seek(0, os.SEEK_END) - _HEAD))  # where WebP has its tags
        return DRAWN.encode() in head + stream.read()


def parse_box(text: str) -> Box:
    """A box from `left,top,width,height` in pixels.

    Raises:
        ValueError: These aren't four numbers, or width and height aren't above zero.
    """
    parts = text.replace(";", ",").replace(" ", ",").split(",")
    numbers = [round(float(part)) for part in parts if part]
    if len(numbers) != 4:
        raise ValueError("a box is left,top,width,height in pixels")
    left, top, width, height = numbers
    if width < 1 or height < 1:
        raise ValueError("a box needs a width and a height above zero")
    return left, top, width, height


def load_image(path: Path, *, max_pixels: int = MAX_PIXELS, box: Box | None = None) -> Image.Image:
    """Decode an image fully, upright, as 8-bit RGB.

    JPEG, PNG, BMP, WebP, TIFF, PPM and GIF (its first frame) are read, told apart by their content and not by
    their name. The orientation tag is applied; transparent parts lie over mid-grey; 16-bit samples are scaled;
    colour profiles are ignored.

    Args:
        path: The file.
        max_pixels: An image whose header claims more pixels is refused before it is decoded.
        box: Cut out this part of the upright image. What reaches over its edge is left away.

    Returns:
        A PIL image of mode RGB with at least `MIN_SIDE` pixels a side.

    Raises:
        ImageError: The file is missing, not an image, damaged, cut short, too large or too small; the message is
            one line.
    """
    with _opened(path) as stream:
        rgb = upright_rgb(_open(path, stream, max_pixels), path)
    return rgb if box is None else _cut(path, rgb, box)


def upright_rgb(image: Image.Image, path: Path) -> Image.Image:
    """Decode a PIL image fully, upright, as 8-bit RGB; as `load_image`, of an image that is open already.

    Args:
        image: Is changed in place.
        path: What an error calls it.

    Raises:
        ImageError: It is damaged, cut short, or of an unsupported kind.
    """
    try:
        image.load()
        _turn_upright(image)
        return _to_rgb(image)
    except MemoryError:
        raise
    except Exception as error:  # on hostile bytes a decoder may raise anything
        raise ImageError(path, _why(error)) from error


def read_shot(path: Path) -> Shot:
    """When and by which camera an image was taken, as its EXIF tags say (CIPA DC-008, Exif 2.32).

    Only its header is read; damaged tags are merely absent.

    Raises:
        ImageError: The file is missing, not an image, or too large or too small.
    """
    with _opened(path) as stream:
        image = _open(path, stream, MAX_PIXELS)
        try:
            tags = dict(image.getexif())
            shot = dict(image.getexif().get_ifd(ExifTags.IFD.Exif))
        except MemoryError:
            raise
        except Exception:  # on hostile bytes a decoder may raise anything
            return Shot()
    time = _text(shot.get(ExifTags.Base.DateTimeOriginal))
    if time is not None:
        fraction = _text(shot.get(ExifTags.Base.SubsecTimeOriginal))
        time += f".{fraction}" if fraction and fraction.isdecimal() else ""
        time += _text(shot.get(ExifTags.Base.OffsetTimeOriginal)) or ""
    parts = [_text(tags.get(ExifTags.Base.Model)), _text(shot.get(ExifTags.Base.BodySerialNumber))]
    return Shot(time, " ".join(part for part in parts if part) or None)


def _text(value: object) -> str | None:
    """A tag's text without padding; None for blanks, which stand for unknown, and for what is no text."""
    if not isinstance(value, str):
        return None
    text = "".join(letter for letter in value.split("\0")[0] if letter.isprintable()).strip()
    return text if text.strip(" :") else None


def resize_to(image: Image.Image, height: int, width: int) -> NDArray[np.uint8]:
    """Resize an image: the pipeline's only resize, so that training, gallery and query see the same pixels.

    Bilinear with a support that grows when shrinking, which is PIL's own filter: what torchvision calls
    `antialias=True` for tensors (equal to within rounding) and what its transforms do to PIL images (equal).

    Returns:
        A writable array (height, width, 3) of uint8, RGB.
    """
    return np.array(image.resize((width, height), Image.Resampling.BILINEAR), dtype=np.uint8)


@contextlib.contextmanager
def quiet_decoders() -> Iterator[None]:
    """Silence PIL's Python warnings (about odd tags, mostly) while many files are read.

    Python's warning filters belong to the whole process: enter this in one thread, around the work of all.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def _opened(path: Path) -> BinaryIO:
    try:
        return open_file(path)
    except OSError as error:
        raise ImageError(path, one_line(error)) from error


def _open(path: Path, stream: BinaryIO, max_pixels: int) -> Image.Image:
    """Read the header alone, and refuse by what it says."""
    start = stream.read(16)
    stream.seek(0)
    decoder = next((decode for begins, decode in _FORMATS if start.startswith(begins)), None)
    if decoder is None:
        raise ImageError(path, "not an image" if start else "an empty file")
    try:
        image = decoder(stream)
    except MemoryError:
        raise
    except Exception as error:  # on hostile bytes a decoder may raise anything
        raise ImageError(path, _why(error)) from error
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(path, f"{width}×{height} pixels, more than {max_pixels:,} in all")
    if min(width, height) < MIN_SIDE:
        raise ImageError(path, f"{width}×{height} pixels, too small to show a person")
    return image


def _turn_upright(image: Image.Image) -> None:
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except MemoryError:
        raise
    except Exception:  # noqa: S110 -- damaged tags say nothing about the pixels
        pass


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        image = _scale_16_bit(image)
    if image.mode == "F":
        raise ValueError("32-bit samples are not supported")
    if image.has_transparency_data:
        over = image.convert("RGBA")
        ground = Image.new("RGBA", over.size, _GREY)
        return Image.alpha_composite(ground, over).convert("RGB")
    return image if type(image) is Image.Image and image.mode == "RGB" else image.convert("RGB")


def _scale_16_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits; PIL's own conversion would clip at 255."""
    samples = np.asarray(image)
    if image.mode == "I" and (samples.min() < 0 or samples.max() > 65535):
        raise ValueError("32-bit samples are not supported")
    return Image.fromarray(((samples.astype(np.uint32) + 128) // 257).astype(np.uint8))


def _cut(path: Path, image: Image.Image, box: Box) -> Image.Image:
    left, top, width, height = box
    right, bottom = min(left + width, image.width), min(top + height, image.height)
    left, top = max(left, 0), max(top, 0)
    if right - left < MIN_SIDE or bottom - top < MIN_SIDE:
        raise ImageError(path, f"the box {box} leaves less than {MIN_SIDE} pixels a side")
    return image.crop((left, top, right, bottom))


def _why(error: Exception) -> str:
    """A decoder's complaint as a reason for people."""
    text = one_line(error)
    if isinstance(error, EOFError) or any(word in text for word in ("truncated", "Truncated", "EOF")):
        return "cut short"
    if isinstance(error, ValueError | NotImplementedError) and "support" in text:
        return text
    return f"damaged ({text})"
