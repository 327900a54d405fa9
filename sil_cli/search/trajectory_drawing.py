"""A person's path through a camera network drawn: its stations in order, and a line that joins their cameras.

Stations stand at even distances, because hours may lie between some and seconds between others; the time between two
is written on the line.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

from sil_cli.report.canvas import DECISION_INKS, FAINT, INK, PAGE, decision_sign, fitted, font, shorten

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import tzinfo

    from sil_cli.search.trajectory import CameraVisit

DRAWN_STATIONS = 40
IMAGE_SIZE = (72, 144)  # pixels

_MARGIN = 28
_TITLE = 44
_STEP = 120  # from one station to the next
_LANE = 38
_LABEL = 120  # the cameras' names on the left
_TEXT_LINE = 18  # each of the times below the lanes
_DOT = 16
_NARROWEST = 520
_LINE_INK = "#94a3b8"


def draw_trajectory(stations: Sequence[tuple[CameraVisit, Image.Image | None]], zone: tzinfo | None) -> Image.Image:
    """Draw a path: images above, a lane for every camera, times below.

    Args:
        stations: At least one, in the order of time, each with the image of its best match, or None where that can't
            be opened any more. More than `DRAWN_STATIONS` are counted, not drawn.
        zone: The time zone of the clock that is shown; None for the machine's own.

    Returns:
        An RGB image.
    """
    drawn = stations[:DRAWN_STATIONS]
    lanes = sorted({station.camera for station, _ in drawn})
    width = max(_NARROWEST, 2 * _MARGIN + _LABEL + len(drawn) * _STEP)
    first_lane = _MARGIN + _TITLE + IMAGE_SIZE[1] + 34
    texts = [_lines_below(station, zone) for station, _ in drawn]
    height = first_lane + len(lanes) * _LANE + _TEXT_LINE * max(map(len, texts)) + _MARGIN // 2
    sheet = Image.new("RGB", (width, height), PAGE)
    draw = ImageDraw.Draw(sheet)
    title = f"Path: {_counted(len(stations), 'visit')}, {_counted(len(lanes), 'camera')}"
    if len(stations) > len(drawn):
        title += f" (the first {len(drawn)} drawn)"
    draw.text((_MARGIN, _MARGIN + 8), title, fill=INK, font=font(20), anchor="lm")
    for number, camera in enumerate(lanes):
        y = first_lane + number * _LANE
        draw.text((_MARGIN, y), shorten(camera, font(15), _LABEL - 14), fill=INK, font=font(15), anchor="lm")
        draw.line([(_MARGIN + _LABEL, y), (width - _MARGIN, y)], fill="#e2e8f0", width=2)
    dots = [
        (_MARGIN + _LABEL + number * _STEP + _STEP // 2, first_lane + lanes.index(station.camera) * _LANE)
        for number, (station, _) in enumerate(drawn)
    ]
    _draw_joints(draw, [station for station, _ in drawn], dots)
    below = first_lane + len(lanes) * _LANE - _LANE // 2 + 6
    for (station, image), dot, lines in zip(drawn, dots, texts, strict=True):
        _draw_station(sheet, station, image, dot)
        for number, (text, ink) in enumerate(lines):
            letters = font(14 if number == 0 else 12)
            draw.text((dot[0], below + number * _TEXT_LINE), text, fill=ink, font=letters, anchor="mm")
    return sheet


def _draw_joints(draw: ImageDraw.ImageDraw, stations: Sequence[CameraVisit], dots: Sequence[tuple[int, int]]) -> None:
    """The line from station to station, with the time between them; to undated ones there is none."""
    for number in range(1, len(stations)):
        after = stations[number].seconds_after
        if after is None:
            continue
        (left, upper), (right, lower) = dots[number - 1], dots[number]
        draw.line([(left, upper), (right, lower)], fill=_LINE_INK, width=3)
        text = duration(after)
        x, y = (left + right) // 2, (upper + lower) // 2
        half = draw.textlength(text, font=font(13)) / 2 + 4
        draw.rounded_rectangle([x - half, y - 9, x + half, y + 9], radius=8, fill=PAGE, outline="#cbd5e1")
        draw.text((x, y), text, fill=FAINT, font=font(13), anchor="mm")


def _draw_station(sheet: Image.Image, station: CameraVisit, image: Image.Image | None, dot: tuple[int, int]) -> None:
    draw = ImageDraw.Draw(sheet)
    x, y = dot
    top = _MARGIN + _TITLE - 12
    sheet.paste(fitted(image, IMAGE_SIZE), (x - IMAGE_SIZE[0] // 2, top))
    draw.line([(x, top + IMAGE_SIZE[1] + 24), (x, y - _DOT // 2)], fill="#cbd5e1", width=1)
    facts = f"{station.score:.3f}" + (f", {station.images} images" if station.images > 1 else "")
    draw.text((x, top + IMAGE_SIZE[1] + 13), facts, fill=FAINT, font=font(13), anchor="mm")
    ground, half = (_DOT + 6) // 2, _DOT // 2
    draw.ellipse([x - ground, y - ground, x + ground, y + ground], fill=PAGE)
    if station.decision is None:
        draw.ellipse([x - half, y - half, x + half, y + half], fill=INK)
    else:
        sign = decision_sign(station.decision, _DOT)
        sheet.paste(sign, (x - half, y - half), sign)


def _lines_below(station: CameraVisit, zone: tzinfo | None) -> list[tuple[str, str]]:
    """The lines below a station with their ink."""
    if station.start is None:
        return [("time unknown", FAINT)]
    start = station.start.astimezone(zone)
    ink = INK if station.decision is None else DECISION_INKS[station.decision]
    lines = [(f"{start:%H:%M:%S}", ink), (f"{start:%Y-%m-%d}", FAINT)]
    if station.end is not None and station.end - station.start >= timedelta(seconds=1):
        lines.insert(1, (f"for {duration((station.end - station.start).total_seconds())}", FAINT))
    if station.at_once:
        lines.append(("elsewhere at once", DECISION_INKS["possible"]))
    return lines


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


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
