"""What a file is, told by how it begins: the image formats that are read, those that are not, and what is no image."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from sil_cli.errors import one_line
from sil_cli.files import open_file
from sil_cli.installing import extra_command, install_command

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import BinaryIO

    from PIL.ImageFile import ImageFile

    Decoder = Callable[[BinaryIO], ImageFile]

IMAGE_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("jpg", "jpeg", "jpe", "jfif", "jfi", "jif", "png", "apng", "bmp", "dib", "webp", "tif", "tiff", "gif"),
        *("ppm", "pgm", "pbm", "pnm", "avif", "heic", "heif", "hif"),
    )
)
"""By these a file is taken for an image without being opened."""

_NOT_READ_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("jp2", "j2k", "jpx", "jxl", "jxr", "psd", "svg", "exr", "hdr", "ico", "pcx"),
        *("dng", "cr2", "cr3", "nef", "arw", "orf", "raf", "rw2", "pef", "srw"),
    )
)
START = 1024
"""Bytes by which a file is told."""
_AGAIN = "Download it again."
_CONVERT = "Convert it to PNG or JPEG."
_REPLACE = "Replace the file, or leave it out."


@dataclass(frozen=True)
class Unread:
    """What can't be read as an image.

    Attributes:
        what: What it is, as the reason of an `ImageError`.
        fix: What the user can do about it.
    """

    what: str
    fix: str


def _avif() -> Decoder | Unread:
    try:
        from PIL.AvifImagePlugin import SUPPORTED, AvifImageFile
    except ImportError:  # before Pillow 11.3
        SUPPORTED = False  # noqa: N806 -- Pillow's name
    if SUPPORTED:
        return AvifImageFile
    return Unread(
        "an AVIF image, which this Pillow can't read", f"Install a newer one with `{install_command('pillow>=11.3')}`."
    )


def _heif() -> Decoder | Unread:
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        return Unread(
            "a HEIC image, which only pillow-heif can read",
            f"Install it with `{extra_command('heif')}`, or convert it.",
        )
    decoder: Decoder = HeifImageFile
    return decoder


READ: tuple[tuple[bytes, type[ImageFile] | Callable[[], Decoder | Unread]], ...] = (
    (rb"\xff\xd8\xff", JpegImageFile),
    (rb"\x89PNG\r\n\x1a\n", PngImageFile),
    (rb"BM.{12}[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\x00\x00\x00", BmpImageFile),
    (rb"RIFF....WEBP", WebPImageFile),
    (rb"(?:II[*+]\x00|MM\x00[*+])(?!....CR)", TiffImageFile),
    (rb"P[1-6][\s#]", PpmImageFile),
    (rb"GIF8[79]a", GifImageFile),
    (rb"....ftyp(?:avi[fs]|m[is][fa][1f](?:....){1,16}?avi[fs])", _avif),
    (rb"....ftyp(?:he[iv][cmsx]|m[is][fa][1f])", _heif),
)
"""How each format that is read begins, and its decoder, or what looks for it. Decoders are called directly because
`Image.open` warns of large sizes, and silencing Python's warnings would change a global that other threads share."""

_NOT_READ: tuple[tuple[bytes, str], ...] = (
    (rb"\x00\x00\x00\x0cjP  |\xffO\xffQ", "a JPEG 2000 image"),
    (rb"\xff\n|\x00\x00\x00\x0cJXL ", "a JPEG XL image"),
    (rb"II\xbc\x01", "a JPEG XR image"),
    (rb"II\*\x00....CR|....ftypcrx |FUJIFILMCCD-RAW|II(?:RO|RS|U\x00)|MMOR|FOVb|\x00MRM", "a camera's raw photo"),
    (rb"8BPS", "a Photoshop document"),
    (rb"\s*(?:<\?xml[^>]*>)?\s*(?:<![^>]*>\s*)*<svg", "a drawing (SVG)"),
    (rb"\x76\x2f\x31\x01|#\?RADIANCE|#\?RGBE", "a high-dynamic-range image"),
    (rb"\x00\x00[\x01\x02]\x00[^\x00]\x00", "an icon or a cursor"),
    (rb"\x0a[\x00-\x05]\x01[\x01\x02\x04\x08]", "a PCX image"),
    (rb"SIMPLE  =|.{128}DICM", "a scientific or medical image"),
)
_NO_IMAGE: tuple[tuple[bytes, str, str], ...] = (
    (rb"\x00+\Z", "nothing but zeros, as an interrupted copy leaves them", "Copy it again."),
    (rb"version https://git-lfs", "a Git LFS pointer to one", "Fetch what it stands for: git lfs pull"),
    (rb"\s*<(?i:!doctype html|html|head|body)", "a web page, as servers send for a missing file", _AGAIN),
    (rb"%PDF-|%!PS|\xc5\xd0\xd3\xc6", "a document (PDF or PostScript)", "Extract its images first."),
    (rb"RIFF....WAVE|ID3|fLaC", "a sound file", _REPLACE),
    (
        rb"....(?:ftyp|moov|mdat|wide)|RIFF....AVI |\x1aE\xdf\xa3|FLV\x01|\x00\x00\x01[\xb3\xba]|0&\xb2u|OggS"
        rb"|G.{187}G.{187}G",
        "a video",
        "Extract its frames first.",
    ),
    (
        rb"PK(?:\x03\x04|\x05\x06)|\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!|.{257}ustar|\x28\xb5\x2f\xfd",
        "an archive",
        "Unpack it first.",
    ),
    (rb"\x93NUMPY", "a NumPy array", _CONVERT),
    (rb"\x89HDF|MATLAB", "a data file", _REPLACE),
    (rb"\x00\x05\x16[\x00\x07]", "what macOS notes beside one", _REPLACE),
)


def describe(content: bytes) -> Unread:
    """What a file is that begins as no format of `READ` does.

    Args:
        content: Its first `START` bytes, or all of them.
    """
    start = content[:START]
    for pattern, name in _NOT_READ:
        if re.match(pattern, start, re.DOTALL):
            return Unread(f"{name}, a format that is not read", _CONVERT)
    for pattern, name, fix in _NO_IMAGE:
        if re.match(pattern, start, re.DOTALL):
            return Unread(f"not an image but {name}", fix)
    return Unread("not an image" if content else "an empty file", _REPLACE)


def why_no_image(path: str) -> str | None:
    """Why a file that lies among images is none; None where it is one. Few files are opened.

    Args:
        path: The file. It is opened only if its name ends in no suffix, in one without a letter (`IMG_0001`,
            `frame.000123`), or in that of a format that is not read.
    """
    suffix = os.path.splitext(path)[1].lower()  # noqa: PTH122 -- a folder may hold 100,000 names
    if suffix in IMAGE_SUFFIXES:
        return None
    if suffix not in _NOT_READ_SUFFIXES and any(letter.isalpha() for letter in suffix):
        return "not an image by its name"
    try:
        with open_file(Path(path)) as stream:
            start = stream.read(START)
    except OSError as error:
        return one_line(error)
    return None if any(re.match(pattern, start, re.DOTALL) for pattern, _ in READ) else describe(start).what
