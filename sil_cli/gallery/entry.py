"""One entry of a gallery: what is known of its image, and what a search adds when it finds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated

from pydantic import Field, PlainSerializer

from sil_cli.data.images import Box
from sil_cli.evaluation.calibration import Decision

EntryKey = tuple[str, str, Box | None]
"""Source, path and box: what no two entries of a gallery share."""

Member = EntryKey
"""Source, path and box of one image of a tracklet."""

Time = Annotated[datetime, PlainSerializer(datetime.isoformat, return_type=str)]
"""A moment, in documents as it was given: ISO 8601 with the offset that it had."""

TRACKLET, TRACKLET_IMAGES, TRACKLET_END = "tracklet", "tracklet_images", "tracklet_end"
"""What an entry's metadata says of a tracklet: its name, of how many images it is the mean, and the last one's time."""


@dataclass(frozen=True)
class GalleryEntry:
    """What is known of one image of the gallery; `source`, `path` and `box` together name it.

    Attributes:
        path: Of the image file, relative to `source`.
        content_hash: SHA-256 of the image file.
        source: The folder or data set that it came from, relative to the gallery's folder.
        identity: The person, None where unknown.
        camera: The camera, None where unknown.
        time: When it was taken, None where unknown.
        domain: The camera network, None where unknown.
        box: (left, top, width, height) in pixels that was cut out, None for the whole image.
        metadata: Anything else that is known, by name; searches can filter by it.
    """

    path: str
    content_hash: Annotated[str, Field(exclude=True)]
    source: str
    identity: str | None = None
    camera: str | None = None
    time: Time | None = None
    domain: str | None = None
    box: Box | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> EntryKey:
        """What no two entries share."""
        return self.source, self.path, self.box


@dataclass(frozen=True, kw_only=True)
class _Score:
    """What `Match` and its document begin with."""

    rank: int
    score: float
    decision: Decision | None = None


@dataclass(frozen=True, kw_only=True)
class Match(GalleryEntry, _Score):
    """One gallery entry that was found.

    Attributes:
        rank: From 1.
        score: Cosine similarity, -1..1.
        decision: What the score means; None where the model is not calibrated.
        path: Of the image, relative to `source`.
        source: The folder that it came from, relative to the gallery's.
        time: ISO 8601, in UTC.
        images: Of how many images of one sighting the entry is the mean.
        metadata: Whatever else the gallery knows.
        id: The entry's number in this gallery; never used for another one.
        correct: Whether it shows the query's identity; None where either is unknown.
    """

    id: int
    images: int = 1
    correct: bool | None = None
    content_hash: Annotated[str, Field(exclude=True)] = ""


def make_match(rank: int, score: float, identifier: int, entry: GalleryEntry) -> Match:
    """An entry that was found."""
    images = entry.metadata.get(TRACKLET_IMAGES, "1")
    return Match(
        **vars(entry),
        rank=rank,
        score=min(1.0, max(-1.0, score)),
        id=identifier,
        images=int(images) if images.isdecimal() else 1,
    )
