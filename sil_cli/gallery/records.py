"""What a gallery's database says of an image, of a file of vectors, and of the approximate index."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

Box = tuple[int, int, int, int]
Member = tuple[str, str, Box | None]
"""Source, path and box of one image of a tracklet."""


@dataclass(frozen=True)
class GalleryEntry:
    """What is known of one image of the gallery; `source`, `path` and `box` together name it.

    Attributes:
        path: Of the image file, relative to `source`.
        content_hash: SHA-256 of the image file.
        source: The folder or data set that it came from.
        identity: The person, None where unknown.
        camera: The camera, None where unknown.
        time: When it was taken, None where unknown.
        domain: The camera network, None where unknown.
        box: (left, top, width, height) in pixels that was cut out, None for the whole image.
        metadata: Anything else that is known, by name; searches can filter by it.
    """

    path: str
    content_hash: str
    source: str
    identity: str | None = None
    camera: str | None = None
    time: datetime | None = None
    domain: str | None = None
    box: Box | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, Box | None]:
        """What no two entries share."""
        return self.source, self.path, self.box


@dataclass(frozen=True)
class SegmentRecord:
    """One file of vectors, how many it holds and how many of them live.

    Attributes:
        sha256: Of the file.
        seen: The file's state (`files.file_state`) when its checksum was last known to be right, '' for never.
    """

    number: int
    name: str
    sha256: str
    seen: str
    count: int
    live: int


@dataclass(frozen=True)
class IndexRecord:
    """The file of the approximate index.

    Attributes:
        sha256: Of the file.
        seen: As in `SegmentRecord`.
        factory: FAISS's name of the kind of index.
        count: Vectors in it.
        last_id: It holds the vectors that lived up to this id when it was built.
        effort: nprobe or efSearch to search with; 0 where the index has neither.
        recall: recall@10 that was measured with it.
    """

    name: str
    sha256: str
    seen: str
    factory: str
    count: int
    last_id: int
    effort: int
    recall: float


def segment_name(number: int) -> str:
    """The file name of a segment."""
    return f"segment-{number:06d}.faiss"


def index_name(number: int) -> str:
    """The file name of an approximate index."""
    return f"index-{number:06d}.faiss"
