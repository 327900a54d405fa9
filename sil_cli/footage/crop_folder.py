"""The folder that crops go to: images, tables, and what it takes to go on after a kill at any moment.

    images/NAME/0007-000123.jpg    crops, named by tracklet and frame
    crops.csv                      all crops, a line each
    tracks/NAME.csv                every box that was followed in the footage NAME
    state/NAME.json                how far the footage NAME has been read, or that it is done
    state/NAME.crops.csv           its lines of crops.csv so far
    state/NAME.tracks.csv          its lines of tracks/NAME.csv so far

The two tables of a piece of footage only grow; its JSON file, which is replaced whole, says how long they were when it
was written. What lies behind that is cut off before anybody goes on, and is written again.
"""

from __future__ import annotations

import base64
import contextlib
import csv
import io
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError

from sil_cli.errors import DataError, UsageError, as_cell, quoted
from sil_cli.files import make_own_folder, parse_json, read_text, remove_leftovers, replacing, sync_folder, write_text
from sil_cli.footage.frames import Place

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from sil_cli.footage.sources import Footage

TABLE = "crops.csv"
COLUMNS = ("path", "camera", "time", "tracklet", "video", "frame", "seconds", "frame_box", "score")
TRACK_COLUMNS = ("frame", "seconds", "tracklet", "left", "top", "width", "height", "score")
IMAGES, TRACKS, STATE = "images", "tracks", "state"
_QUALITY = 95
_NAME = re.compile(r"[\w.-]+\.json")
_MOST_STATE = 2_000_000_000  # bytes; it holds the crops of tracklets that are under way


@dataclass
class Candidate:
    """A crop that may be kept, until its tracklet is over.

    Attributes:
        frame: Its frame's number.
        seconds: Of the frame.
        quality: How good it is, 0..1.
        row: Its line in `crops.csv`, but for the path.
        pixels: (height, width, 3) uint8; None once it is encoded.
        content: The JPEG file; None until it is asked for.
    """

    frame: int
    seconds: float
    quality: float
    row: dict[str, str]
    pixels: NDArray[np.uint8] | None = None
    content: bytes | None = None

    def encoded(self) -> bytes:
        """The crop as a JPEG file, always the same for the same pixels."""
        if self.content is None:
            assert self.pixels is not None  # noqa: S101 - it has either
            buffer = io.BytesIO()
            Image.fromarray(self.pixels).save(buffer, "JPEG", quality=_QUALITY, subsampling=0)
            self.content, self.pixels = buffer.getvalue(), None
        return self.content

    def stored(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        content = base64.b64encode(self.encoded()).decode()
        return {"frame": self.frame, "seconds": self.seconds, "quality": self.quality, "row": self.row, "jpeg": content}

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Candidate:
        """That of which `stored` was made."""
        return cls(
            int(stored["frame"]),
            float(stored["seconds"]),
            float(stored["quality"]),
            dict(stored["row"]),
            content=base64.b64decode(stored["jpeg"]),
        )


class Progress(BaseModel):
    """How far a piece of footage has been read.

    Attributes:
        source: What it is: the whole path of a file or folder, or a stream's address.
        stamp: Changes when the file does.
        options: What decided the result, by the names of the settings.
        model: The fingerprint of the model that helps to follow people; None for none.
        done: Nothing is left to do.
        next_frame: The first frame that hasn't been looked at.
        after: The last one that has, where it was noted.
        crops_bytes: Length of the table of its crops.
        tracks_bytes: Length of the table of its boxes.
        frames: Frames looked at.
        detections: People found in them.
        crops: Crops kept.
        tracklets: Tracklets that have a crop.
        ends: Seconds of the last frame looked at.
        sizes: Widths and heights of the frames looked at.
        tracker: State of the tracker.
        held: Boxes so far and crops that may be kept, by tracklet.
        oddities: What was odd in it, said when it was done.
    """

    model_config = ConfigDict(extra="forbid")

    source: str
    stamp: str
    options: dict[str, Any]
    model: str | None = None
    done: bool = False
    next_frame: int = 0
    after: Place | None = None
    crops_bytes: int = 0
    tracks_bytes: int = 0
    frames: int = 0
    detections: int = 0
    crops: int = 0
    tracklets: int = 0
    ends: float = 0.0
    sizes: list[tuple[int, int]] = []
    tracker: dict[str, Any] | None = None
    held: dict[int, dict[str, Any]] = {}
    oddities: list[str] = []


@dataclass
class FootageFiles:
    """The files of one piece of footage, open to be added to.

    Attributes:
        folder: All crops' folder.
        label: Names the piece.
        progress: How far it is.
    """

    folder: Path
    label: str
    progress: Progress
    _crops: BinaryIO = field(init=False)
    _tracks: BinaryIO = field(init=False)
    _unsynced: list[Path] = field(default_factory=list)

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Cut off what is not accounted for, and go on behind that; what isn't saved in the block doesn't count."""
        with (
            _grown(self._state("crops.csv"), self.progress.crops_bytes) as self._crops,
            _grown(self._state("tracks.csv"), self.progress.tracks_bytes) as self._tracks,
        ):
            remove_leftovers(make_own_folder(self.folder, IMAGES, self.label))
            yield

    def add_crop(self, tracklet: int, candidate: Candidate) -> int:
        """Write a crop and its line; returns the bytes that it took."""
        name = f"{tracklet:04d}-{candidate.frame:06d}.jpg"
        content = candidate.encoded()
        self._write(self.folder / IMAGES / self.label / name, content)
        row = {**candidate.row, "path": f"{IMAGES}/{self.label}/{name}", "tracklet": f"{self.label}-{tracklet:04d}"}
        self._crops.write(csv_line(as_cell(row[column]) for column in COLUMNS))
        self.progress.crops += 1
        return len(content)

    def _write(self, path: Path, content: bytes) -> None:
        """Write a crop whole or not at all; `save` has all of them on the disk before a table that counts names them.

        To wait for the disk after each took three quarters of a run's time.
        """
        with replacing(path, durable=False) as stream:
            stream.write(content)
        self._unsynced.append(path)

    def add_boxes(self, rows: Iterable[Iterable[str]]) -> None:
        """Write lines of the table of boxes."""
        for row in rows:
            self._tracks.write(csv_line(row))

    def save(self) -> None:
        """Say durably how far the footage has been read."""
        for path in self._unsynced:
            _sync(path)
        self._unsynced.clear()
        sync_folder(self.folder / IMAGES / self.label)
        for stream in (self._crops, self._tracks):
            stream.flush()
            os.fsync(stream.fileno())
        self.progress.crops_bytes, self.progress.tracks_bytes = self._crops.tell(), self._tracks.tell()
        write_text(self._state("json"), self.progress.model_dump_json())

    def finish(self, shortest: int) -> None:
        """Say durably that the footage is done, and put its table of boxes in its place.

        Args:
            shortest: Tracklets of fewer boxes are left out of the table; their frames stay.
        """
        self.save()
        with replacing(make_own_folder(self.folder, TRACKS) / f"{self.label}.csv") as stream:
            stream.write(csv_line(TRACK_COLUMNS))
            for line in _long_enough(self._state("tracks.csv"), shortest):
                stream.write(line)
        self.progress.done, self.progress.tracker, self.progress.held = True, None, {}
        self.save()

    def _state(self, suffix: str) -> Path:
        return self.folder / STATE / f"{self.label}.{suffix}"


class CropFolder:
    """A folder of crops, of as many pieces of footage as have ever been cropped into it.

    Its writer's lock must be held.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._state = make_own_folder(path, STATE)
        remove_leftovers(path)
        remove_leftovers(self._state)
        self._known: dict[str, Progress] = {}
        for file in sorted(self._state.iterdir()):
            if _NAME.fullmatch(file.name):
                self._known[file.stem] = self._read(file)

    def _read(self, file: Path) -> Progress:
        try:
            return Progress.model_validate(parse_json(read_text(file, most=_MOST_STATE)))
        except (OSError, ValueError, ValidationError) as error:
            raise DataError(
                f"{file} is damaged.",
                f"Delete it (`rm {quoted(file)}`) and run the same again: its footage is read anew.",
            ) from error

    def files(self, footage: Footage, options: dict[str, Any], *, force: bool) -> FootageFiles:
        """The files of a piece of footage, which may be done, begun, or new.

        Args:
            footage: What is cropped.
            options: What decides the result, by the names of the settings.
            force: Begin anew where it was cropped with others.

        Raises:
            UsageError: It was cropped with others.
        """
        source = str(footage.path.resolve()) if footage.path is not None else f"{footage.name} {footage.start}"
        stamp = _stamp(footage)
        label = next((name for name, each in self._known.items() if each.source == source), None)
        if label is not None:
            known = self._known[label]
            changed = [name for name in options if known.options.get(name) != options[name]]
            if not changed and known.stamp == stamp:
                return FootageFiles(self.path, label, known)
            if not force:
                why = (
                    f"with {_difference(changed[0], known.options, options)}" if changed else "before the file changed"
                )
                raise UsageError(
                    f"{footage.name} was cropped into {self.path} {why}.",
                    "Use --force to replace its crops, or --out DIR for another folder.",
                )
            self._forget(label)
        label = label or self._free(footage.label)
        self._known[label] = Progress(source=source, stamp=stamp, options=options)
        return FootageFiles(self.path, label, self._known[label])

    def _free(self, label: str) -> str:
        taken = {name.casefold() for name in self._known}
        names = (label if number == 1 else f"{label}-{number}" for number in range(1, len(taken) + 2))
        return next(name for name in names if name.casefold() not in taken)

    def _forget(self, label: str) -> None:
        """Delete what there is of a piece of footage, its progress first, so that nothing half deleted counts."""
        for suffix in ("json", "crops.csv", "tracks.csv"):
            (self._state / f"{label}.{suffix}").unlink(missing_ok=True)
        images = make_own_folder(self.path, IMAGES, label)
        for image in images.glob("*.jpg"):
            image.unlink()
        (self.path / TRACKS / f"{label}.csv").unlink(missing_ok=True)

    def drop(self, files: FootageFiles) -> None:
        """Forget a piece of footage of which nothing could be used."""
        self._forget(files.label)
        (self.path / IMAGES / files.label).rmdir()
        del self._known[files.label]

    def write_table(self) -> int:
        """Write `crops.csv` of all that is saved; returns the number of its lines below the header."""
        count = 0
        with replacing(self.path / TABLE) as stream:
            stream.write(csv_line(COLUMNS))
            for label in sorted(self._known):
                table = self._state / f"{label}.crops.csv"
                if table.exists():
                    content = table.read_bytes()[: self._known[label].crops_bytes]
                    count += content.count(b"\n")
                    stream.write(content)
        return count


def csv_line(cells: Iterable[str]) -> bytes:
    """A line of a table, with its end."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue().encode("utf-8", "surrogateescape")


def _long_enough(table: Path, shortest: int) -> Iterator[bytes]:
    """The lines of a table of boxes without those of short tracklets; of each frame at least one, without a box."""
    with table.open("rb") as stream:
        boxes = Counter(line.split(b",")[2] for line in stream)
        stream.seek(0)
        for (frame, seconds), lines in groupby(stream, lambda line: tuple(line.split(b",")[:2])):
            kept = [line for line in lines if (number := line.split(b",")[2]) and boxes[number] >= shortest]
            yield from kept or [b",".join([frame, seconds, *[b""] * (len(TRACK_COLUMNS) - 2)]) + b"\n"]


def _grown(path: Path, length: int) -> BinaryIO:
    """A file of ours, cut to a length, to be added to."""
    if path.is_symlink():
        path.unlink()
    stream = path.open("ab" if path.exists() else "xb")
    stream.truncate(length)
    stream.seek(0, os.SEEK_END)
    return stream


def _sync(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _stamp(footage: Footage) -> str:
    """What changes when a file does, or the number and the last of a folder's images."""
    if footage.kind == "video" and footage.path is not None:
        facts = footage.path.stat()
        return f"{facts.st_size} {facts.st_mtime_ns}"
    return f"{len(footage.frames)} images" if footage.kind == "frames" else ""


def _difference(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    return f"crop.{name} = {old.get(name)}, not {new[name]}"
