"""The gallery's metadata in SQLite: what each vector shows, and which files of vectors count.

The database decides what is in the gallery: a file of vectors that no row of `segments` names doesn't exist,
a vector whose id no row of `entries` has is dead. One transaction therefore moves both together.
"""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal

from sil_cli.errors import GalleryError
from sil_cli.files import parse_json
from sil_cli.gallery.entry import (
    LAST_ID,
    GalleryEntry,
    Member,
    box_text,
    instant_of,
    require_names,
    stored_box,
    stored_time,
)
from sil_cli.gallery.filters import COLUMNS, possible_ids
from sil_cli.gallery.local import schema
from sil_cli.gallery.local.database import Database
from sil_cli.gallery.local.schema import DATABASE_FILE, FILE_NAME, FORMAT, OLDEST_FORMAT, IndexRecord, SegmentRecord
from sil_cli.gallery.results import Removal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from sil_cli.gallery.filters import Filter

Numbered = Literal["entries", "segments", "indexes"]
"""Tables whose numbers are never given twice."""

_IN_ONE_QUERY = 500
_MOST_DIMENSIONS = 2**16
_ENTRY_COLUMNS = "id, path, content_hash, source, identity, camera, time, domain, box"
_ENTRY_TYPES = (int, str, str, str, str | None, str | None, str | None, str | None, str)


class Tables(Database):
    """The open database of one gallery: its tables."""

    def __init__(self, folder: Path, *, write: bool) -> None:
        super().__init__(folder / DATABASE_FILE, schema.SCHEMA, write=write)

    def is_made(self) -> bool:
        """Whether the database has been set up."""
        return bool(self._rows("SELECT 1 FROM sqlite_master WHERE name = 'meta'"))

    def make(self, model: dict[str, Any], index: str) -> None:
        """Set up an empty database, in one transaction."""
        meta = {"format": FORMAT, "model": model, "index": index}
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
            made = parse_json(self._rows("SELECT value FROM meta WHERE key = 'format'", of=(str,))[0][0])
            if type(made) is not int:
                raise ValueError("its format is no number")
        except (ValueError, IndexError, TypeError) as error:
            raise self._damaged(error) from error
        if not OLDEST_FORMAT <= made <= FORMAT:
            raise GalleryError(
                f"{self.path} is a gallery of format {made}; this version reads up to format {FORMAT}.",
                "Use the version of sil that made it, or index the images again with --gallery DIR.",
            )
        return made

    def migrate(self) -> None:
        """Bring tables of an older version up to date, in one transaction; call it as the only writer."""
        made = self.format()
        if made < FORMAT:
            try:
                with self.transaction():
                    schema.migrate(self._connection, made)
            except ValueError as error:
                raise self._damaged(error) from error

    def meta(self) -> dict[str, Any]:
        """`model` and `index` (the requested kind) as they were recorded.

        Raises:
            GalleryError: They are missing, or of another version.
        """
        self.format()
        try:
            rows = self._rows("SELECT key, value FROM meta", of=(str, str))
            meta = {key: parse_json(value) for key, value in rows}
            model, index = meta["model"], meta["index"]
            complete = isinstance(model["fingerprint"], str) and type(model["dimension"]) is int
            complete = complete and isinstance(model.get("engine"), str | None) and isinstance(index, str)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._damaged(error) from error
        if not complete or not 1 <= model["dimension"] <= _MOST_DIMENSIONS:
            raise self._damaged(ValueError("the record of its model is incomplete"))
        return meta

    def choose_index(self, requested: str) -> None:
        """Remember which kind of index is requested (within a transaction)."""
        self._connection.execute("UPDATE meta SET value = ? WHERE key = 'index'", (json.dumps(requested),))

    def segments(self) -> list[SegmentRecord]:
        """All files of vectors, oldest first."""
        rows = self._rows(
            "SELECT number, name, sha256, seen, count,"
            " (SELECT COUNT(*) FROM entries WHERE segment = number) FROM segments ORDER BY number",
            of=(int, str, str, str, int),
        )
        for number, name, _, _, count, _ in rows:
            self._check_file(name, number, count)
        return [SegmentRecord(*row) for row in rows]

    def index(self) -> IndexRecord | None:
        """The approximate index, where there is one."""
        columns = "number, name, sha256, seen, factory, count, last_id, effort, recall"
        kinds = (int, str, str, str, str, int, int, int, float)
        rows = self._rows(f"SELECT {columns} FROM indexes ORDER BY number DESC LIMIT 1", of=kinds)  # noqa: S608
        if not rows:
            return None
        record = IndexRecord(*rows[0])
        self._check_file(record.name, record.number, record.count, record.last_id, record.effort)
        if not 0 <= record.recall <= 1:
            raise self._damaged(ValueError(f"a recall of {record.recall}"))
        return record

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

    def _check_file(self, name: str, *numbers: int) -> None:
        if not FILE_NAME.fullmatch(name):
            raise self._damaged(ValueError(f"'{name}' isn't the name of a segment"))
        if not 0 <= min(numbers) <= max(numbers) <= LAST_ID:
            raise self._damaged(ValueError(f"a number in the record of {name} is out of range"))

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

    def known_values(self, key: str, limit: int) -> list[str]:
        """Values that entries have for a column or a key of metadata, for messages."""
        if key in COLUMNS:
            query = f"SELECT DISTINCT {key} FROM entries WHERE {key} IS NOT NULL ORDER BY 1 LIMIT ?"  # noqa: S608
            return [row[0] for row in self._rows(query, limit, of=(str,))]
        query = "SELECT DISTINCT value FROM metadata WHERE key = ? ORDER BY 1 LIMIT ?"
        return [row[0] for row in self._rows(query, key, limit, of=(str,))]

    def extent(self) -> tuple[int, int, str | None, str | None]:
        """How many cameras and identities there are, and the first and the last time."""
        cameras, identities = self._rows("SELECT COUNT(DISTINCT camera), COUNT(DISTINCT identity) FROM entries")[0]
        order = "SELECT time FROM entries WHERE instant IS NOT NULL ORDER BY instant"
        first, last = (self._rows(f"{order} {end} LIMIT 1", of=(str,)) for end in ("ASC", "DESC"))
        times = [rows[0][0] if rows else None for rows in (first, last)]
        try:
            for text in filter(None, times):
                stored_time(text)
        except ValueError as error:
            raise self._damaged(error) from error
        return cameras, identities, *times

    def metadata_keys(self) -> list[str]:
        """The names under which entries have metadata of their own."""
        return [row[0] for row in self._rows("SELECT DISTINCT key FROM metadata ORDER BY 1", of=(str,))]

    def ids_of_content(self, content_hash: str) -> frozenset[int]:
        """The ids of all entries made from a file with this SHA-256."""
        return frozenset(self._ids("SELECT id FROM entries WHERE content_hash = ?", content_hash).tolist())

    def entries(self, ids: Sequence[int]) -> dict[int, GalleryEntry]:
        """The entries of the given ids; an unknown id is left out."""
        found: dict[int, GalleryEntry] = {}
        for some in _portions(possible_ids(ids)):
            found.update(self._entries(f"WHERE id IN ({_marks(some)})", *some))
        return found

    def entries_at(self, source: str, paths: Sequence[str]) -> dict[int, GalleryEntry]:
        """The entries of these image files of `source`, by id."""
        found: dict[int, GalleryEntry] = {}
        for some in _portions(paths):
            found.update(self._entries(f"WHERE source = ? AND path IN ({_marks(some)})", source, *some))
        return found

    def entries_of(self, source: str) -> Iterator[tuple[int, GalleryEntry]]:
        """All entries of a source with their ids, ascending, read some at a time."""
        last = 0
        while found := self._entries("WHERE source = ? AND id > ? ORDER BY id LIMIT ?", source, last, _IN_ONE_QUERY):
            yield from found.items()
            last = max(found)

    def sources(self) -> list[str]:
        """The folders and data sets that entries came from."""
        return [row[0] for row in self._rows("SELECT DISTINCT source FROM entries ORDER BY source", of=(str,))]

    def _entries(self, which: str, *values: object) -> dict[int, GalleryEntry]:
        """Entries by id, in the order of the query; `which` is the rest of one that gives a portion of rows at most."""
        rows = self._rows(f"SELECT {_ENTRY_COLUMNS} FROM entries {which}", *values, of=_ENTRY_TYPES)  # noqa: S608
        metadata: dict[int, dict[str, str]] = {row[0]: {} for row in rows}
        for some in _portions(list(metadata)):
            wanted = f"SELECT entry, key, value FROM metadata WHERE entry IN ({_marks(some)})"  # noqa: S608
            for entry, key, value in self._rows(wanted, *some, of=(int, str, str)):
                metadata[entry][key] = value
        return {row[0]: self._entry(row, metadata[row[0]]) for row in rows}

    def _entry(self, row: tuple[Any, ...], metadata: dict[str, str]) -> GalleryEntry:
        path, content_hash, source, identity, camera = row[1:6]
        try:
            require_names(path, source)
            time, box = stored_time(row[6]) if row[6] is not None else None, stored_box(row[8])
        except ValueError as error:
            raise self._damaged(error) from error
        return GalleryEntry(path, content_hash, source, identity, camera, row[7], time, box, metadata)

    def last_number(self, table: Numbered) -> int:
        """The highest number that was ever given in a table; 0 for none."""
        rows = self._rows("SELECT seq FROM sqlite_sequence WHERE name = ?", table, of=(int,))
        last = int(rows[0][0]) if rows else 0
        if not 0 <= last <= LAST_ID:
            raise self._damaged(ValueError(f"the last number of {table} is out of range"))
        return last

    def use_up(self, table: Numbered, last: int) -> None:
        """Never give a number up to `last` again (within a transaction)."""
        used = max(last, self.last_number(table))
        self._connection.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
        self._connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, used))

    def reserve(self, table: Numbered) -> int:
        """The number of a file that is to be written; no other will get it, even if this one never counts."""
        with self.transaction():
            number = self.last_number(table) + 1
            self.use_up(table, number)
        return number

    def insert_segment(self, one: SegmentRecord) -> None:
        """Make a file of vectors count (within a transaction)."""
        row = (one.number, one.name, one.sha256, one.count, one.seen)
        self._connection.execute("INSERT INTO segments (number, name, sha256, count, seen) VALUES (?, ?, ?, ?, ?)", row)

    def members(self, ids: Sequence[int]) -> dict[int, list[Member]]:
        """The images of which entries are the mean, in order; entries of one image are left out."""
        found: dict[int, list[Member]] = {}
        for some in _portions(ids):
            wanted = f"SELECT entry, source, path, box FROM members WHERE entry IN ({_marks(some)})"  # noqa: S608
            ordered = f"{wanted} ORDER BY entry, position"
            for entry, source, path, box in self._rows(ordered, *some, of=(int, str, str, str)):
                try:
                    found.setdefault(entry, []).append((source, path, stored_box(box)))
                except ValueError as error:
                    raise self._damaged(error) from error
        return found

    def insert_members(self, members: Mapping[int, Sequence[Member]]) -> None:
        """Say of which images entries are the mean (within a transaction)."""
        rows = [
            (entry, position, source, path, box_text(box))
            for entry, images in members.items()
            for position, (source, path, box) in enumerate(images)
        ]
        self._connection.executemany("INSERT INTO members VALUES (?, ?, ?, ?, ?)", rows)

    def insert_entries(self, ids: Sequence[int], entries: Sequence[GalleryEntry], segment: int) -> None:
        """Add entries; one of the same key is replaced (within a transaction)."""
        rows = [
            (
                identifier,
                entry.source,
                entry.path,
                box_text(entry.box),
                entry.identity,
                entry.camera,
                entry.time.isoformat() if entry.time else None,
                entry.domain,
                entry.content_hash,
                segment,
                _instant_of(entry),
            )
            for identifier, entry in zip(ids, entries, strict=True)
        ]
        keys = [row[1:4] for row in rows]
        self._connection.executemany("DELETE FROM entries WHERE (source, path, box) = (?, ?, ?)", keys)
        self._connection.executemany(f"INSERT INTO entries VALUES ({', '.join('?' * 11)})", rows)  # noqa: S608
        self._insert_metadata(zip(ids, entries, strict=True))

    def delete_ids(self, ids: Sequence[int]) -> int:
        """Delete entries (within a transaction); returns how many there were."""
        before = self.count()
        self._connection.executemany("DELETE FROM entries WHERE id = ?", [(one,) for one in ids])
        return before - self.count()

    def describe_entries(self, entries: Mapping[int, GalleryEntry]) -> None:
        """Write again what is known of images whose vectors stay (within a transaction)."""
        rows = [
            (
                entry.identity,
                entry.camera,
                entry.time.isoformat() if entry.time else None,
                _instant_of(entry),
                entry.domain,
                identifier,
            )
            for identifier, entry in entries.items()
        ]
        statement = "UPDATE entries SET (identity, camera, time, instant, domain) = (?, ?, ?, ?, ?) WHERE id = ?"
        self._connection.executemany(statement, rows)
        self._connection.executemany("DELETE FROM metadata WHERE entry = ?", [(one,) for one in entries])
        self._insert_metadata(entries.items())

    def _insert_metadata(self, entries: Iterable[tuple[int, GalleryEntry]]) -> None:
        rows = [(identifier, *pair) for identifier, entry in entries for pair in entry.metadata.items()]
        self._connection.executemany("INSERT INTO metadata VALUES (?, ?, ?)", rows)

    def log_removal(self, removal: Removal) -> None:
        """Note that entries were removed, without saying which (within a transaction)."""
        row = (removal.time, removal.count, removal.criterion)
        self._connection.execute("INSERT INTO removals VALUES (?, ?, ?)", row)

    def removals(self) -> list[Removal]:
        """The log of removals, oldest first."""
        query = "SELECT time, count, criterion FROM removals ORDER BY rowid"
        return [Removal(*row) for row in self._rows(query, of=(str, int, str))]

    def replace_removals(self, removals: Sequence[Removal]) -> None:
        """Put another log of removals in the place of this one (within a transaction)."""
        self._connection.execute("DELETE FROM removals")
        for one in removals:
            self.log_removal(one)

    def move_entries(self, ids: Sequence[int], segment: int) -> None:
        """Say that these vectors now lie in another segment (within a transaction)."""
        pairs = [(segment, identifier) for identifier in ids]
        self._connection.executemany("UPDATE entries SET segment = ? WHERE id = ?", pairs)

    def delete_segments(self, numbers: Sequence[int]) -> None:
        """Forget files of vectors that no entry needs (within a transaction)."""
        self._connection.executemany("DELETE FROM segments WHERE number = ?", [(one,) for one in numbers])


def _instant_of(entry: GalleryEntry) -> float | None:
    return instant_of(entry.time) if entry.time else None


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))


def _portions(values: Sequence[Any]) -> list[Sequence[Any]]:
    return [values[start : start + _IN_ONE_QUERY] for start in range(0, len(values), _IN_ONE_QUERY)]
