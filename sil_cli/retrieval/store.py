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
from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from sil_cli.errors import GalleryError
from sil_cli.files import one_line
from sil_cli.retrieval import schema
from sil_cli.retrieval.filters import COLUMNS
from sil_cli.retrieval.records import Box as Box
from sil_cli.retrieval.records import GalleryEntry as GalleryEntry
from sil_cli.retrieval.records import IndexRecord as IndexRecord
from sil_cli.retrieval.records import SegmentRecord as SegmentRecord
from sil_cli.retrieval.records import index_name as index_name
from sil_cli.retrieval.records import segment_name as segment_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from sil_cli.retrieval.filters import Filter

DATABASE_FILE = "gallery.sqlite"
_LOG_FILE = f"{DATABASE_FILE}-wal"

_FILE_NAME = re.compile(r"(segment|index)-\d{6,}\.faiss")
_IN_ONE_QUERY = 500
_PATIENCE = 30  # seconds to wait for somebody else's lock
_ENTRY_COLUMNS = "id, path, content_hash, source, identity, camera, time, domain, box"


class Store:
    """The open database of one gallery."""

    def __init__(self, folder: Path, *, write: bool) -> None:
        self.path = folder / DATABASE_FILE
        mode = "mode=rwc" if write else "mode=ro"
        if not write and not os.access(folder, os.W_OK) and not self.path.with_name(_LOG_FILE).exists():
            mode += "&immutable=1"  # a read-only medium, where SQLite can't make the files that readers share
        with self._understood():
            address = f"{self.path.resolve().as_uri()}?{mode}"
            self._connection = sqlite3.connect(address, uri=True, isolation_level=None, timeout=_PATIENCE)
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
        meta = {"format": schema.FORMAT, "model": model, "index": index}
        with self.transaction():
            schema.create(self._connection)
            values = [(key, json.dumps(value, allow_nan=False)) for key, value in meta.items()]
            self._connection.executemany("INSERT INTO meta VALUES (?, ?)", values)

    def format(self) -> int:
        """The version of the tables.

        Raises:
            GalleryError: It is newer than this program, or not there.
        """
        try:
            made = int(json.loads(self._rows("SELECT value FROM meta WHERE key = 'format'")[0][0]))
        except (ValueError, IndexError, TypeError) as error:
            raise _damaged(self.path, error) from error
        if not schema.OLDEST_FORMAT <= made <= schema.FORMAT:
            raise GalleryError(
                f"{self.path} is a gallery of format {made}; this version reads up to format {schema.FORMAT}.",
                "Use the version of sil that made it, or index the images anew with --gallery DIR.",
            )
        return made

    def migrate(self) -> None:
        """Bring tables of an older version up to date, in one transaction; call it as the only writer."""
        made = self.format()
        if made < schema.FORMAT:
            with self.transaction():
                schema.migrate(self._connection, made)

    def meta(self) -> dict[str, Any]:
        """`model` and `index` (the wished kind) as they were recorded.

        Raises:
            GalleryError: They are missing, or of another version.
        """
        self.format()
        try:
            meta = {key: json.loads(value) for key, value in self._rows("SELECT key, value FROM meta")}
            model, index = meta["model"], meta["index"]
            complete = isinstance(model["fingerprint"], str) and isinstance(model["dimension"], int)
        except (ValueError, KeyError, TypeError) as error:
            raise _damaged(self.path, error) from error
        if not complete or not isinstance(index, str) or model["dimension"] < 1:
            raise _damaged(self.path, ValueError("the record of its model is incomplete"))
        return meta

    def choose_index(self, wished: str) -> None:
        """Remember which kind of index is wished (within a transaction)."""
        self._connection.execute("UPDATE meta SET value = ? WHERE key = 'index'", (json.dumps(wished),))

    def segments(self) -> list[SegmentRecord]:
        """All files of vectors, oldest first."""
        rows = self._rows(
            "SELECT number, name, sha256, seen, count,"
            " (SELECT COUNT(*) FROM entries WHERE segment = number) FROM segments ORDER BY number"
        )
        segments = [SegmentRecord(*row) for row in rows]
        for one in segments:
            self._check_name(one.name)
        return segments

    def index(self) -> IndexRecord | None:
        """The approximate index, where there is one."""
        columns = "name, sha256, seen, factory, count, last_id, effort, recall"
        rows = self._rows(f"SELECT {columns} FROM indexes ORDER BY number DESC LIMIT 1")  # noqa: S608
        if not rows:
            return None
        self._check_name(rows[0][0])
        return IndexRecord(*rows[0])

    def replace_index(self, record: IndexRecord | None) -> None:
        """Make another approximate index count, or none (within a transaction)."""
        self._connection.execute("DELETE FROM indexes")
        if record is not None:
            names = [each.name for each in fields(record)]
            marks = ", ".join("?" * len(names))
            values = [getattr(record, name) for name in names]
            self._connection.execute(f"INSERT INTO indexes ({', '.join(names)}) VALUES ({marks})", values)  # noqa: S608

    def mark_seen(self, name: str, sha256: str, seen: str) -> None:
        """Say that a file has this checksum in this state (within a transaction)."""
        for table in ("segments", "indexes"):
            change = f"UPDATE {table} SET sha256 = ?, seen = ? WHERE name = ?"  # noqa: S608
            self._connection.execute(change, (sha256, seen, name))

    def _check_name(self, name: str) -> None:
        if not _FILE_NAME.fullmatch(name):
            raise _damaged(self.path, ValueError(f"'{name}' is no name of a segment"))

    def count(self) -> int:
        """The number of entries."""
        return int(self._rows("SELECT COUNT(*) FROM entries")[0][0])

    def count_up_to(self, last_id: int) -> int:
        """The number of entries with an id up to this one."""
        return int(self._rows("SELECT COUNT(*) FROM entries WHERE id <= ?", last_id)[0][0])

    def ids(self, segment: int) -> NDArray[np.int64]:
        """The ids of a segment's living vectors, ascending."""
        return self._ids("SELECT id FROM entries WHERE segment = ? ORDER BY id", segment)

    def spans_exactly(self, segment: int, ids: NDArray[np.int64]) -> bool:
        """Whether a segment's entries reach from the first to the last of these ids; quick, and no proof."""
        row = self._rows("SELECT MIN(id), MAX(id) FROM entries WHERE segment = ?", segment)[0]
        return len(ids) > 0 and tuple(row) == (int(ids.min()), int(ids.max()))

    def ids_matching(self, wanted: Filter) -> NDArray[np.int64]:
        """The ids of all entries that pass a filter, ascending."""
        condition, values = wanted.condition()
        return self._ids(f"SELECT id FROM entries WHERE {condition} ORDER BY id", *values)  # noqa: S608

    def known_values(self, key: str, limit: int = 50) -> list[str]:
        """Values that entries have for a column or a key of metadata, for messages."""
        if key in COLUMNS:
            query = f"SELECT DISTINCT {key} FROM entries WHERE {key} IS NOT NULL ORDER BY 1 LIMIT ?"  # noqa: S608
            return [row[0] for row in self._rows(query, limit)]
        query = "SELECT DISTINCT value FROM metadata WHERE key = ? ORDER BY 1 LIMIT ?"
        return [row[0] for row in self._rows(query, key, limit)]

    def extent(self) -> tuple[int, int, str | None, str | None]:
        """How many cameras and identities there are, and the first and the last time."""
        cameras, identities = self._rows("SELECT COUNT(DISTINCT camera), COUNT(DISTINCT identity) FROM entries")[0]
        order = "SELECT time FROM entries WHERE instant IS NOT NULL ORDER BY instant"
        first, last = self._rows(f"{order} LIMIT 1"), self._rows(f"{order} DESC LIMIT 1")
        return cameras, identities, first[0][0] if first else None, last[0][0] if last else None

    def metadata_keys(self) -> list[str]:
        """The names under which entries have metadata of their own."""
        return [row[0] for row in self._rows("SELECT DISTINCT key FROM metadata ORDER BY 1")]

    def ids_of_content(self, content_hash: str) -> frozenset[int]:
        """The ids of all entries made from a file with this SHA-256."""
        return frozenset(row[0] for row in self._rows("SELECT id FROM entries WHERE content_hash = ?", content_hash))

    def entries(self, ids: Sequence[int]) -> dict[int, GalleryEntry]:
        """The entries of the given ids; an unknown id is left out."""
        found: dict[int, GalleryEntry] = {}
        for some in _portions(ids):
            marks = ", ".join("?" * len(some))
            extras: dict[int, dict[str, str]] = {}
            for entry, key, value in self._rows(f"SELECT * FROM metadata WHERE entry IN ({marks})", *some):  # noqa: S608
                extras.setdefault(entry, {})[key] = value
            for row in self._rows(f"SELECT {_ENTRY_COLUMNS} FROM entries WHERE id IN ({marks})", *some):  # noqa: S608
                found[row[0]] = self._entry(row, extras.get(row[0], {}))
        return found

    def _entry(self, row: tuple[Any, ...], metadata: dict[str, str]) -> GalleryEntry:
        path, content_hash, source, identity, camera = row[1:6]
        try:
            time = datetime.fromisoformat(row[6]) if row[6] is not None else None
            box = _box_of(row[8])
        except ValueError as error:
            raise _damaged(self.path, error) from error
        return GalleryEntry(path, content_hash, source, identity, camera, time, row[7], box, metadata)

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

    def next_index_number(self) -> int:
        """The number of the next approximate index."""
        rows = self._rows("SELECT seq FROM sqlite_sequence WHERE name = 'indexes'")
        return int(rows[0][0]) + 1 if rows else 1

    def use_up_ids(self, last: int) -> None:
        """Never give an id up to `last` to a new entry (within a transaction)."""
        used = max(last, self.next_numbers()[0] - 1)
        self._connection.execute("DELETE FROM sqlite_sequence WHERE name = 'entries'")
        self._connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('entries', ?)", (used,))

    def insert_segment(self, number: int, sha256: str, seen: str, count: int) -> None:
        """Make a file of vectors count (within a transaction)."""
        row = (number, segment_name(number), sha256, count, seen)
        self._connection.execute("INSERT INTO segments (number, name, sha256, count, seen) VALUES (?, ?, ?, ?, ?)", row)

    def insert_entries(self, ids: Sequence[int], entries: Sequence[GalleryEntry], segment: int) -> None:
        """Add entries; one of the same key is replaced (within a transaction)."""
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
                segment,
                schema.instant_of(entry.time) if entry.time else None,
            )
            for identifier, entry in zip(ids, entries, strict=True)
        ]
        keys = [row[1:4] for row in rows]
        extras = [(one, *pair) for one, entry in zip(ids, entries, strict=True) for pair in entry.metadata.items()]
        self._connection.executemany("DELETE FROM entries WHERE (source, path, box) = (?, ?, ?)", keys)
        self._connection.executemany(f"INSERT INTO entries VALUES ({', '.join('?' * 11)})", rows)  # noqa: S608
        self._connection.executemany("INSERT INTO metadata VALUES (?, ?, ?)", extras)

    def delete_paths(self, source: str, paths: Sequence[str]) -> int:
        """Delete the entries of these image files, however many boxes each (within a transaction)."""
        pairs = [(source, path) for path in paths]
        before = self._connection.total_changes
        self._connection.executemany("DELETE FROM entries WHERE source = ? AND path = ?", pairs)
        return self._connection.total_changes - before

    def delete_ids(self, ids: Sequence[int]) -> int:
        """Delete entries (within a transaction); returns how many there were."""
        before = self.count()
        self._connection.executemany("DELETE FROM entries WHERE id = ?", [(one,) for one in ids])
        return before - self.count()

    def log_removal(self, time: datetime, count: int, criterion: str) -> None:
        """Note that entries were removed, without saying which (within a transaction)."""
        row = (time.isoformat(timespec="seconds"), count, criterion)
        self._connection.execute("INSERT INTO removals VALUES (?, ?, ?)", row)

    def removals(self) -> list[tuple[str, int, str]]:
        """Time, count and kinds of criteria of all removals, oldest first."""
        return self._rows("SELECT time, count, criterion FROM removals ORDER BY rowid")

    def replace_removals(self, removals: Sequence[tuple[str, int, str]]) -> None:
        """Put another log of removals in the place of this one (within a transaction)."""
        self._connection.execute("DELETE FROM removals")
        self._connection.executemany("INSERT INTO removals VALUES (?, ?, ?)", removals)

    def problems(self) -> list[str]:
        """What SQLite finds wrong with the database; nothing where it is sound."""
        found = [str(row[0]) for row in self._rows("PRAGMA integrity_check")]
        return [one for one in found if one != "ok"] + [
            f"a row of {row[0]} belongs to no row of {row[2]}" for row in self._rows("PRAGMA foreign_key_check")
        ]

    def reindex(self) -> None:
        """Build SQLite's own indexes anew, which mends them where the tables are sound."""
        self._rows("REINDEX")

    def shrink(self) -> bool:
        """Rewrite the database without the traces of what was deleted.

        Returns:
            Whether the log is empty now; a reader that still looks at an older state keeps it from that.
        """
        self._rows("VACUUM")
        self._rows("PRAGMA busy_timeout = 500")  # a reader may stay for hours
        busy = self._rows("PRAGMA wal_checkpoint(TRUNCATE)")[0][0]
        self._rows(f"PRAGMA busy_timeout = {1000 * _PATIENCE}")
        return not busy

    def move_entries(self, ids: Sequence[int], segment: int) -> None:
        """Say that these vectors now lie in another segment (within a transaction)."""
        pairs = [(segment, identifier) for identifier in ids]
        self._connection.executemany("UPDATE entries SET segment = ? WHERE id = ?", pairs)

    def delete_segments(self, numbers: Sequence[int]) -> None:
        """Forget files of vectors that no entry needs (within a transaction)."""
        self._connection.executemany("DELETE FROM segments WHERE number = ?", [(one,) for one in numbers])

    def _ids(self, query: str, *values: object) -> NDArray[np.int64]:
        with self._understood():
            cursor = self._connection.execute(query, values)
            return np.fromiter((row[0] for row in cursor), dtype=np.int64)

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


def _portions(values: Sequence[Any]) -> list[Sequence[Any]]:
    return [values[start : start + _IN_ONE_QUERY] for start in range(0, len(values), _IN_ONE_QUERY)]
