"""The one door through which images enter: opened with suspicion, handed on as 8-bit RGB.

Image files are bad input as a rule: cut short, misnamed, huge by their header, rotated by a tag, or in a colour
mode that no network takes. Only the formats named in `image_formats` are ever parsed (so no PostScript and no rarely
used decoder). What a file claims is held against the limit of pixels before a pixel is decoded, and decoding ends when
it has had its time.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import struct
import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin
from PIL.TiffImagePlugin import TiffImageFile

from sil_cli.data.image_formats import READ, START, Unread, describe
from sil_cli.errors import DataError, one_line
from sil_cli.files import open_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from sil_cli.data.image_formats import Decoder

MAX_PIXELS = 50_000_000
MIN_SIDE = 8
"""A crop narrower or lower than this many pixels can't show a person."""

Box = tuple[int, int, int, int]
"""(left, top, width, height) in pixels, as in `ImageRecord.box`."""

DRAWN = "drawn by sil, not photographed"
"""What the tag Software of every picture says that this program draws, so that none is ever taken for a crop."""

_HEAD = 4096
_GREY = (128, 128, 128, 255)
_MEGA = 10**6

_SECONDS, _SECONDS_A_MEGAPIXEL = 2.0, 0.1
"""The processor time that an image may take, several times what the slowest encodings need: 50 megapixels take 0.3 s
as a JPEG of one scan and 1.5 s as a PNG with transparency. It is not the clock's: no image fails on a busy day."""
_BYTES_A_PIXEL = 8
_MOST_BESIDE_PIXELS = 64 * _MEGA
"""What a file may hold besides its pixels at 16 bits each: profiles, previews, layers."""
_MOST_SCANS = 100
"""Of a JPEG. Encoders make 1 to 14; each costs a pass over all pixels, however few its bytes."""
_MOST_PASSES = 20
"""Scans of a JPEG that is as large as the limit of pixels allows; a smaller one may have more."""
_DECODED_AT_ONCE = 4096
"""Bytes that a decoder gets before the time is looked at again: 40 scans may be in them, 2 s at 50 megapixels."""
_MOST_PARTS = 200_000
"""Strips or tiles of a TIFF, each of which takes some 500 bytes before it is decoded."""
_MOST_TAGS, _MOST_DIRECTORIES, _MOST_CLAIMED = 65_535, 8, 16 * _MEGA
_BAND_PIXELS = 4 * _MEGA

_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff])")
_END_OF_IMAGE, _START_OF_SCAN, _APP1 = 0xD9, 0xDA, 0xE1
_EXIF = b"Exif\0\0"
_TAG_SIZES = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_TAG_DIRECTORIES = (0x8769, 0x8825, 0xA005)
_PARTS = (TiffImagePlugin.STRIPOFFSETS, TiffImagePlugin.TILEOFFSETS)
_TIFF_JPEGS = (6, 7)
_ON_ITS_SIDE = (5, 6, 7, 8)
_NEW_SUBFILE_TYPE, _SUB_DIRECTORIES, _DNG_VERSION = 254, 330, 50706


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

    def __init__(self, path: Path, reason: str, fix: str = "Replace the file, or leave it out.") -> None:
        super().__init__(f"{path}: {reason}.", fix)
        self.path = path
        self.reason = reason

    def __reduce__(self) -> tuple[type[ImageError], tuple[Any, ...]]:
        return type(self), (self.path, self.reason, self.fix)  # so that it survives the way out of another process


class LargeImageError(ImageError):
    """An image of more pixels than are read; where that is trusted, a setting allows it."""

    def __init__(self, path: Path, width: int, height: int, max_pixels: int) -> None:
        needed = -(-width * height // _MEGA)
        super().__init__(
            path,
            f"{width}×{height} pixels, more than {max_pixels:,} in all",
            f"If you trust it, give every command --set data.max_megapixels={needed}, or set that in sil.toml.",
        )
        self._made_of = (path, width, height, max_pixels)

    def __reduce__(self) -> tuple[type[ImageError], tuple[Any, ...]]:
        return type(self), self._made_of


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
    parts = text.strip("[]").replace(";", ",").replace(" ", ",").split(",")
    numbers = [float(part) for part in parts if part]
    if len(numbers) != 4 or not all(abs(number) < 2**31 for number in numbers):
        raise ValueError("a box is left,top,width,height in pixels")
    left, top, width, height = map(round, numbers)
    if width < 1 or height < 1:
        raise ValueError("a box needs a width and a height above zero")
    return left, top, width, height


def pixels_in(megapixels: float) -> int:
    """What `data.max_megapixels` allows, in pixels."""
    return int(megapixels * _MEGA)


def load_image(path: Path, *, max_pixels: int = MAX_PIXELS, box: Box | None = None) -> Image.Image:
    """Decode an image fully, upright, as 8-bit RGB.

    JPEG, PNG, BMP, WebP, TIFF, PPM, GIF, AVIF and, with pillow-heif, HEIC are read, told apart by their content and
    not by their name; of animations, the first frame. The orientation tag is applied; transparent parts lie over
    mid-grey; 16-bit samples are scaled; colour profiles are ignored.

    Args:
        path: The file.
        max_pixels: An image whose header claims more pixels is refused before it is decoded; the time and the memory
            that decoding may take go by it, too.
        box: Cut out this part of the upright image. What reaches over its edge is left away.

    Returns:
        A PIL image of mode RGB with at least `MIN_SIDE` pixels a side.

    Raises:
        ImageError: The file is missing, not an image, damaged, cut short, too large, too small, or takes too long; the
            message is one line.
    """
    rgb = upright_rgb(_open(path, max_pixels), path)
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


def read_shot(path: Path, *, max_pixels: int = MAX_PIXELS) -> Shot:
    """When and by which camera an image was taken, as its EXIF tags say (CIPA DC-008, Exif 2.32).

    Only its header is read; damaged tags are merely absent.

    Raises:
        ImageError: The file is missing, not an image, or too large or too small.
    """
    image = _open(path, max_pixels)
    try:
        _check_exif(image)
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


def upright_size(path: Path, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Width and height that an image has upright, in which boxes are given. Only its header is read.

    Raises:
        ImageError: The file is missing, not an image, or too large or too small.
    """
    image = _open(path, max_pixels)
    try:
        _check_exif(image)
        lies = image.getexif().get(ExifTags.Base.Orientation) in _ON_ITS_SIDE
    except MemoryError:
        raise
    except Exception:  # as `_turn_upright` leaves it then
        lies = False
    return (image.height, image.width) if lies else image.size


def _text(value: object) -> str | None:
    """A tag's text without padding; None for blanks, which stand for unknown, and for what is no text."""
    if not isinstance(value, str):
        return None
    text = "".join(letter for letter in value.split("\0")[0] if letter.isprintable()).strip()
    return text if text.strip(" :") else None


Interpolation = Literal["bilinear", "bicubic"]


def resize_to(
    image: Image.Image, height: int, width: int, interpolation: Interpolation = "bilinear"
) -> NDArray[np.uint8]:
    """Resize an image: the pipeline's only resize, so that training, gallery and query see the same pixels.

    Bilinear, or bicubic for published models that were made so, with a support that grows when shrinking, which is
    PIL's own filter: what torchvision calls `antialias=True` for tensors (equal to within rounding) and what its
    transforms do to PIL images (equal).

    Returns:
        A writable array (height, width, 3) of uint8, RGB.
    """
    kernel = Image.Resampling.BICUBIC if interpolation == "bicubic" else Image.Resampling.BILINEAR
    return np.array(image.resize((width, height), kernel), dtype=np.uint8)


@contextlib.contextmanager
def quiet_decoders() -> Iterator[None]:
    """Silence PIL's Python warnings (about odd tags, mostly) while many files are read.

    Python's warning filters belong to the whole process: enter this in one thread, around the work of all.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


class _TimedStream(io.BytesIO):
    """A file in memory that can be read for a limited processor time: decoders in C stop nowhere but in reading.

    Attributes:
        seconds: How long, from the beginning.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.seconds = _SECONDS
        self._start = time.thread_time()

    def read(self, size: int | None = -1, /) -> bytes:
        if time.thread_time() - self._start > self.seconds:
            raise _SlowError(f"it takes more than {self.seconds:.0f} s of processor time to decode")
        return super().read(size)


class _SlowError(Exception):
    """Decoding has taken too long."""


def _read(path: Path, max_pixels: int) -> bytes:
    """All of a file that may be an image of so many pixels."""
    most = _BYTES_A_PIXEL * max_pixels + _MOST_BESIDE_PIXELS
    try:
        with open_file(path) as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > most:
                raise ImageError(path, f"{size / _MEGA:,.0f} MB, too many for an image of {max_pixels:,} pixels")
            return stream.read()
    except OSError as error:
        raise ImageError(path, one_line(error)) from error


def _open(path: Path, max_pixels: int) -> Image.Image:
    """Read the header alone, and refuse by what it says."""
    content = _read(path, max_pixels)
    decoder = _decoder_of(content)
    if isinstance(decoder, Unread):
        raise ImageError(path, decoder.what, decoder.fix)
    stream = _TimedStream(content)
    try:
        scans = _check_claims(content, max_pixels)
        image = decoder(stream)
        width, height = image.size
        if width * height > max_pixels:
            raise LargeImageError(path, width, height, max_pixels)
        if scans * width * height > _MOST_PASSES * max_pixels:
            raise ValueError(f"{scans} scans of {width}×{height} pixels are not supported")
        _check_tiff(image, content, max_pixels)
    except (MemoryError, ImageError):
        raise
    except Exception as error:  # on hostile bytes a decoder may raise anything
        raise ImageError(path, _why(error)) from error
    stream.seconds += _SECONDS_A_MEGAPIXEL * width * height / _MEGA
    image.decodermaxblock = _DECODED_AT_ONCE
    if min(width, height) < MIN_SIDE:
        raise ImageError(path, f"{width}×{height} pixels, too small to show a person")
    return image


def _decoder_of(content: bytes) -> Decoder | Unread:
    """The decoder of an image file, or what it is instead."""
    for pattern, found in READ:
        if re.match(pattern, content[:START], re.DOTALL):
            return found if isinstance(found, type) else found()
    return describe(content)


def _check_claims(content: bytes, max_pixels: int) -> int:
    """Refuse what would cost time or memory without bounds before a decoder sees it; returns a JPEG's number of scans.

    Raises:
        ValueError: Why.
    """
    if content.startswith(b"\xff\xd8"):
        scans, tags = _read_segments(content)
        _check_directory(tags)
        return scans
    if content.startswith((b"II", b"MM")):
        _check_directory(content)
    elif content[12:16] == b"VP8X":  # its decoder allocates the canvas at once
        width, height = (int.from_bytes(content[at : at + 3], "little") + 1 for at in (24, 27))
        if width * height > max_pixels:
            raise ValueError(f"{width}×{height} pixels are not supported, {max_pixels:,} in all are")
    return 0


def _read_segments(jpeg: bytes) -> tuple[int, bytes]:
    """The number of a JPEG's scans (ITU-T T.81, B.1.1), and its EXIF tags.

    Raises:
        ValueError: It has too many scans.
    """
    scans, at, tags = 0, 2, []
    while found := _JPEG_MARKER.search(jpeg, at):
        marker, at = found[1][0], found.end()
        if marker == _END_OF_IMAGE:
            break
        if marker == 1 or 0xD0 <= marker <= 0xD8:  # these have no length
            continue
        scans += marker == _START_OF_SCAN
        if scans > _MOST_SCANS:
            raise ValueError(f"JPEGs of more than {_MOST_SCANS} scans are not supported")
        start, at = at + 2, at + int.from_bytes(jpeg[at : at + 2], "big")
        if marker == _APP1 and jpeg.startswith(_EXIF, start):
            tags.append(jpeg[start + len(_EXIF) : at])
    return scans, b"".join(tags)


def _check_directory(tags: bytes) -> None:
    """Check how much TIFF or EXIF tags claim to hold (TIFF 6.0, section 2, and BigTIFF): they may share their bytes.

    Raises:
        ValueError: It is far more than there is, or an image in hundreds of thousands of parts.
    """
    order = ">" if tags.startswith(b"M") else "<"
    wide = tags[2:4] in (b"+\0", b"\0+")
    first, count, entry = ("8xQ", "Q", "HHQQ") if wide else ("4xI", "H", "HHII")
    inline, claimed = (8 if wide else 4), 0
    pending, seen = _unpack(order + first, tags, 0), set()
    while pending:
        at = pending.pop()
        entries = _unpack(order + count, tags, at)
        if at in seen or not entries:
            continue
        seen.add(at)
        at, size = at + struct.calcsize(order + count), struct.calcsize(order + entry)
        there = tags[at : at + min(entries[0], _MOST_TAGS) * size]
        for tag, kind, values, where in struct.iter_unpack(order + entry, there[: len(there) // size * size]):
            length = values * _TAG_SIZES.get(kind, 1)
            claimed += min(length, max(len(tags) - where, 0)) if length > inline else 0
            if tag in _TAG_DIRECTORIES and len(seen) < _MOST_DIRECTORIES:
                pending.append(where)
            if tag in _PARTS and values > _MOST_PARTS:
                raise ValueError(f"images in more than {_MOST_PARTS:,} strips or tiles are not supported")
    if claimed > 2 * len(tags) + _MOST_CLAIMED:
        raise ValueError("its tags claim more than the file has")


def _unpack(form: str, content: bytes, at: int) -> list[int]:
    """The numbers at a place; none where it lies outside."""
    try:
        return list(struct.unpack_from(form, content, at))
    except (struct.error, OverflowError):
        return []


def _check_tiff(image: Image.Image, content: bytes, max_pixels: int) -> None:
    """Refuse a raw photo, of which a preview would be read, and what libtiff would do in one go without an end.

    Raises:
        ValueError: Why.
    """
    if not isinstance(image, TiffImageFile):
        return
    tags = image.tag_v2
    reduced = tags.get(_NEW_SUBFILE_TYPE, 0)
    if _DNG_VERSION in tags or (isinstance(reduced, int) and reduced & 1 and _SUB_DIRECTORIES in tags):
        raise ValueError("raw photos are not supported: develop it to PNG or JPEG")
    tile = [tags.get(name, 0) for name in (TiffImagePlugin.TILEWIDTH, TiffImagePlugin.TILELENGTH)]
    if not all(isinstance(side, int) for side in tile) or tile[0] * tile[1] > max(max_pixels, _MEGA):
        raise ValueError("tiles larger than an image are not supported")
    if tags.get(TiffImagePlugin.COMPRESSION) in _TIFF_JPEGS and b"\xff\xc2" in content:
        raise ValueError("progressive JPEG in TIFF is not supported")


def _turn_upright(image: Image.Image) -> None:
    try:
        _check_exif(image)
        ImageOps.exif_transpose(image, in_place=True)
    except MemoryError:
        raise
    except Exception:  # noqa: S110 -- damaged tags say nothing about the pixels
        pass


def _check_exif(image: Image.Image) -> None:
    """Check the tags of PNG, WebP, AVIF and HEIC, which are known only now; PIL reads a PNG's from a text, too."""
    tags = image.info.get("exif") or bytes.fromhex(
        "".join(str(image.info.get("Raw profile type exif", "")).split("\n")[3:])
    )
    _check_directory(tags.removeprefix(_EXIF))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("32-bit samples are not supported")
    if image.mode == "RGB" and not image.has_transparency_data:
        return image if type(image) is Image.Image else image.convert("RGB")
    rgb = Image.new("RGB", image.size)
    rows = max(1, _BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):  # band by band: what this takes on the way is several times the image
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        rgb.paste(_band_to_rgb(band), (0, top))
    return rgb


def _band_to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        image = _scale_16_bit(image)
    if image.has_transparency_data:
        over = image.convert("RGBA")
        ground = Image.new("RGBA", over.size, _GREY)
        return Image.alpha_composite(ground, over).convert("RGB")
    return image.convert("RGB")


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
    if isinstance(error, _SlowError):
        return text
    if isinstance(error, EOFError) or any(word in text for word in ("truncated", "Truncated", "EOF")):
        return "cut short"
    if isinstance(error, ValueError | NotImplementedError) and "support" in text:
        return text
    return f"damaged ({text})"
