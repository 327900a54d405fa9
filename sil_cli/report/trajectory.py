"""A person's path through a camera network as a picture: its stations in order, and a line that joins their cameras.

Stations stand at even distances, because hours may lie between some and seconds between others; the time between two
is written on the line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from sil_cli.report.contact_sheet import DECISION_INKS, FAINT, INK, LETTERBOX, PAGE, decision_sign, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from sil_cli.report.contact_sheet import Decision, Font

DRAWN_STOPS = 40
PICTURE = (72, 144)  # pixels

_MARGIN = 28
_TITLE = 44
_STEP = 120  # from one station to the next
_LANE = 38
_LABEL = 120  # the cameras' names on the left
_TEXT_LINE = 18  # each of the times below the lanes
_DOT = 16
_NARROWEST = 520
_LINE_INK = "#94a3b8"


@dataclass(frozen=True)
class Stop:
    """One station of a path; what is None isn't drawn.

    Attributes:
        camera: Where.
        start: When the first picture was taken.
        end: When the last one was.
        after: Since the station before.
        image: The best picture; None where it can't be opened any more.
        images: Of how many pictures the station is made.
        score: The best match's cosine similarity.
        decision: What that means.
        at_once: Another camera saw the person in the same span of time.
    """

    camera: str
    start: datetime | None
    end: datetime | None
    after: timedelta | None
    image: Image.Image | None
    images: int
    score: float
    decision: Decision | None = None
    at_once: bool = False


def draw_trail(stops: Sequence[Stop]) -> Image.Image:
    """Draw a path: pictures above, a lane for every camera, times below.

    Args:
        stops: At least one, in the order of time. More than `DRAWN_STOPS` are counted, not drawn.

    Returns:
        An RGB image.
    """
    drawn = stops[:DRAWN_STOPS]
    lanes = sorted({stop.camera for stop in drawn})
    width = max(_NARROWEST, 2 * _MARGIN + _LABEL + len(drawn) * _STEP)
    first_lane = _MARGIN + _TITLE + PICTURE[1] + 34
    below = _TEXT_LINE * max(len(_times(stop, INK)) for stop in drawn)
    height = first_lane + len(lanes) * _LANE + below + _MARGIN // 2
    picture = Image.new("RGB", (width, height), PAGE)
    draw = ImageDraw.Draw(picture)
    title = f"Path: {_counted(len(stops), 'sighting')}, {_counted(len(lanes), 'camera')}"
    if len(stops) > len(drawn):
        title += f" (the first {len(drawn)} drawn)"
    draw.text((_MARGIN, _MARGIN + 8), title, fill=INK, font=_font(20), anchor="lm")
    for number, camera in enumerate(lanes):
        y = first_lane + number * _LANE
        draw.text((_MARGIN, y), shorten(camera, _font(15), _LABEL - 14), fill=INK, font=_font(15), anchor="lm")
        draw.line([(_MARGIN + _LABEL, y), (width - _MARGIN, y)], fill="#e2e8f0", width=2)
    dots = [
        (_MARGIN + _LABEL + number * _STEP + _STEP // 2, first_lane + lanes.index(stop.camera) * _LANE)
        for number, stop in enumerate(drawn)
    ]
    _draw_joints(draw, drawn, dots)
    for stop, dot in zip(drawn, dots, strict=True):
        _draw_stop(picture, stop, dot, below=first_lane + len(lanes) * _LANE - _LANE // 2 + 6)
    return picture


def _draw_joints(draw: ImageDraw.ImageDraw, stops: Sequence[Stop], dots: Sequence[tuple[int, int]]) -> None:
    """The line from station to station, with the time between them; to undated ones there is none."""
    for number in range(1, len(stops)):
        after = stops[number].after
        if after is None:
            continue
        (left, upper), (right, lower) = dots[number - 1], dots[number]
        draw.line([(left, upper), (right, lower)], fill=_LINE_INK, width=3)
        text = duration(after.total_seconds())
        middle = ((left + right) // 2, (upper + lower) // 2)
        half = draw.textlength(text, font=_font(13)) / 2 + 4
        draw.rounded_rectangle(
            [middle[0] - half, middle[1] - 9, middle[0] + half, middle[1] + 9], radius=8, fill=PAGE, outline="#cbd5e1"
        )
        draw.text(middle, text, fill=FAINT, font=_font(13), anchor="mm")


def _draw_stop(picture: Image.Image, stop: Stop, dot: tuple[int, int], *, below: int) -> None:
    draw = ImageDraw.Draw(picture)
    x, y = dot
    top = _MARGIN + _TITLE - 12
    picture.paste(_fitted(stop.image), (x - PICTURE[0] // 2, top))
    draw.line([(x, top + PICTURE[1] + 24), (x, y - _DOT // 2)], fill="#cbd5e1", width=1)
    draw.text((x, top + PICTURE[1] + 13), _facts(stop), fill=FAINT, font=_font(13), anchor="mm")
    ground = _DOT + 6
    draw.ellipse([x - ground // 2, y - ground // 2, x + ground // 2, y + ground // 2], fill=PAGE)
    if stop.decision is None:
        half = _DOT // 2
        draw.ellipse([x - half, y - half, x + half, y + half], fill=INK)
    else:
        sign = decision_sign(stop.decision, _DOT)
        picture.paste(sign, (x - _DOT // 2, y - _DOT // 2), sign)
    ink = INK if stop.decision is None else DECISION_INKS[stop.decision]
    for number, (text, colour) in enumerate(_times(stop, ink)):
        draw.text(
            (x, below + number * _TEXT_LINE), text, fill=colour, font=_font(14 if number == 0 else 12), anchor="mm"
        )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _facts(stop: Stop) -> str:
    return f"{stop.score:.3f}" + (f", {stop.images} images" if stop.images > 1 else "")


def _times(stop: Stop, ink: str) -> list[tuple[str, str]]:
    """The lines below a station."""
    if stop.start is None:
        return [("time unknown", FAINT)]
    lines = [(stop.start.strftime("%H:%M:%S"), ink), (stop.start.strftime("%Y-%m-%d"), FAINT)]
    if stop.end is not None and (stop.end - stop.start).total_seconds() >= 1:
        lines.insert(1, (f"for {duration((stop.end - stop.start).total_seconds())}", FAINT))
    if stop.at_once:
        lines.append(("elsewhere at once", DECISION_INKS["possible"]))
    return lines


def duration(seconds: float) -> str:
    """A span of time in two units at most: 40 s, 3 min 20 s, 2 h 5 min, 3 d 4 h."""
    if seconds < 0:
        return "at once"
    whole = round(seconds)
    for unit, size, lesser, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit}" + (f" {rest} {lesser}" if rest else "")
    return f"{whole} s"


def _fitted(image: Image.Image | None) -> Image.Image:
    tile = Image.new("RGB", PICTURE, LETTERBOX)
    if image is None:
        ImageDraw.Draw(tile).text(
            (PICTURE[0] // 2, PICTURE[1] // 2), "no image", fill=FAINT, font=_font(13), anchor="mm"
        )
        return tile
    scale = min(PICTURE[0] / image.width, PICTURE[1] / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    scaled = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    tile.paste(scaled, ((PICTURE[0] - size[0]) // 2, (PICTURE[1] - size[1]) // 2))
    return tile


def _font(size: int) -> Font:
    return ImageFont.load_default(size)
