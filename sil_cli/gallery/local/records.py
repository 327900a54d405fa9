"""What a gallery's database says of a file of vectors and of the approximate index, and where such files lie."""

from __future__ import annotations

import re
from dataclasses import dataclass

DATABASE_FILE = "gallery.sqlite"
VECTOR_FOLDER = "vectors"
SET_ASIDE_FOLDER = "set-aside"
"""Where `repair` and writers put files of vectors that the database doesn't know; `compact` deletes it."""

FILE_NAME = re.compile(r"(segment|index)-(\d{6,})\.faiss")


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

    number: int
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
