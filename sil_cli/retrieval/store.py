"""The gallery's metadata in SQLite: what each vector shows, and which files of vectors count.

The database decides what is in the gallery: a file of vectors that no row of `segments` names doesn't exist,
a vector whose id no row of `entries` has is dead. One transaction therefore moves both together.

The journal is SQLite's write-ahead log: readers see the last finished transaction and are never blocked by a
writer, nor it by them, which a rollback journal can't offer. Its price is that the folder must be on a local
disk. `synchronous=FULL` flushes the log at every commit, so a finished batch survives a power cut.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sil_cli.errors import GalleryError
from sil_cli.files import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

DATABASE_FILE = "gallery.sqlite"
FORMAT = 2
_LOG_FILE = f"{DATABASE_FILE}-wal"
Box = tuple[int, int, int, int]

_SEGMENT_NAME = re.compile(r"segment-\d{6,}\.faiss")
_IN_ONE_QUERY = 500
_COLUMNS = "id, source, path, box, identity, camera, time, domain, content_hash, metadata"
_SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE segments (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    sha256 TEXT NOT NULL,
    count INTEGER NOT NULL
) STRICT;
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
    metadata TEXT NOT NULL,               -- JSON, text by name
    segment INTEGER NOT NULL REFERENCES segments (number),
    UNIQUE (source, path, box)
) STRICT;
CREATE INDEX entries_by_content ON entries (content_hash);
CREATE INDEX entries_by_segment ON entries (segment);
"""


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
        metadata: Whatever else is known, text by name.
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
    """One file of vectors: its name and checksum, how many vectors it holds and how many of them live."""

    number: int
    name: str
    sha256: str
    count: int
    live: int


def segment_name(number: int) -> str:
    """The file name of a segment."""
    return f"segment-{number:06d}.faiss"


class Store:
    """The open database of one gallery."""

    def __init__(self, folder: Path, *, write: bool) -> None:
        self.path = folder / DATABASE_FILE
        mode = "mode=rwc" if write else "mode=ro"
        if not write and not os.access(folder, os.W_OK) and not self.path.with_name(_LOG_FILE).exists():
            mode += "&immutable=1"  # a read-only medium, where SQLite can't make the files that readers share
        with self._understood():
            address = f"{self.path.resolve().as_uri()}?{mode}"
            self._connection = sqlite3.connect(address, uri=True, isolation_level=None, timeout=30)
            try:
                self._set_up(write)
            except BaseException:
                self._connection.close()
                raise

    def _set_up(self, write: bool) -> None:
        self._connection.execute("PRAGMA trusted_schema = OFF")
        self._connection.execute("PRAGMA foreign_keys = ON")
        if write:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("PRAGMA secure_delete = ON")  # removed people leave no trace

    def close(self) -> None:
        """Close the database, which ends a snapshot."""
        self._connection.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All changes of the block, or none."""
        with self._understood():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise

    def snapshot(self) -> None:
        """From here on, see the gallery as it is now, whatever a writer does (until the next snapshot)."""
        with self._understood():
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._connection.execute("BEGIN")

    def is_made(self) -> bool:
        """Whether the database has been set up."""
        return bool(self._rows("SELECT 1 FROM sqlite_master WHERE name = 'meta'"))

    def make(self, model: dict[str, Any], index: str) -> None:
        """Set up an empty database, in one transaction."""
        meta = {"format": FORMAT, "model": model, "index": index}
        with self.transaction():
            for statement in filter(str.strip, _SCHEMA.split(";\n")):
                self._connection.execute(statement)
            values = [(key, json.dumps(value, allow_nan=False)) for key, value in meta.items()]
            self._connection.executemany("INSERT INTO meta VALUES (?, ?)", values)

    def meta(self) -> dict[str, Any]:
        """Format, model and index as they were recorded.

        Raises:
            GalleryError: They are missing, or of another version.
        """
        try:
            meta = {key: json.loads(value) for key, value in self._rows("SELECT key, value FROM meta")}
            made = meta["format"]
            model, _ = meta["model"], meta["index"]
            complete = isinstance(model["fingerprint"], str) and isinstance(model["dimension"], int)
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged(self.path, error) from error
        if made != FORMAT:
            raise GalleryError(
                f"{self.path} is a gallery of format {made}; this version reads format {FORMAT}.",
                "Use the version of sil that made it, or index the images anew with --gallery DIR.",
            )
        if not complete:
            raise _damaged(self.path, ValueError("the record of its model is incomplete"))
        return meta

    def segments(self) -> list[SegmentRecord]:
        """All files of vectors, oldest first."""
        rows = self._rows(
            "SELECT number, name, sha256, count,"
            " (SELECT COUNT(*) FROM entries WHERE segment = number) FROM segments ORDER BY number"
        )
        segments = [SegmentRecord(*row) for row in rows]
        for one in segments:
            if not _SEGMENT_NAME.fullmatch(one.name):
                raise _damaged(self.path, ValueError(f"'{one.name}' is no name of a segment"))
        return segments

    def count(self) -> int:
        """The number of entries."""
        return int(self._rows("SELECT COUNT(*) FROM entries")[0][0])

    def ids(self, segment: int) -> list[int]:
        """The ids of a segment's living vectors, ascending."""
        return [row[0] for row in self._rows("SELECT id FROM entries WHERE segment = ? ORDER BY id", segment)]

    def ids_of_content(self, content_hash: str) -> frozenset[int]:
        """The ids of all entries made from a file with this SHA-256."""
        return frozenset(row[0] for row in self._rows("SELECT id FROM entries WHERE content_hash = ?", content_hash))

    def entries(self, ids: Sequence[int]) -> dict[int, GalleryEntry]:
        """The entries of the given ids; an unknown id is left out."""
        found: dict[int, GalleryEntry] = {}
        for some in _portions(ids):
            marks = ", ".join("?" * len(some))
            rows = self._rows(f"SELECT {_COLUMNS} FROM entries WHERE id IN ({marks})", *some)  # noqa: S608
            found.update(_entry_of(row) for row in rows)
        return found

    def sources(self) -> list[str]:
        """The folders and data sets that entries came from."""
        return [row[0] for row in self._rows("SELECT DISTINCT source FROM entries ORDER BY source")]

    def entries_at(self, source: str, paths: Sequence[str]) -> dict[int, GalleryEntry]:
        """The entries of these image files of `source`, by id."""
        found: dict[int, GalleryEntry] = {}
        for some in _portions(paths):
            marks = ", ".join("?" * len(some))
            query = f"SELECT {_COLUMNS} FROM entries WHERE source = ? AND path IN ({marks})"  # noqa: S608
            found.update(_entry_of(row) for row in self._rows(query, source, *some))
        return found

    def entries_of(self, source: str) -> Iterator[tuple[int, GalleryEntry]]:
        """All entries of a source with their ids, ascending, read some at a time."""
        last = 0
        query = f"SELECT {_COLUMNS} FROM entries WHERE source = ? AND id > ? ORDER BY id LIMIT ?"  # noqa: S608
        while rows := self._rows(query, source, last, _IN_ONE_QUERY):
            yield from map(_entry_of, rows)
            last = rows[-1][0]

    def known(self, source: str, paths: Sequence[str]) -> dict[tuple[str, Box | None], str]:
        """The content hashes of those images of `source` that are in the gallery, by path and box."""
        found: dict[tuple[str, Box | None], str] = {}
        for some in _portions(paths):
            marks = ", ".join("?" * len(some))
            query = f"SELECT path, box, content_hash FROM entries WHERE source = ? AND path IN ({marks})"  # noqa: S608
            for path, box, content_hash in self._rows(query, source, *some):
                found[path, _box_of(box)] = content_hash
        return found

    def next_numbers(self) -> tuple[int, int]:
        """The id that the next entry gets, and the number of the next segment; neither was ever used."""
        used: dict[str, int] = dict(self._rows("SELECT name, seq FROM sqlite_sequence"))
        return used.get("entries", 0) + 1, used.get("segments", 0) + 1

    def insert_segment(self, number: int, sha256: str, count: int) -> None:
        """Make a file of vectors count (within a transaction)."""
        row = (number, segment_name(number), sha256, count)
        self._connection.execute("INSERT INTO segments VALUES (?, ?, ?, ?)", row)

    def insert_entries(self, first_id: int, entries: Sequence[GalleryEntry], segment: int) -> None:
        """Add entries under consecutive ids; one of the same key is replaced (within a transaction)."""
        rows = [
            (
                identifier,
                entry.source,
                entry.path,
                _text_of(entry.box),
                entry.identity,
                entry.camera,
                entry.time.isoformat() if entry.time else None,
                entry.domain,
                entry.content_hash,
                json.dumps(dict(entry.metadata), ensure_ascii=False),
                segment,
            )
            for identifier, entry in enumerate(entries, start=first_id)
        ]
        keys = [row[1:4] for row in rows]
        self._connection.executemany("DELETE FROM entries WHERE (source, path, box) = (?, ?, ?)", keys)
        self._connection.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def delete_paths(self, source: str, paths: Sequence[str]) -> int:
        """Delete the entries of these image files, however many boxes each (within a transaction)."""
        pairs = [(source, path) for path in paths]
        before = self._connection.total_changes
        self._connection.executemany("DELETE FROM entries WHERE source = ? AND path = ?", pairs)
        return self._connection.total_changes - before

    def delete_ids(self, ids: Sequence[int]) -> None:
        """Delete entries (within a transaction)."""
        self._connection.executemany("DELETE FROM entries WHERE id = ?", [(one,) for one in ids])

    def describe_entries(self, entries: Mapping[int, GalleryEntry]) -> None:
        """Write anew what is known of images whose vectors stay (within a transaction)."""
        rows = [
            (
                entry.identity,
                entry.camera,
                entry.time.isoformat() if entry.time else None,
                entry.domain,
                json.dumps(dict(entry.metadata), ensure_ascii=False),
                identifier,
            )
            for identifier, entry in entries.items()
        ]
        statement = "UPDATE entries SET (identity, camera, time, domain, metadata) = (?, ?, ?, ?, ?) WHERE id = ?"
        self._connection.executemany(statement, rows)

    def move_entries(self, ids: Sequence[int], segment: int) -> None:
        """Say that these vectors now lie in another segment (within a transaction)."""
        pairs = [(segment, identifier) for identifier in ids]
        self._connection.executemany("UPDATE entries SET segment = ? WHERE id = ?", pairs)

    def delete_segments(self, numbers: Sequence[int]) -> None:
        """Forget files of vectors that no entry needs (within a transaction)."""
        self._connection.executemany("DELETE FROM segments WHERE number = ?", [(one,) for one in numbers])

    def _rows(self, query: str, *values: object) -> list[Any]:
        with self._understood():
            return self._connection.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _understood(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            text = one_line(error)
            if "full" in text or "disk I/O" in text:
                raise GalleryError(
                    f"{self.path} can't be written: {text}.",
                    "Free some space and run the same again: finished batches are kept.",
                ) from error
            raise _damaged(self.path, error) from error


def _damaged(path: Path, error: Exception) -> GalleryError:
    return GalleryError(
        f"{path} can't be used: {one_line(error)}.",
        "Check that it is a gallery's file and may be read, or index the images anew with --gallery DIR.",
    )


def _text_of(box: Box | None) -> str:
    return "" if box is None else json.dumps(box)


def _box_of(text: str) -> Box | None:
    return tuple(json.loads(text)) if text else None


def _entry_of(row: Sequence[Any]) -> tuple[int, GalleryEntry]:
    """Id and entry from the columns of `_COLUMNS`."""
    identifier, source, path, box, identity, camera, time, domain, content_hash, metadata = row
    taken = datetime.fromisoformat(time) if time is not None else None
    known = {"identity": identity, "camera": camera, "time": taken, "domain": domain}
    return identifier, GalleryEntry(
        path, content_hash, source, **known, box=_box_of(box), metadata=json.loads(metadata)
    )


def _portions(values: Sequence[Any]) -> list[Sequence[Any]]:
    return [values[start : start + _IN_ONE_QUERY] for start in range(0, len(values), _IN_ONE_QUERY)]
