"""When and by which camera a picture was taken, as its EXIF tags say (CIPA DC-008, Exif 2.32)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL.ExifTags import Base

from sil_cli.data.images import read_tags

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Shot:
    """What the tags of a picture say; None where they don't.

    Attributes:
        time: DateTimeOriginal with its fraction and offset where they are told: `2024:05:31 13:45:00.25+02:00`.
        camera: The model, and the serial number that tells two of one model apart.
    """

    time: str | None = None
    camera: str | None = None


def read_shot(path: Path) -> Shot:
    """What a picture's tags say of when and by which camera it was taken.

    Raises:
        ImageError: The file is missing or no picture.
    """
    tags, shot = read_tags(path)
    moment = _text(shot.get(Base.DateTimeOriginal))
    if moment is not None:
        fraction, offset = _text(shot.get(Base.SubsecTimeOriginal)), _text(shot.get(Base.OffsetTimeOriginal))
        moment += f".{fraction}" if fraction and fraction.isdecimal() else ""
        moment += offset or ""
    parts = [_text(tags.get(Base.Model)), _text(shot.get(Base.BodySerialNumber))]
    return Shot(moment, " ".join(part for part in parts if part) or None)


def _text(value: object) -> str | None:
    """A tag's text without padding; None for blanks, which stand for unknown, and for what is no text."""
    if not isinstance(value, str):
        return None
    text = "".join(letter for letter in value.split("\0")[0] if letter.isprintable()).strip()
    return text if text.strip(" :") else None
