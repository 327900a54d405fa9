"""What footage a user names: videos, folders and lists of frames, streams; which camera took it, and when it begins."""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from sil_cli.data.image_formats import IMAGE_SUFFIXES
from sil_cli.data.images import ImageError, load_image
from sil_cli.data.readers.own_images import slug
from sil_cli.errors import DataError, UsageError, one_line
from sil_cli.files import composed, read_text, require_reachable
from sil_cli.footage.frames import Frame, Place
from sil_cli.footage.videos import (
    STREAM,
    Clock,
    Oddities,
    VideoError,
    VideoFacts,
    next_due,
    read_facts,
    read_video,
    shown_address,
)
from sil_cli.patterns import PathPattern
from sil_cli.settings import find_zone
from sil_cli.times import AmbiguousTimeError, TimeReader

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sil_cli.settings import CropSettings, GallerySettings

VIDEO_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *(
            "mp4",
            "m4v",
            "mov",
            "mkv",
            "webm",
            "avi",
            "mpg",
            "mpeg",
            "ts",
            "mts",
            "m2ts",
            "wmv",
            "asf",
            "flv",
            "f4v",
            "3gp",
        ),
        *("ogv", "vob", "mxf", "dav", "h264", "264", "h265", "265", "hevc", "mjpg", "mjpeg", "ivf", "y4m"),
    )
)
"""By these the files of a folder are taken for videos; a file that is named is opened whatever its suffix."""

LISTS = frozenset({".txt", ".lst"})
_TIME_IN_NAME = re.compile(
    r"(?<!\d)(?:19|20)\d{2}[-_.]?\d{2}[-_.]?\d{2}(?:[T _-]*\d{2}[-_.:h]?\d{2}(?:[-_.:m]?\d{2})?)?(?!\d)"
)
_EXAMPLE = r"(?P<camera>[^/_]+)_(?P<time>\d{8}T\d{6})"
_GROUPS = ("camera", "time")
_RATE = re.compile(r"^frameRate\s*=\s*([\d.]+)\s*$", re.MULTILINE | re.IGNORECASE)
_INNER = "img1"
"""The folder of the frames in a sequence of MOTChallenge."""

_LONGEST_LIST = 64_000_000  # bytes
_NUMBER = re.compile(r"\d+")


@dataclass
class Footage:
    """One piece of footage of one camera.

    Attributes:
        name: What the user named it by, without a stream's password.
        kind: How it is read.
        address: What FFmpeg opens, of a stream.
        path: The video file, or the folder or list of the frames.
        frames: The images, of a folder or a list.
        camera: Which camera took it.
        start: When its first frame was taken, with a zone; None where nobody says.
        facts: How long it is.
        oddities: What was odd while it was read.
    """

    name: str
    kind: Literal["video", "frames", "stream"]
    camera: str
    path: Path | None = None
    address: str = ""
    frames: Sequence[Path] = ()
    start: datetime | None = None
    facts: VideoFacts = field(default_factory=VideoFacts)
    oddities: Oddities = field(default_factory=Oddities)

    @property
    def title(self) -> str:
        """What its file or folder is called, without an ending; of a sequence of MOTChallenge, the sequence's name."""
        if self.path is None:
            return self.camera
        path = self.path.resolve() if self.path.name in ("", "..") else self.path
        if self.kind == "frames" and path.name == _INNER:
            path = path.resolve().parent
        return path.name if path.is_dir() else path.stem

    @property
    def label(self) -> str:
        """A name for files and tracklets: of letters, digits, dots and dashes."""
        return slug(self.title if self.kind == "video" else self.camera) or "footage"


class FootageReader:
    """Finds footage and reads its frames, by the same settings.

    Args:
        wanted: What is read, of which camera, from when on and how often.
        names: How times in names are read, and in which zone.
        max_pixels: Frames of more are refused.

    Raises:
        UsageError: The pattern, the time format or the zone is not valid.
    """

    def __init__(self, wanted: CropSettings, names: GallerySettings, *, max_pixels: int) -> None:
        self._wanted = wanted
        self._max_pixels = max_pixels
        self._times = TimeReader(names.time_format, find_zone(names.timezone))
        self._pattern = None if wanted.pattern is None else PathPattern(wanted.pattern, example=_EXAMPLE)
        if self._pattern is not None and not set(self._pattern.groups) & set(_GROUPS):
            raise UsageError(
                f"The pattern {wanted.pattern!r} has no group camera or time.", f"For example: '{_EXAMPLE}'."
            )

    def find(self) -> list[Footage]:
        """The footage that the settings name, folders and lists opened up; no video has been opened yet.

        Raises:
            UsageError: Nothing is named, or there is nothing of that name.
            DataError: A folder or a list holds no footage.
        """
        if not self._wanted.videos:
            raise UsageError(
                "No footage is named.", "Name videos, folders of frames or a stream: `sil crop lobby.mp4 yard.mp4`."
            )
        found = [each for named in self._wanted.videos for each in self._named(named)]
        twice: dict[str, Footage] = {}
        for each in found:
            place = str(each.path.resolve()) if each.path is not None else each.address
            if twice.setdefault(place, each) is not each:
                raise UsageError(f"{each.name} is named twice.", "Name it once.")
        return found

    def _named(self, named: str) -> Iterator[Footage]:
        path = Path(named)
        if STREAM.fullmatch(named) or _is_device(path):
            yield self._described(Footage(shown_address(named), "stream", "", address=named))
            return
        require_reachable(path)
        if path.is_dir():
            yield from self._folder(path)
        elif not path.exists():
            raise UsageError(
                f"There is no file or folder {path}.", "Name a video, a folder of frames, or a stream's address."
            )
        elif path.suffix.lower() in LISTS:
            yield from self._list(path)
        else:
            yield self._described(Footage(named, "video", "", path))

    def _folder(self, folder: Path) -> Iterator[Footage]:
        """Its frames as one piece of footage, or each of its videos, or those of the folders of a data set in it."""
        inner = folder / _INNER
        images = images_in(inner if inner.is_dir() else folder)
        if images:
            yield self._described(Footage(str(folder), "frames", "", folder, frames=images))
            return
        children = sorted(folder.iterdir(), key=lambda path: natural(path.name))
        videos = [each for each in children if each.suffix.lower() in VIDEO_SUFFIXES and each.is_file()]
        sequences = [each for each in children if (each / _INNER).is_dir()]
        if not videos and not sequences:
            raise DataError(
                f"There are neither videos nor images in {folder}.",
                "Name a video, or the folder that holds the frames.",
            )
        for video in videos:
            yield self._described(Footage(str(video), "video", "", video))
        for sequence in sequences:
            yield from self._folder(sequence)

    def _list(self, listing: Path) -> Iterator[Footage]:
        """Its images as one piece of footage, and each of its videos."""
        try:
            lines = read_text(listing, most=_LONGEST_LIST).splitlines()
        except (OSError, ValueError) as error:
            raise DataError(f"{listing} can't be read: {one_line(error)}.", "Write one path per line.") from error
        paths = [Path(line.strip()) for line in lines if line.strip()]
        images = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES]
        if not paths:
            raise DataError(f"{listing} lists nothing.", "Write one path per line.")
        if images:
            yield self._described(Footage(str(listing), "frames", "", listing, frames=images))
        for path in paths:
            if path.suffix.lower() not in IMAGE_SUFFIXES:
                yield self._described(Footage(str(path), "video", "", path))

    def _described(self, footage: Footage) -> Footage:
        """With its camera, and with the start that the user or the pattern gives."""
        stem = composed(footage.title) if footage.kind != "stream" else footage.name.partition("://")[2]
        named = footage.name if not footage.frames else str(footage.frames[0])  # which holds the folder's, too
        matched = self._pattern.search(composed(named)) if self._pattern is not None else None
        groups = {name: text for name, text in (matched or {}).items() if text}
        footage.camera = self._wanted.camera or groups.get("camera") or stem.strip("/") or "camera"
        if self._pattern is not None and matched is None and self._wanted.camera is None and footage.kind != "stream":
            raise UsageError(
                f"The pattern {self._wanted.pattern!r} doesn't match {named}.",
                "Correct it, or leave it out: cameras are then called as the files are.",
            )
        footage.start = self._moment(self._wanted.start) or self._in_words(groups.get("time"), footage.name)
        return footage

    def _moment(self, moment: datetime | None) -> datetime | None:
        return None if moment is None else self._times.settle(moment)

    def _in_words(self, text: str | None, name: str) -> datetime | None:
        if text is None:
            return None
        try:
            return self._times.read(text)
        except AmbiguousTimeError as error:
            raise UsageError(f"'{text}' in {name} may be {error}.", "Say which with --time-format.") from None
        except ValueError as error:
            raise UsageError(
                f"'{text}' in {name} is not a time: {error}.", "Correct the pattern, or use --time-format."
            ) from None

    def look_at(self, footage: Footage) -> None:
        """Learn how long a piece of footage is and when it began, as far as its header and its name say so.

        Raises:
            VideoError: It can't be used.
        """
        if footage.kind == "video":
            assert footage.path is not None  # noqa: S101 - a video has one
            footage.facts = read_facts(footage.path, footage.name)
        elif footage.kind == "frames":
            rate = self._frame_rate(footage)
            footage.facts = VideoFacts(len(footage.frames) / rate, rate, None)
        else:
            footage.start = footage.start or datetime.now(UTC)
        if footage.start is None:
            footage.start = footage.facts.created or self._from_name(footage.name)

    def _frame_rate(self, footage: Footage) -> float:
        """Of frames as images: what the user says, or the `seqinfo.ini` of MOTChallenge, or 25."""
        if self._wanted.fps is not None:
            return self._wanted.fps
        if footage.path is not None and footage.path.is_dir():
            for folder in (footage.path, footage.path.parent):
                try:
                    found = _RATE.search(read_text(folder / "seqinfo.ini", most=100_000))
                except (OSError, ValueError):
                    continue
                if found and 0 < float(found[1]) <= 1000:
                    return float(found[1])
        return 25.0

    def _from_name(self, name: str) -> datetime | None:
        """The one time that a name holds, with or without a pattern that says where."""
        moments = set()
        for found in _TIME_IN_NAME.finditer(Path(name).name):
            try:
                moments.add(self._times.read(re.sub(r"[_ ]", "T", found[0], count=1).replace("_", "-")))
            except ValueError:
                continue
        return moments.pop() if len(moments) == 1 else None

    def frames(self, footage: Footage, *, after: Place | None = None) -> Iterator[Frame]:
        """The frames that are wanted of a piece of footage, each with its time.

        Args:
            footage: What is read, as `look_at` left it; gets what is odd in it.
            after: Where somebody stopped, with the digest of that frame: only those behind it are wanted.

        Raises:
            VideoError: It can't be read, or holds no frame.
        """
        wanted = self._wanted
        until = self._moment(wanted.until)
        footage.oddities = Oddities()
        for count, (place, image) in enumerate(self._pictures(footage, after)):
            if footage.kind == "stream" and not count and wanted.start is None:
                footage.start = datetime.now(UTC)  # until now it was connected to
            time = None if footage.start is None else footage.start + timedelta(seconds=round(place.seconds, 3))
            if wanted.lasting is not None and place.seconds > wanted.lasting:
                return
            if until is not None and time is not None and time > until:
                return
            name = footage.frames[place.index].name if footage.kind == "frames" else ""
            yield Frame(place.index, time, place.seconds, image, place, name)

    def _pictures(self, footage: Footage, after: Place | None) -> Iterator[tuple[Place, np.ndarray]]:
        if footage.kind == "frames":
            yield from self._images(footage, after)
            return
        source = footage.address if footage.kind == "stream" else footage.path
        assert source is not None  # noqa: S101 - a video has a path
        yield from read_video(
            source,
            footage.name,
            every=self._wanted.every,
            oddities=footage.oddities,
            max_pixels=self._max_pixels,
            patience=self._wanted.patience,
            after=after,
        )

    def _images(self, footage: Footage, after: Place | None) -> Iterator[tuple[Place, np.ndarray]]:
        """The images as frames; the times are the pattern's where it finds one in each, or those of the frame rate."""
        every, due, usable = self._wanted.every, 0.0, 0
        rate = footage.facts.rate or 25.0
        clock = Clock(1 / rate)
        begin: datetime | None = None
        footage.oddities.damaged = 0 if after is None else after.damaged
        for index, path in enumerate(footage.frames):
            own = index / rate
            if self._pattern is not None and "time" in self._pattern.groups:
                found = (self._pattern.search(composed(str(path))) or {}).get("time")
                moment = self._in_words(found, str(path))
                if moment is not None:
                    if begin is None:
                        begin = moment
                        footage.start = self._moment(self._wanted.start) or moment
                    own = (moment - begin).total_seconds()
            seconds = clock.seconds(own)
            if seconds < due - 1e-6:
                continue
            due = next_due(due, seconds, every)
            if after is not None and index <= after.index:
                usable += 1
                continue
            try:
                image = np.asarray(load_image(path, max_pixels=self._max_pixels))
            except ImageError:
                footage.oddities.damaged += 1
                continue
            usable += 1
            yield Place(index, seconds, due, footage.oddities.damaged), image
        footage.oddities.jumps = clock.jumps
        if not usable:
            raise VideoError(footage.name, "none of its images can be read" if footage.frames else "no frames in it")


def natural(name: str) -> list[tuple[int, int | str]]:
    """A key by which `2.jpg` comes before `10.jpg`."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part)) if _NUMBER.fullmatch(part) and part.isascii() else (1, part) for part in parts if part]


def overlaps(footage: Sequence[Footage]) -> list[str]:
    """Which pieces of footage of one camera were taken at the same time, in a sentence each."""
    said = []
    timed = [each for each in footage if each.start is not None and each.facts.seconds]
    for number, one in enumerate(timed):
        for other in timed[number + 1 :]:
            spans = [
                (each.start, each.start + timedelta(seconds=each.facts.seconds or 0))
                for each in (one, other)
                if each.start
            ]
            seconds = (min(end for _, end in spans) - max(start for start, _ in spans)).total_seconds()
            if one.camera == other.camera and seconds > 1.0:
                said.append(
                    f"{one.name} and {other.name}, both of camera {one.camera}, overlap by {seconds:,.0f} s: who is in "
                    "both gets tracklets in both."
                )
    return said


def images_in(folder: Path) -> list[Path]:
    """The images of a folder, as frames in order."""
    images = [
        each for each in folder.iterdir() if each.suffix.lower() in IMAGE_SUFFIXES and not each.name.startswith(".")
    ]
    return sorted(images, key=lambda path: natural(path.name))


def _is_device(path: Path) -> bool:
    try:
        return stat.S_ISCHR(path.stat().st_mode) and str(path).startswith("/dev/video")
    except (OSError, ValueError):
        return False
