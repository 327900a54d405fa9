"""Footage with what was found in it: boxes over the frames as a video, and a page with the ways that people took."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageDraw

from sil_cli.data.images import ImageError, load_image
from sil_cli.errors import SilError, UsageError, from_cell, one_line
from sil_cli.files import read_text, remove_leftovers, writing
from sil_cli.footage.evaluate_tracks import read_tracks
from sil_cli.report.canvas import data_uri, font, shrunk
from sil_cli.report.pages import render
from sil_cli.report.video import require_video_format, writing_video

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from numpy.typing import NDArray

    from sil_cli.footage.sources import Footage, FootageReader
    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings

_COLOURS: Final = (
    "#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#0891b2", "#f032e6", "#65a30d", "#b45309", "#0f766e",
    "#9a6324", "#6d28d9",
)  # fmt: skip
_WIDEST: Final = 1280
"""Pixels of an overlay's width; larger frames are scaled down."""

_PICTURE: Final = (960, 720)
_TRAIL: Final = 2.0  # seconds of a person's way that an overlay shows
_MOST_TRACKLETS: Final = 150
"""Tracklets of one piece of footage on the page; those seen longest."""

_MOST_CROPS: Final = 600
"""Crops on the page in all, some 3 kB each."""

_THUMBNAIL: Final = (48, 96)
_CHART_WIDTH: Final = 900


@dataclass(frozen=True)
class Trajectory:
    """One tracklet, as it is drawn.

    Attributes:
        name: As in `crops.csv`.
        number: Within its footage.
        seconds: (boxes) when it was seen.
        boxes: (boxes, 4) left, top, width, height.
        crops: The files of its crops that are kept.
    """

    name: str
    number: str
    seconds: NDArray[np.float64]
    boxes: NDArray[np.float64]
    crops: tuple[Path, ...]

    @property
    def colour(self) -> str:
        """The colour that tells it from its neighbours."""
        return colour_of(self.number)

    @property
    def feet(self) -> NDArray[np.float64]:
        """(boxes, 2) where the middle of each box's lower edge lies."""
        return np.column_stack([self.boxes[:, 0] + self.boxes[:, 2] / 2, self.boxes[:, 1] + self.boxes[:, 3]])


def colour_of(tracklet: str) -> str:
    """The colour of a tracklet: the same in the video and on the page."""
    return _COLOURS[int(tracklet) % len(_COLOURS)] if tracklet.isdecimal() else _COLOURS[len(tracklet) % len(_COLOURS)]


def check_overlay(path: Path, pieces: int) -> None:
    """Refuse an overlay that can't be written, before anything is cropped for it.

    Raises:
        SilError: The package for it is missing, or one file is named for several pieces of footage.
    """
    if path.suffix:
        require_video_format(path)
        if pieces > 1:
            raise UsageError(
                f"{path} is one file, and {pieces} pieces of footage are named.",
                "Name a folder: each gets a video of its own in it.",
            )
    else:
        require_video_format(path / "overlay.mp4")


def draw_footage(
    settings: Settings, reader: FootageReader, pieces: Sequence[tuple[Footage, str]], reporter: Reporter
) -> tuple[list[Path], Path | None]:
    """Write the overlays and the page, whichever is asked for; one that can't be written is a warning.

    Args:
        settings: They say where to.
        reader: Reads the frames once more.
        pieces: Footage that has been cropped, each with the name of its tracks.
        reporter: Hears of the progress.

    Returns:
        The overlays and the page that were written.
    """
    wanted = settings.crop
    overlays: list[Path] = []
    rereadable = [each for each in pieces if each[0].kind != "stream"]
    if wanted.overlay is not None:
        for footage, name in rereadable:
            path = wanted.overlay if wanted.overlay.suffix else wanted.overlay / f"{name}.mp4"
            own = settings.is_users_own("crop.overlay")
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                remove_leftovers(path.parent)  # a killed run's half of a video may be large
                _write_overlay(path, reader, footage, wanted.out / "tracks" / f"{name}.csv", reporter, users_own=own)
                overlays.append(path)
            except (OSError, SilError) as error:
                why = error.what if isinstance(error, SilError) else f"{one_line(error)}."
                reporter.warn(f"The overlay was not written to {path}: {why} Name another with --overlay.")
        if len(rereadable) < len(pieces):
            reporter.note("A stream can't be read twice: there is no overlay of it.")
    if wanted.html is None:
        return overlays, None
    try:
        page = _page(settings, reader, pieces)
        with writing(wanted.html, users_own=settings.is_users_own("crop.html")) as stream:
            stream.write(page.encode())
    except OSError as error:
        reporter.warn(f"The page was not written to {wanted.html}: {one_line(error)}. Name another with --html FILE.")
        return overlays, None
    return overlays, wanted.html


def _write_overlay(
    path: Path, reader: FootageReader, footage: Footage, tracks: Path, reporter: Reporter, *, users_own: bool
) -> None:
    rows, tracklets, _ = read_tracks(tracks)
    by_frame: dict[int, list[int]] = defaultdict(list)
    for at, frame in enumerate(rows[:, 0].astype(int).tolist()):
        by_frame[frame].append(at)
    trails: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    with (
        reporter.task(f"Drawing {path.name}", None, "frames") as task,
        writing_video(path, started=footage.start, users_own=users_own) as video,
    ):
        for frame in reader.frames(footage):
            here = by_frame.get(frame.index, [])
            for at in here:
                left, top, width, height = rows[at, 2:]
                trails[tracklets[at]].append((frame.seconds, left + width / 2, top + height))
            trails = defaultdict(
                list,
                {
                    name: [each for each in points if each[0] >= frame.seconds - _TRAIL]
                    for name, points in trails.items()
                    if points[-1][0] >= frame.seconds - _TRAIL
                },
            )
            drawn = draw_boxes(
                frame.image,
                [(rows[at, 2:], tracklets[at]) for at in here],
                [(trails[tracklets[at]], tracklets[at]) for at in here],
                frame.time,
            )
            video.write(drawn, frame.seconds)
            task.advance()


def draw_boxes(
    image: NDArray[np.uint8],
    boxes: Sequence[tuple[NDArray[np.float64], str]],
    trails: Sequence[tuple[Sequence[tuple[float, float, float]], str]] = (),
    time: datetime | None = None,
) -> NDArray[np.uint8]:
    """A frame with people's boxes, their tracklets' numbers, the ways that they came and the time.

    Args:
        image: (height, width, 3), uint8.
        boxes: Left, top, width and height in its pixels, and the tracklet.
        trails: Seconds, across and down of each place of a way, and the tracklet.
        time: When it was taken.

    Returns:
        (height, width, 3), uint8, scaled down where it is wider than 1280 pixels.
    """
    picture = Image.fromarray(image)
    scale = min(1.0, _WIDEST / picture.width)
    if scale < 1:
        picture = picture.resize((_WIDEST, max(round(picture.height * scale), 2)), Image.Resampling.BILINEAR)
    pen, letters = ImageDraw.Draw(picture), font(max(12, picture.height // 40))
    for points, tracklet in trails:
        if len(points) > 1:
            pen.line([(scale * x, scale * y) for _, x, y in points], fill=colour_of(tracklet), width=2)
    for (left, top, width, height), tracklet in boxes:
        ink = colour_of(tracklet)
        edges = [scale * left, scale * top, scale * (left + width), scale * (top + height)]
        pen.rectangle(edges, outline=ink, width=max(2, picture.height // 240))
        box = pen.textbbox((edges[0], max(edges[1] - letters.size * 1.3, 0)), tracklet, font=letters)  # type: ignore[union-attr]
        pen.rectangle([box[0] - 2, box[1] - 2, box[2] + 2, box[3] + 2], fill=ink)
        pen.text((edges[0], max(edges[1] - letters.size * 1.3, 0)), tracklet, font=letters, fill="#ffffff")  # type: ignore[union-attr]
    if time is not None:
        text = f"{time:%Y-%m-%d %H:%M:%S}"
        box = pen.textbbox((8, 6), text, font=letters)
        pen.rectangle([box[0] - 4, box[1] - 3, box[2] + 4, box[3] + 3], fill="#111827")
        pen.text((8, 6), text, font=letters, fill="#ffffff")
    return np.asarray(picture)


def _page(settings: Settings, reader: FootageReader, pieces: Sequence[tuple[Footage, str]]) -> str:
    crops = _kept_crops(settings.crop.out)
    room = _MOST_CROPS
    sections = []
    for footage, name in pieces:
        trajectories = read_trajectories(settings.crop.out / "tracks" / f"{name}.csv", name, crops)
        longest = sorted(trajectories, key=lambda each: each.seconds[0] - each.seconds[-1])[:_MOST_TRACKLETS]
        shown = sorted(longest, key=lambda each: float(each.seconds[0]))
        images: dict[str, list[Image.Image]] = {}
        for each in shown:
            images[each.name] = _open(each.crops[: max(room, 0)])
            room -= len(images[each.name])
        frame = None if footage.kind == "stream" else _first_frame(reader, footage)
        picture = None if frame is None else draw_trajectories(frame, shown)
        sections.append(
            {
                "name": name,
                "footage": footage,
                "picture": None if picture is None else data_uri(_as_jpeg(picture), "image/jpeg"),
                "shown": shown,
                "left_out": len(trajectories) - len(shown),
                "crops": images,
                "bars": _bars(shown),
            }
        )
    return render(
        "footage.html", title=f"People in {settings.crop.out}", sections=sections, moment=_moment, width=_CHART_WIDTH
    )


def _moment(footage: Footage, seconds: float) -> str:
    """A second of footage in words: the time of day where it is known, else since the beginning."""
    if footage.start is None:
        return f"{int(seconds) // 60}:{seconds % 60:04.1f}"
    return f"{footage.start + timedelta(seconds=float(seconds)):%H:%M:%S}"


def read_trajectories(tracks: Path, name: str, crops: dict[str, tuple[Path, ...]]) -> list[Trajectory]:
    """The tracklets of one piece of footage, in the order in which they were first seen."""
    rows, tracklets, _ = read_tracks(tracks)
    order: dict[str, list[int]] = defaultdict(list)
    for at, tracklet in enumerate(tracklets):
        order[tracklet].append(at)
    return [
        Trajectory(full, number, rows[at, 1], rows[at, 2:], crops.get(full, ()))
        for number, at in order.items()
        for full in [f"{name}-{int(number):04d}" if number.isdecimal() else number]
    ]


def draw_trajectories(image: NDArray[np.uint8], trajectories: Sequence[Trajectory]) -> Image.Image:
    """A pale frame with the ways of people's feet: a ring where each begins, a dot and its number where it ends."""
    whole = Image.fromarray(image)
    picture = shrunk(Image.blend(whole, Image.new("RGB", whole.size, "#ffffff"), 0.45), _PICTURE)
    scale = picture.width / whole.width
    pen, letters = ImageDraw.Draw(picture), font(15)
    for each in trajectories:
        points = [(float(x), float(y)) for x, y in np.minimum(each.feet * scale, np.asarray(picture.size) - 3)]
        if len(points) > 1:
            pen.line(points, fill=each.colour, width=3, joint="curve")
        (first_x, first_y), (x, y) = points[0], points[-1]
        pen.ellipse([first_x - 5, first_y - 5, first_x + 5, first_y + 5], outline=each.colour, width=2)
        pen.ellipse([x - 5, y - 5, x + 5, y + 5], fill=each.colour)
        place = (min(x + 7, picture.width - letters.getlength(each.number) - 3), max(y - 18, 0))
        pen.text(place, each.number, font=letters, fill=each.colour, stroke_width=2, stroke_fill="#ffffff")
    return picture


def _bars(trajectories: Sequence[Trajectory]) -> list[tuple[str, str, float, float]]:
    """Number, colour, left and width of each tracklet in a chart over the time of all."""
    if not trajectories:
        return []
    first = min(float(each.seconds[0]) for each in trajectories)
    length = max(max(float(each.seconds[-1]) for each in trajectories) - first, 1e-9)
    factor = (_CHART_WIDTH - 60) / length
    begins = [40 + factor * float(each.seconds[0] - first) for each in trajectories]
    lengths = [max(2.0, factor * float(np.ptp(each.seconds))) for each in trajectories]
    return [
        (each.number, each.colour, left, long) for each, left, long in zip(trajectories, begins, lengths, strict=True)
    ]


def _kept_crops(folder: Path) -> dict[str, tuple[Path, ...]]:
    """The files of each tracklet's crops."""
    crops: dict[str, list[Path]] = defaultdict(list)
    for row in csv.DictReader(read_text(folder / "crops.csv", most=2 * 10**9).splitlines()):
        crops[from_cell(row["tracklet"])].append(folder / from_cell(row["path"]))
    return {name: tuple(paths) for name, paths in crops.items()}


def _open(paths: Sequence[Path]) -> list[Image.Image]:
    images = []
    for path in paths:
        try:
            images.append(shrunk(load_image(path), _THUMBNAIL))
        except ImageError:  # removed since
            continue
    return images


def _first_frame(reader: FootageReader, footage: Footage) -> NDArray[np.uint8] | None:
    """A picture of the place; None where it can't be read any more."""
    try:
        return next((frame.image for frame in reader.frames(footage)), None)
    except SilError:
        return None


def _as_jpeg(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=85)
    return stream.getvalue()
