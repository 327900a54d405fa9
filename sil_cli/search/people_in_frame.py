"""Whom of the people in a larger image a query means: found by a detector, numbered from left to right, and chosen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from sil_cli.data.images import ImageError, load_image, pixels_in
from sil_cli.errors import DataError, UsageError
from sil_cli.footage.detectors import make_detector
from sil_cli.footage.frames import Frame
from sil_cli.output_checks import refuse_overwriting
from sil_cli.report.canvas import font, require_sheet_format, write_sheet

if TYPE_CHECKING:
    from collections.abc import Callable

    from sil_cli.data.images import Box
    from sil_cli.footage.frames import Detector
    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings

    Ask = Callable[[Path, int], int | None]
    """Asks the user for the number of one of so many people, whom a picture numbers; None where nobody answers."""

_INK, _GROUND = "#ffffff", "#b91c1c"
_LARGEST_PICTURE = 1600  # pixels a side


def with_boxes(settings: Settings, reporter: Reporter, ask: Ask | None) -> Settings:
    """The settings with the box of a person for each image, where a detector finds people in it.

    Args:
        settings: `query.detector` names the detector, `query.person` the person.
        reporter: Is told who was found.
        ask: Asks the user where several people are found and none is named; None where nobody can be asked.

    Raises:
        UsageError: Several people are in an image, and none is named; or there are not so many.
        SilError: The detector or an image can't be used.
    """
    wanted = settings.query
    if wanted.boxes:
        raise UsageError("--box and --detector don't go together.", "A box says already where the person is.")
    if wanted.person is not None and len(wanted.images) > 1:
        raise UsageError("--person is for one image.", "Run a query for each image, or name boxes with --box.")
    require_sheet_format(wanted.people)
    refuse_overwriting(wanted.people, wanted.images, option="--people")
    crop = settings.crop.model_copy(
        update={"detector": wanted.detector, "min_score": max(settings.crop.min_score, settings.crop.track.high)}
    )
    looking = settings.model_copy(update={"crop": crop})
    if Path(crop.detector).is_dir():
        raise UsageError(f"{crop.detector} is a folder.", "Name a detector, or the file of boxes of this image.")
    detector = make_detector(looking, "", reporter, named_by="query.detector")
    boxes = [_box_in(path, settings, detector, reporter, ask) for path in wanted.images]
    texts = tuple(",".join(map(str, box)) for box in boxes)
    return settings.model_copy(update={"query": wanted.model_copy(update={"boxes": texts})}).with_users_own(
        settings.users_own
    )


def _box_in(path: Path, settings: Settings, detector: Detector, reporter: Reporter, ask: Ask | None) -> Box:
    wanted = settings.query
    try:
        image = load_image(path, max_pixels=pixels_in(settings.data.max_megapixels))
    except ImageError as error:
        raise DataError(
            f"{path} can't be used as a query: {error.reason}.", "Name an image with a person in it."
        ) from error
    (found,) = detector.detect([Frame(0, None, 0.0, np.asarray(image))])
    boxes = sorted(each.box for each in found)
    if not boxes:
        if wanted.person is not None:
            raise UsageError(f"Nobody was found in {path}.", "Name the person by --box LEFT,TOP,WIDTH,HEIGHT.")
        reporter.note(f"Nobody was found in {path}: all of it is searched for.")
        return 0, 0, image.width, image.height
    number = wanted.person
    if number is None and len(boxes) > 1:
        write_sheet(wanted.people, numbered(image, boxes), users_own=settings.is_users_own("query.people"))
        number = ask(wanted.people, len(boxes)) if ask is not None else None
        if number is None:
            raise UsageError(
                f"{path} shows {len(boxes)} people, whom {wanted.people} numbers from left to right.",
                f"Say whom you mean: --person 1 to --person {len(boxes)}.",
            )
    number = number or 1
    if number > len(boxes):
        raise UsageError(
            f"There is no person {number} in {path}: {len(boxes)} were found.",
            "Leave --person out to see them numbered, or use --box LEFT,TOP,WIDTH,HEIGHT.",
        )
    reporter.note(f"Searching for person {number} of {len(boxes)} in {path}, counted from the left.")
    return boxes[number - 1]


def numbered(image: Image.Image, boxes: list[Box]) -> Image.Image:
    """The image, no larger than a screen, with a frame and a number around each of the boxes, from 1."""
    picture = image.copy()
    picture.thumbnail((_LARGEST_PICTURE, _LARGEST_PICTURE))
    scale = picture.width / image.width
    draw = ImageDraw.Draw(picture)
    size = max(14, picture.height // 30)
    line = max(2, size // 8)
    for number, (left, top, width, height) in enumerate(boxes, 1):
        edges = [scale * each for each in (left, top, left + width, top + height)]
        draw.rectangle(edges, outline=_GROUND, width=line)
        text = str(number)
        wide = font(size).getlength(text) + size // 2
        x, y = min(edges[0], picture.width - wide), max(0.0, min(edges[1], picture.height - 1.3 * size))
        draw.rectangle([x, y, x + wide, y + 1.25 * size], fill=_GROUND)
        draw.text((x + size / 4, y + 0.1 * size), text, fill=_INK, font=font(size))
    return picture
