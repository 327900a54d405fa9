"""A SQLite file in a gallery's folder: opening it, transactions and snapshots, and its upkeep.

The journal is SQLite's write-ahead log: readers see the last finished transaction and are never blocked by a
writer, nor it by them, which a rollback journal can't offer. Its price is that the folder must be on a local
disk. `synchronous=FULL` flushes the log at every commit, so a finished batch survives a power cut.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from typing import TYPE_CHECKING, Any

import numpy as np

from sil_cli.errors import GalleryError, one_line
from sil_cli.files import open_no_link
from sil_cli.gallery.entry import LAST_ID

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_PATIENCE = 30  # seconds to wait for somebody else's lock
_STEPS = 2_000  # of SQLite's machine, after which Ctrl-C and SIGTERM are looked at: 0.1 ms, or a second of GLOB
_INTERRUPTED = "interrupted"
_LONGEST = 2**20  # bytes of a row: nothing that is known of one image takes so many


class Database:
    """An open database, whatever its tables hold.

    Attributes:
        path: Its file.
        advice: What to do when it can't be used.
    """

    advice = "Check that it is a gallery's file and may be read, or index the images again with --gallery DIR."

    def __init__(self, path: Path, schema: str, *, write: bool) -> None:
        """Open it, or make an empty one to write to.

        Args:
            path: Its file, which may be a stranger's.
            schema: The SQL of all tables that it may have.
            write: Whether it will be changed.

        Raises:
            GalleryError: It can't be opened, or has anything but these tables.
        """
        self.path = path
        self._own = {one.split()[2]: one for one in statements(schema) if one.startswith("CREATE TABLE")}
        self._schema, self._write = schema, write
        self._open()

    def _open(self) -> None:
        path, write = self.path, self._write
        if path.exists() and not path.is_file():  # SQLite would wait for whoever writes to a pipe
            raise self._damaged(ValueError("not a file"))
        mode = "mode=rwc" if write else "mode=ro"
        if not write and not os.access(path.parent, os.W_OK) and not path.with_name(f"{path.name}-wal").exists():
            mode += "&immutable=1"  # a read-only medium, where SQLite can't make the files that readers share
        if write and not path.exists():  # SQLite itself would let nobody else write
            os.close(open_no_link(path, os.O_RDWR | os.O_CREAT))
        self._connect(f"{path.resolve().as_uri()}?{mode}")

    def _open_empty(self) -> None:
        """Open empty tables that are nowhere, in the place of a file that is missing."""
        self._connect("file::memory:")
        self._make_tables()

    def _make_tables(self) -> None:
        for statement in statements(self._schema):
            self._connection.execute(statement)

    def _connect(self, address: str) -> None:
        with self._understood():
            self._connection = sqlite3.connect(address, uri=True, isolation_level=None, timeout=_PATIENCE)
            try:
                self._set_up(self._write)
            except BaseException:
                self._connection.close()
                raise

    def _set_up(self, write: bool) -> None:
        self._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST)
        self._connection.set_progress_handler(lambda: None, _STEPS)  # lets Python see to its signals
        self._connection.execute("PRAGMA trusted_schema = OFF")
        self._refuse_foreign_schema()
        self._connection.execute("PRAGMA foreign_keys = ON")
        if write:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("PRAGMA secure_delete = ON")  # removed people leave no trace

    def _refuse_foreign_schema(self) -> None:
        """Refuse whatever a stranger may have put beside our tables or into them.

        Triggers run, views may never end, checks and computed columns may take for ever; and only strict tables hold
        what their columns say.
        """
        for kind, name, sql in self._connection.execute("SELECT type, name, sql FROM sqlite_master"):
            if not _is_own(kind, name, sql, self._own):
                raise self._damaged(ValueError(f"it has a {kind} '{name}' that no gallery has"))

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

    def problems(self) -> list[str]:
        """What SQLite finds wrong with the database; nothing where it is sound."""
        found = [str(row[0]) for row in self._rows("PRAGMA integrity_check")]
        return [one for one in found if one != "ok"] + [
            f"a row of {row[0]} belongs to no row of {row[2]}" for row in self._rows("PRAGMA foreign_key_check")
        ]

    def reindex(self) -> None:
        """Build SQLite's own indexes again, which repairs them where the tables are sound."""
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

    def _ids(self, query: str, *values: object) -> NDArray[np.int64]:
        with self._understood():
            cursor = self._connection.execute(query, values)
            found = np.fromiter((row[0] for row in cursor), dtype=np.int64)
        if len(found) and not 1 <= found.min() <= found.max() <= LAST_ID:
            raise self._damaged(ValueError("an entry's number is out of range"))
        return found

    def _rows(self, query: str, *values: object, of: Sequence[Any] = ()) -> list[Any]:
        """The rows that a query finds; `of` says of which type each of their first values must be.

        Raises:
            GalleryError: They can't be read, or hold what no gallery of ours holds.
        """
        with self._understood():
            rows = self._connection.execute(query, values).fetchall()
        for row in rows:
            for value, kind in zip(row, of, strict=False):
                if not isinstance(value, kind):
                    raise self._damaged(ValueError(f"it holds a {type(value).__name__} where none belongs"))
        return rows

    def _damaged(self, error: Exception) -> GalleryError:
        return damaged(self.path, error, self.advice)

    @contextlib.contextmanager
    def _understood(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError, OverflowError) as error:
            text = one_line(error)
            if text == _INTERRUPTED:  # by an exception of a signal, which SQLite doesn't pass on
                raise KeyboardInterrupt from error
            if "full" in text or "disk I/O" in text:
                raise GalleryError(
                    f"{self.path} can't be written: {text}.",
                    "Free some space and run the same command again: finished batches are kept.",
                ) from error
            if "locked" in text:
                raise GalleryError(
                    f"{self.path} is being written by another process.",
                    "Wait until it is done, and run the same again.",
                ) from error
            raise self._damaged(error) from error


def damaged(path: Path, error: Exception, advice: str = Database.advice) -> GalleryError:
    """What to raise where a database can't be read as it should."""
    return GalleryError(f"{path} can't be used: {one_line(error)}.", advice)


def statements(sql: str) -> list[str]:
    """The statements of a schema, each of which ends a line."""
    return [one.strip() for one in sql.split(";\n") if one.strip()]


def _bare(sql: object) -> str:
    """SQL without comments, in which white space is the same everywhere."""
    return " ".join(re.sub(r"--.*", "", str(sql)).replace("(", " ( ").replace(")", " ) ").replace(",", " , ").split())


def _columns(sql: object) -> set[str]:
    """What a table is made of: its columns, its rules, and what kind of table it is; in any order."""
    begin, _, rest = _bare(sql).partition(" ( ")
    inside, _, end = rest.rpartition(" ) ")
    return {begin, end, *re.split(r" , (?![^(]*\))", inside)}


_PLAIN_INDEX = re.compile(r"CREATE INDEX \w+ ON \w+ \( \w+(?: , \w+)* \)")


def _is_own(kind: str, name: str, sql: object, own: dict[str, str]) -> bool:
    """Whether this table, index or the like, made by this SQL, is one that our database has.

    Args:
        kind: As SQLite calls it.
        name: Its name.
        sql: What made it; None for what SQLite makes by itself.
        own: The SQL of our tables, by name.
    """
    if kind == "index":
        return sql is None or _PLAIN_INDEX.fullmatch(_bare(sql)) is not None
    if kind != "table" or not _bare(sql).startswith("CREATE TABLE "):
        return False
    return name.startswith("sqlite_") or (name in own and _columns(sql) <= _columns(own[name]))
