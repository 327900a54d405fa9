"""What a gallery's database holds: its tables, the records of files, and how older versions are brought up to date."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sil_cli.gallery.entry import instant_of, stored_time
from sil_cli.gallery.interface import AUTOMATIC
from sil_cli.gallery.local.database import statements

if TYPE_CHECKING:
    import sqlite3


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


FORMAT = 2
OLDEST_FORMAT = 1

_SEGMENTS = """
CREATE TABLE segments (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    sha256 TEXT NOT NULL,
    count INTEGER NOT NULL,
    seen TEXT NOT NULL DEFAULT ''         -- the file's state when its checksum was last known to be right
) STRICT;
"""
_ENTRIES = """
CREATE TABLE entries (
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- never used twice, so a dead vector can't come back to life
    source TEXT NOT NULL,
    path TEXT NOT NULL,
    box TEXT NOT NULL,                    -- JSON, '' for the whole image
    identity TEXT,
    camera TEXT,
    time TEXT,                            -- ISO 8601
    domain TEXT,
    content_hash TEXT NOT NULL,
    segment INTEGER NOT NULL REFERENCES segments (number),
    instant REAL,                         -- the time in seconds since 1970, UTC; for spans
    UNIQUE (source, path, box)
) STRICT;
CREATE INDEX entries_by_content ON entries (content_hash);
CREATE INDEX entries_by_segment ON entries (segment);
"""
_ADDED_BY_2 = """
CREATE INDEX entries_by_camera ON entries (camera);
CREATE INDEX entries_by_identity ON entries (identity);
CREATE INDEX entries_by_instant ON entries (instant);
CREATE TABLE metadata (
    entry INTEGER NOT NULL REFERENCES entries (id) ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (entry, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX metadata_by_value ON metadata (key, value);
CREATE TABLE members (                    -- the images of a tracklet, of whose embeddings an entry is the mean
    entry INTEGER NOT NULL REFERENCES entries (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    source TEXT NOT NULL,
    path TEXT NOT NULL,
    box TEXT NOT NULL,
    PRIMARY KEY (entry, position)
) STRICT, WITHOUT ROWID;
CREATE TABLE indexes (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    sha256 TEXT NOT NULL,
    seen TEXT NOT NULL,
    factory TEXT NOT NULL,                -- FAISS's name of it
    count INTEGER NOT NULL,
    last_id INTEGER NOT NULL,             -- it holds what lived up to this id; what came later is searched exactly
    effort INTEGER NOT NULL,              -- nprobe or efSearch, 0 for neither
    recall REAL NOT NULL                  -- recall@10 that was measured at this effort
) STRICT;
CREATE TABLE removals (
    time TEXT NOT NULL,
    count INTEGER NOT NULL,
    criterion TEXT NOT NULL               -- its kinds alone, such as 'camera, before'; never what they were
) STRICT;
"""
SCHEMA = f"CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;\n{_SEGMENTS}{_ENTRIES}{_ADDED_BY_2}"
_FROM_1_TO_2 = f"""
ALTER TABLE segments ADD COLUMN seen TEXT NOT NULL DEFAULT '';
ALTER TABLE entries ADD COLUMN instant REAL;
{_ADDED_BY_2}"""


def create(connection: sqlite3.Connection) -> None:
    """Make all tables (within a transaction)."""
    _run(connection, SCHEMA)


def migrate(connection: sqlite3.Connection, made: int) -> None:
    """Bring a database of format `made`, from OLDEST_FORMAT on, to FORMAT (within a transaction)."""
    if made == 1:
        _run(connection, _FROM_1_TO_2)
        dated = connection.execute("SELECT id, time FROM entries WHERE time IS NOT NULL").fetchall()
        instants = [(instant_of(stored_time(time)), identifier) for identifier, time in dated]
        connection.executemany("UPDATE entries SET instant = ? WHERE id = ?", instants)
        connection.execute("UPDATE meta SET value = ? WHERE key = 'index'", (json.dumps(AUTOMATIC),))
    connection.execute("UPDATE meta SET value = ? WHERE key = 'format'", (str(FORMAT),))


def _run(connection: sqlite3.Connection, sql: str) -> None:
    for statement in statements(sql):
        connection.execute(statement)
