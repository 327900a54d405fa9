"""One entry of a gallery: what is known of its image, and what a search adds when it finds it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, PlainSerializer

from sil_cli.data.images import Box
from sil_cli.errors import GalleryError
from sil_cli.evaluation.calibration import Decision
from sil_cli.files import parse_json

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

EntryKey = tuple[str, str, Box | None]
"""Source, path and box: what no two entries of a gallery share."""

Member = EntryKey
"""Source, path and box of one image of a tracklet."""

Time = Annotated[datetime, PlainSerializer(datetime.isoformat, return_type=str)]
"""A moment, in documents as it was given: ISO 8601 with the offset that it had."""

LAST_ID = 2**53
"""The highest id and number that a gallery may hold: as far as a float64 and any reader of JSON tell them apart."""

FRAME_BOX = "frame_box"
FOOTAGE_PLACE = ("video", "frame", "seconds", FRAME_BOX, "score")
"""What the metadata of a crop out of footage says of where it was cut: as `sil crop` writes it."""

_FARTHEST_EDGE = 2**31  # of a box, in pixels
_LONGEST_TIME = 64  # letters
_FIRST_YEAR, _LAST_YEAR = 2, 9998  # a day nearer to the ends a time in another zone is none that Python knows

TRACKLET, TRACKLET_IMAGES, TRACKLET_END = "tracklet", "tracklet_images", "tracklet_end"
"""What an entry's metadata says of a tracklet: its name, of how many images it is the mean, and the last one's time."""


@dataclass(frozen=True)
class GalleryEntry:
    """What is known of one image of the gallery; `source`, `path` and `box` together name it.

    Attributes:
        path: Of the image file, relative to `source`.
        content_hash: SHA-256 of the image file; empty before it was read.
        source: The folder or data set that it came from, relative to the gallery's folder; the whole path of that
            folder while the image is on its way into a gallery.
        identity: The person, None where unknown.
        camera: The camera, None where unknown.
        domain: The camera network, None where unknown.
        time: When it was taken, None where unknown.
        box: (left, top, width, height) in pixels that was cut out, None for the whole image.
        metadata: Anything else that is known, by name; searches can filter by it.
    """

    path: str
    content_hash: Annotated[str, Field(exclude=True)]
    source: str
    identity: str | None = None
    camera: str | None = None
    domain: str | None = None
    time: Time | None = None
    box: Box | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> EntryKey:
        """What no two entries share."""
        return self.source, self.path, self.box

    def file(self, gallery: Path) -> Path:
        """Where the image lies, seen from the gallery's folder."""
        return gallery.joinpath(self.source, self.path)

    def filled_from(self, other: GalleryEntry) -> GalleryEntry:
        """This entry with what only `other` knows of it."""
        return replace(
            self,
            identity=self.identity if self.identity is not None else other.identity,
            camera=self.camera if self.camera is not None else other.camera,
            time=self.time if self.time is not None else other.time,
            domain=self.domain if self.domain is not None else other.domain,
            metadata={**other.metadata, **self.metadata},
        )


@dataclass(frozen=True, kw_only=True)
class _Score:
    """What `Match` and its document begin with."""

    rank: int
    score: float
    decision: Decision | None = None
    expected_false_matches: float | None = None


@dataclass(frozen=True, kw_only=True)
class Match(GalleryEntry, _Score):
    """One gallery entry that was found.

    Attributes:
        rank: From 1.
        score: Cosine similarity, -1..1.
        decision: What the score means; None where nothing says.
        expected_false_matches: How many entries of other people are expected to look as alike by chance, of those that
            were searched; None where the gallery is too small to tell.
        path: Of the image, relative to `source`.
        source: The folder that it came from, relative to the gallery's.
        time: ISO 8601, in UTC.
        images: Of how many images of one tracklet the entry is the mean.
        metadata: Whatever else the gallery knows.
        id: The entry's number in this gallery; never used for another one.
        correct: Whether it shows the query's identity; None where either is unknown.
        person: The number of the person whom `sil people` found in it; None unless that was asked for.
        person_name: Their name, where they have one.
    """

    id: int
    images: int = 1
    correct: bool | None = None
    person: int | None = None
    person_name: str | None = None
    content_hash: Annotated[str, Field(exclude=True)] = ""


def footage_moment(entry: GalleryEntry) -> str:
    """From which footage an image was cut and at which second, in words: `lobby.mp4 1:12.4`; empty where from none."""
    video, seconds = entry.metadata.get("video", ""), entry.metadata.get("seconds", "")
    if FRAME_BOX not in entry.metadata or not video:
        return ""
    name = video.replace("\\", "/").rpartition("/")[2]
    try:
        minutes, rest = divmod(float(seconds), 60)
        return f"{name} {minutes:.0f}:{rest:04.1f}"
    except ValueError:  # a stranger's table
        return name


def in_words(expected: float) -> str:
    """A number of expected false matches for a table."""
    return "<0.01" if expected < 0.01 else f"{expected:.2g}" if expected < 10 else f"{expected:,.0f}"


def stored_time(text: object) -> datetime:
    """A time that an entry has in a store.

    Raises:
        ValueError: A stranger wrote it: it is none, or lies where some zone has no such year.
    """
    if not isinstance(text, str) or len(text) > _LONGEST_TIME:
        raise ValueError(f"the time {text!s:.40} of an entry")
    time = datetime.fromisoformat(text)
    require_time(time)
    return time


def in_utc(time: datetime) -> datetime:
    """A stored time in UTC; one without a zone, as older galleries have them, counts as UTC."""
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def require_time(time: datetime) -> None:
    """Raise a ValueError for a time so early or late that some zone has no date for it."""
    if not _FIRST_YEAR <= time.year <= _LAST_YEAR:
        raise ValueError(f"the year {time.year} of a time")


def box_text(box: Box | None) -> str:
    """A box as stores keep it: JSON; '' for none."""
    return "" if box is None else json.dumps(box)


def stored_box(text: str) -> Box | None:
    """The box of which `box_text` made this.

    Raises:
        ValueError: It is no box.
    """
    if not text:
        return None
    numbers = parse_json(text)
    if not isinstance(numbers, list) or [type(one) for one in numbers] != [int] * 4:
        raise ValueError("a box that isn't of four whole numbers")
    left, top, width, height = numbers
    if min(width, height) < 1 or max(abs(left), abs(top), width, height) > _FARTHEST_EDGE:
        raise ValueError("a box without a sensible size")
    return left, top, width, height


def require_names(*names: str) -> None:
    """Raise a ValueError where one of these names of files and folders can't be any's."""
    if any("\0" in name for name in names):
        raise ValueError("a name of a file with a zero byte in it")


def instant_of(time: datetime) -> float:
    """Seconds since 1970 of a stored time."""
    return (time.replace(tzinfo=UTC) if time.tzinfo is None else time).timestamp()


def make_match(rank: int, score: float, identifier: int, entry: GalleryEntry) -> Match:
    """An entry that was found."""
    images = entry.metadata.get(TRACKLET_IMAGES, "1")
    return Match(
        **vars(entry),
        rank=rank,
        score=min(1.0, max(-1.0, score)),
        id=identifier,
        images=int(images) if images.isdecimal() and len(images) < len(str(LAST_ID)) else 1,
    )


def require_batch(
    entries: Sequence[GalleryEntry],
    embeddings: NDArray[np.floating],
    members: Sequence[Sequence[Member]],
    dimension: int,
) -> None:
    """Refuse a batch that doesn't fit together or to the gallery, before anything of it is written.

    Args:
        entries: N of them.
        embeddings: Shape (N, D).
        members: For each entry the images that it is the mean of; or empty.
        dimension: The gallery's.

    Raises:
        GalleryError: It doesn't.
    """
    if embeddings.shape != (len(entries), dimension):
        raise GalleryError(
            f"{len(entries)} images were given embeddings of shape {embeddings.shape}.",
            f"This gallery needs one row of {dimension} values per image.",
        )
    (key, times), *_ = Counter(entry.key for entry in entries).most_common(1)
    if times > 1:
        raise GalleryError(f"'{key[1]}' appears {times} times in one batch.", "Give each image once.")
    for entry in entries:
        if entry.time is not None:
            try:
                require_time(entry.time)
            except ValueError as error:
                raise GalleryError(
                    f"'{entry.path}' can't have {error}.", "Correct its time, or leave it out."
                ) from error
    images = [entry.key for entry in entries] + [one for some in members for one in some]
    for source, path, _ in images:
        if not _is_text(source) or not _is_text(path):
            raise GalleryError(f"The file name {path!r} is not UTF-8.", "Rename the file.")


def _is_text(name: str) -> bool:
    """Whether a file name can be stored: the OS may hand over bytes that are no text."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)
