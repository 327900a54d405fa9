"""What people said of a gallery's entries, and whom they show: `people.sqlite` in the gallery's folder.

The file is the same for every store, and beside the entries rather than among them: an entry is named by its source,
path and box, which a rebuild leaves as they are. Verdicts are given while a gallery is searched, indexed or rebuilt, so
its writer's lock isn't asked for; SQLite lets one process write at a time. A rebuild puts another folder in the place
of the gallery's: `carried` holds the file meanwhile, and whoever waited sees in `transaction` that it is another one.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from dataclasses import dataclass, replace
from datetime import UTC
from typing import TYPE_CHECKING, Any, Literal, Self, get_args
from uuid import uuid4

from typing_extensions import override

from sil_cli.errors import GalleryError, SilError, UsageError
from sil_cli.files import access_as, open_no_link, parse_json, refuse_links, staging_folder, sync_folder
from sil_cli.gallery.entry import LAST_ID, EntryKey, Time, box_text, in_utc, require_names, stored_box, stored_time
from sil_cli.gallery.interface import PEOPLE_FILE
from sil_cli.gallery.local.database import Database
from sil_cli.gallery.local.set_aside import put_aside
from sil_cli.gallery.results import Check
from sil_cli.locks import LOCK_FILE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from sil_cli.runtime import Reporter

Answer = Literal["same", "different", "unsure", "withdrawn"]
"""Of two entries: they show one person, or two; it can't be told; or what was said before no longer counts."""

Pair = tuple[EntryKey, EntryKey]
"""Two entries, the one that sorts first first."""

LONGEST_NAME = 200
"""Letters of who gave a verdict, or of a person's name."""
LONGEST_REASON = 2000
"""Letters of why somebody gave a verdict."""

FORMAT = 1
_FILES = (PEOPLE_FILE, f"{PEOPLE_FILE}-wal", f"{PEOPLE_FILE}-shm")
_VERDICT = "first, second, answer, judge, time, reason, origin, probability"
_VERDICT_TYPES = (int, int, str, str, str, str, str, float | None)

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE keys (                       -- every entry that something is said of; what is said goes with it
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    source TEXT NOT NULL,
    path TEXT NOT NULL,
    box TEXT NOT NULL,                    -- JSON, '' for the whole image
    UNIQUE (source, path, box)
) STRICT;
CREATE TABLE verdicts (                   -- only ever added to; the latest of a person on a pair counts
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    first INTEGER NOT NULL REFERENCES keys (id) ON DELETE CASCADE,
    second INTEGER NOT NULL REFERENCES keys (id) ON DELETE CASCADE,
    answer TEXT NOT NULL,                 -- same, different, unsure, or withdrawn
    judge TEXT NOT NULL,
    time TEXT NOT NULL,                   -- ISO 8601, UTC
    reason TEXT NOT NULL,
    origin TEXT NOT NULL,                 -- how it came: told, ask, merge, import, …
    probability REAL,                     -- with which the pair was drawn to be asked about
    UNIQUE (first, second, answer, judge, time)
) STRICT;
CREATE INDEX verdicts_by_second ON verdicts (second);
CREATE TABLE people (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uid TEXT NOT NULL UNIQUE,             -- the same in every copy of the gallery
    name TEXT NOT NULL                    -- '' for none
) STRICT;
CREATE TABLE members (
    entry INTEGER NOT NULL REFERENCES keys (id) ON DELETE CASCADE,
    person INTEGER NOT NULL REFERENCES people (id) ON DELETE CASCADE,
    state TEXT NOT NULL,                  -- found, confirmed, or rejected
    confidence REAL NOT NULL,
    PRIMARY KEY (entry, person)
) STRICT, WITHOUT ROWID;
CREATE INDEX members_by_person ON members (person);
"""


@dataclass(frozen=True)
class Verdict:
    """What somebody said of two entries.

    Attributes:
        first, second: The entries, each by its source, path and box; they are put in order.
        answer: Whether they show one person: `same`, `different`, `unsure` (can't be told); or `withdrawn`, by which
            what the same judge said before no longer counts.
        by: Who said so; '' for unknown.
        at: When, with its time zone.
        why: In their words.
        origin: How it came: `told` at the command line, `ask`, `merge`, `import`, …
        probability: With which the pair was drawn to be asked about, in (0, 1]; None where somebody chose it.
    """

    first: EntryKey
    second: EntryKey
    answer: Answer
    by: str
    at: Time
    why: str = ""
    origin: str = "told"
    probability: float | None = None

    def __post_init__(self) -> None:
        """Put the two entries in order.

        Raises:
            UsageError: It is not a verdict.
        """
        first, second = in_order(self.first, self.second)
        object.__setattr__(self, "first", first)
        object.__setattr__(self, "second", second)
        if self.answer not in get_args(Answer):
            raise UsageError(f"'{self.answer}' is not a verdict.", f"Answer {', '.join(get_args(Answer))}.")
        if first == second:
            raise UsageError(f"'{first[1]}' was compared with itself.", "Name two entries.")
        if self.at.tzinfo is None:
            raise UsageError("A verdict's time has no time zone.", "Add one, such as +00:00.")
        if self.probability is not None and not 0.0 < self.probability <= 1.0:
            raise UsageError(f"A pair can't be drawn with a probability of {self.probability}.", "Use one in (0, 1].")
        require_text("A verdict's reason", self.why, LONGEST_REASON)
        for what, text in (("The name of who gave a verdict", self.by), ("A verdict's origin", self.origin)):
            require_text(what, text, LONGEST_NAME)

    @property
    def pair(self) -> Pair:
        """What it is about."""
        return self.first, self.second


def _verdict(row: Sequence[Any], keys: Mapping[int, EntryKey]) -> Verdict:
    """A row of the table as what it says.

    Raises:
        ValueError, KeyError, UsageError: A stranger wrote it.
    """
    first, second, answer, by, at, why, origin, probability = row
    return Verdict(keys[first], keys[second], answer, by, in_utc(stored_time(at)), why, origin, probability)


@dataclass(frozen=True)
class Forgotten:
    """What was deleted of what people said: how many verdicts, and whether no trace of them is left."""

    verdicts: int
    complete: bool


def in_order(one: EntryKey, other: EntryKey) -> Pair:
    """Two entries as a pair, whichever was named first."""
    return (one, other) if _sortable(one) <= _sortable(other) else (other, one)


def require_text(what: str, text: str, longest: int) -> None:
    """Refuse a text that is too long, or that can't be stored.

    Raises:
        UsageError: It is.
    """
    if len(text) > longest:
        raise UsageError(f"{what} has {len(text):,} characters.", f"Use up to {longest:,}.")
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise UsageError(f"{what} is not UTF-8 text.", "Write it with other letters.")


State = Literal["found", "confirmed", "rejected"]
"""Why an entry is a person's: found by itself, confirmed by somebody; or that somebody said that it isn't."""


@dataclass(frozen=True)
class Membership:
    """That an entry shows a person, or doesn't.

    Attributes:
        key: The entry.
        person: Their number.
        state: See `State`.
        confidence: Of what was found, 0..1 (`people.grouping`).
    """

    key: EntryKey
    person: int
    state: State
    confidence: float

    def __post_init__(self) -> None:
        """Check what a file says.

        Raises:
            ValueError: It is none.
        """
        if self.state not in get_args(State) or not 0.0 <= self.confidence <= 1.0:
            raise ValueError("a member that is none")


class People(Database):
    """The open file of verdicts and people; use it in a `with` statement."""

    advice = "`sil gallery repair` keeps what can be read of it, and sets the file aside."

    def __init__(self, folder: Path, *, write: bool) -> None:
        self.folder = folder
        self._inside = False
        super().__init__(folder / PEOPLE_FILE, SCHEMA, write=write)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @override
    def _open(self) -> None:
        for name in _FILES:
            refuse_links(self.folder / name, within=self.folder)
        if self._write:
            with _access_of(self.folder):
                super()._open()
        elif self._inode_now() is None:
            self._open_empty()
        else:
            super()._open()
            if not self._is_made():  # by somebody who is about to
                self.close()
                self._open_empty()
        self._inode = self._inode_now()

    def _inode_now(self) -> int | None:
        try:
            return self.path.stat().st_ino
        except FileNotFoundError:
            return None

    def _is_made(self) -> bool:
        return bool(self._rows("SELECT 1 FROM sqlite_master WHERE name = 'meta'"))

    @override
    def _make_tables(self) -> None:
        super()._make_tables()
        self._connection.execute("INSERT INTO meta VALUES ('format', ?)", (str(FORMAT),))

    def require_format(self) -> None:
        """Refuse a file of a newer version.

        Raises:
            GalleryError: It is one, or doesn't say of which.
        """
        rows = self._rows("SELECT value FROM meta WHERE key = 'format'", of=(str,))
        try:
            made = parse_json(rows[0][0])
            if type(made) is not int:
                raise ValueError("its format is no number")
        except (ValueError, IndexError) as error:
            raise self._damaged(error) from error
        if made != FORMAT:
            raise GalleryError(
                f"{self.path} is of format {made}; this version reads format {FORMAT}.",
                "Use the version of sil that made it.",
            )

    @contextlib.contextmanager
    @override
    def transaction(self) -> Iterator[None]:
        """All changes of the block, or none; within another one, a part of that.

        Raises:
            GalleryError: Another process has been writing for half a minute, or the disk is full.
        """
        if self._inside:
            yield
            return
        while True:
            with super().transaction():
                if self._inode_now() == self._inode:  # and stays so: who replaces the file holds this lock
                    self._inside = True
                    try:
                        yield
                    finally:
                        self._inside = False
                    return
            self.close()
            _await_folder(self.folder)
            self._open()

    def key_ids(self, keys: Iterable[EntryKey]) -> dict[EntryKey, int]:
        """The rows of entries in the table `keys`; those that it lacks are added (within a transaction)."""
        wanted = dict.fromkeys(keys)
        rows = [(source, path, box_text(box)) for source, path, box in wanted]
        self._connection.executemany("INSERT OR IGNORE INTO keys (source, path, box) VALUES (?, ?, ?)", rows)
        query = "SELECT id FROM keys WHERE (source, path, box) = (?, ?, ?)"
        return {key: int(self._rows(query, *row)[0][0]) for key, row in zip(wanted, rows, strict=True)}

    def keys(self) -> dict[int, EntryKey]:
        """All entries that something is said of, by their row in the table `keys`."""
        rows = self._rows("SELECT id, source, path, box FROM keys ORDER BY id", of=(int, str, str, str))
        return {number: self._key(source, path, box) for number, source, path, box in rows}

    def _key(self, source: str, path: str, box: str) -> EntryKey:
        try:
            require_names(source, path)
            return source, path, stored_box(box)
        except ValueError as error:
            raise self._damaged(error) from error

    def add_verdicts(self, verdicts: Sequence[Verdict]) -> int:
        """Keep verdicts, in a transaction; returns how many weren't there already.

        One that its judge gives later than another on the same pair takes its place; both are kept.
        """
        with self.transaction():
            ids = self.key_ids(key for one in verdicts for key in one.pair)
            before = self._connection.total_changes
            self._connection.executemany(
                f"INSERT OR IGNORE INTO verdicts ({_VERDICT}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                [
                    (
                        ids[one.first],
                        ids[one.second],
                        one.answer,
                        one.by,
                        one.at.astimezone(UTC).isoformat(timespec="microseconds"),
                        one.why,
                        one.origin,
                        one.probability,
                    )
                    for one in verdicts
                ],
            )
            return self._connection.total_changes - before

    def verdicts(self) -> list[Verdict]:
        """All verdicts that were ever given, oldest first, whatever became of them."""
        keys = self.keys()
        rows = self._rows(f"SELECT {_VERDICT} FROM verdicts ORDER BY time, id", of=_VERDICT_TYPES)  # noqa: S608
        try:
            return [_verdict(row, keys) for row in rows]
        except (ValueError, KeyError, UsageError) as error:
            raise self._damaged(ValueError(getattr(error, "what", error))) from error

    def standing(self) -> list[Verdict]:
        """The verdicts that count, oldest first: the latest of each judge on each pair, unless it was withdrawn."""
        latest = {(one.by, one.pair): one for one in self.verdicts()}
        return sorted((one for one in latest.values() if one.answer != "withdrawn"), key=lambda one: one.at)

    def names(self) -> dict[int, str]:
        """The name of each person, by number, ascending; '' for none."""
        rows = self._rows("SELECT id, name FROM people ORDER BY id", of=(int, str))
        if rows and not 1 <= rows[0][0] <= rows[-1][0] <= LAST_ID:
            raise self._damaged(ValueError("the number of a person is out of range"))
        return dict(rows)

    def members(self) -> list[Membership]:
        """Whom entries show, and whom not, person after person."""
        keys = self.keys()
        query = "SELECT entry, person, state, confidence FROM members ORDER BY person, entry"
        rows = self._rows(query, of=(int, int, str, float))
        try:
            return [Membership(keys[entry], person, state, confidence) for entry, person, state, confidence in rows]
        except (ValueError, KeyError) as error:
            raise self._damaged(error) from error

    def add_person(self, name: str = "") -> int:
        """A new person (within a transaction); returns their number."""
        cursor = self._connection.execute("INSERT INTO people (uid, name) VALUES (?, ?)", (uuid4().hex, name))
        return int(cursor.lastrowid or 0)

    def rename_person(self, person: int, name: str) -> None:
        """Give a person a name, '' for none (within a transaction)."""
        self._connection.execute("UPDATE people SET name = ? WHERE id = ?", (name, person))

    def delete_people(self, people: Iterable[int]) -> None:
        """Delete people and who is a member of them (within a transaction)."""
        self._connection.executemany("DELETE FROM people WHERE id = ?", [(one,) for one in people])

    def put_members(self, members: Sequence[Membership]) -> None:
        """Say whom entries show, or not, in the place of what was said of them and these people (in a transaction)."""
        ids = self.key_ids(one.key for one in members)
        self._connection.executemany(
            "INSERT OR REPLACE INTO members VALUES (?, ?, ?, ?)",
            [(ids[one.key], one.person, one.state, one.confidence) for one in members],
        )

    def drop_members(self, members: Iterable[Membership]) -> None:
        """Say nothing any more of these entries and people (within a transaction)."""
        rows = [(one.person, one.key[0], one.key[1], box_text(one.key[2])) for one in members]
        self._connection.executemany(
            "DELETE FROM members WHERE person = ?"
            " AND entry = (SELECT id FROM keys WHERE (source, path, box) = (?, ?, ?))",
            rows,
        )

    def grouped_by(self) -> str | None:
        """The fingerprint of the model by whose embeddings entries were grouped last; None where they never were."""
        rows = self._rows("SELECT value FROM meta WHERE key = 'grouped by'", of=(str,))
        return str(rows[0][0]) if rows else None

    def note_grouping(self, fingerprint: str) -> None:
        """Remember that entries were grouped by this model's embeddings (within a transaction)."""
        self._connection.execute("INSERT OR REPLACE INTO meta VALUES ('grouped by', ?)", (fingerprint,))

    def forget(self, keys: Iterable[EntryKey]) -> int:
        """Delete all that is said of entries, in a transaction; returns how many verdicts that was."""
        with self.transaction():
            before = self._count_verdicts()
            rows = [(source, path, box_text(box)) for source, path, box in keys]
            self._connection.executemany("DELETE FROM keys WHERE (source, path, box) = (?, ?, ?)", rows)
            return before - self._count_verdicts()

    def _count_verdicts(self) -> int:
        return int(self._rows("SELECT COUNT(*) FROM verdicts")[0][0])

    def adopt(self, other: People, here: Mapping[EntryKey, EntryKey]) -> int:
        """Take over what another gallery's file says, beside what this one says; returns how many verdicts were new.

        A person who is here already, by their `uid`, keeps their name, and is joined by members that are no one's yet.

        Args:
            other: The other file.
            here: What its entries are called here; those that aren't here are left out.
        """
        verdicts = [one for one in other.verdicts() if one.first in here and one.second in here]
        with self.transaction():
            added = self.add_verdicts(
                [replace(one, first=here[one.first], second=here[one.second]) for one in verdicts]
            )
            self._adopt_people(other, {number: here[key] for number, key in other.keys().items() if key in here})
        return added

    def _adopt_people(self, other: People, keys: dict[int, EntryKey]) -> None:
        people = other._rows("SELECT id, uid, name FROM people", of=(int, str, str))
        self._connection.executemany(
            "INSERT OR IGNORE INTO people (uid, name) VALUES (?, ?)", [(uid, name) for _, uid, name in people]
        )
        ids = {number: self._rows("SELECT id FROM people WHERE uid = ?", uid)[0][0] for number, uid, _ in people}
        taken = {row[0] for row in self._rows("SELECT entry FROM members WHERE state <> 'rejected'")}
        rows = other._rows("SELECT entry, person, state, confidence FROM members", of=(int, int, str, float))
        there = [row for row in rows if row[0] in keys and row[1] in ids]
        entries = self.key_ids(keys[row[0]] for row in there)
        self._connection.executemany(
            "INSERT OR IGNORE INTO members VALUES (?, ?, ?, ?)",
            [
                (entries[keys[entry]], ids[person], state, confidence)
                for entry, person, state, confidence in there
                if state == "rejected" or entries[keys[entry]] not in taken
            ],
        )

    def salvage(self, damaged: People) -> int:
        """Take over all that can be read of a damaged file; returns how many verdicts that is."""
        keys: dict[int, EntryKey] = {}
        for number, *texts in damaged._readable("id, source, path, box", "keys"):
            with contextlib.suppress(GalleryError, TypeError):
                keys[number] = damaged._key(*texts)
        verdicts = []
        for row in damaged._readable(_VERDICT, "verdicts"):
            with contextlib.suppress(ValueError, KeyError, TypeError, UsageError):
                verdicts.append(_verdict(row, keys))
        with self.transaction():
            added = self.add_verdicts(verdicts)
            ids = self.key_ids(keys.values())
            members = damaged._readable("entry, person, state, confidence", "members")
            rows = {
                "people (id, uid, name) VALUES (?, ?, ?)": damaged._readable("id, uid, name", "people"),
                "members VALUES (?, ?, ?, ?)": [(ids[keys[one]], *rest) for one, *rest in members if one in keys],
            }
            for into, values in rows.items():
                for row in values:
                    with contextlib.suppress(sqlite3.Error):  # of a row that refers to what is lost
                        self._connection.execute(f"INSERT INTO {into}", row)
        return added

    def _readable(self, columns: str, table: str) -> list[tuple[Any, ...]]:
        """The rows of a table from either end, as far as they can be read."""
        found: dict[tuple[Any, ...], None] = {}
        for order in ("ASC", "DESC"):
            with contextlib.suppress(sqlite3.Error):
                query = f"SELECT {columns} FROM {table} ORDER BY 1 {order}"  # noqa: S608
                for row in self._connection.execute(query):
                    found[row] = None
        return list(found)

    def copy_to(self, folder: Path) -> None:
        """Put a copy beside another gallery, durably, in the place of one that is there (within a transaction)."""
        target = folder / PEOPLE_FILE
        for name in _FILES:
            (folder / name).unlink(missing_ok=True)
        with self._understood(), People(self.folder, write=False) as reader:
            with _access_of(self.folder):
                handle = open_no_link(target, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            try:
                with contextlib.closing(sqlite3.connect(target)) as copy:
                    reader._connection.backup(copy)
                os.fsync(handle)
            finally:
                os.close(handle)


@contextlib.contextmanager
def open_people(folder: Path, *, write: bool = False) -> Iterator[People]:
    """Open what people said of a gallery's entries.

    Args:
        folder: The gallery's, or the one that stands beside a store elsewhere.
        write: To add to it. Without, this is a snapshot; empty where nobody has said anything.

    Raises:
        GalleryError: The file is damaged, of a newer version, or can't be read or written.
        SilError: A link stands in its place.
    """
    _await_folder(folder)
    if write and not folder.is_dir():
        raise GalleryError(
            f"No gallery was found: {folder} doesn't exist.", "Make one with `sil index-gallery IMAGES`."
        )
    with People(folder, write=write) as people:
        if write:
            with people.transaction():
                if not people._is_made():
                    people._make_tables()
        else:
            people.snapshot()
        people.require_format()
        yield people


@contextlib.contextmanager
def carried(folder: Path, target: Path) -> Iterator[None]:
    """Have what people said in the folder that takes the gallery's place in this block; nobody adds to it meanwhile.

    Args:
        folder: The gallery's.
        target: The one that takes its place.
    """
    with open_people(folder, write=True) as people, people.transaction():
        people.copy_to(target)
        yield


def has_people(folder: Path) -> bool:
    """Whether there is a file of what people said, be it sound or not."""
    return os.path.lexists(folder / PEOPLE_FILE)


def count_about(folder: Path, keys: Iterable[EntryKey]) -> int:
    """How many verdicts are about one of these entries."""
    if not has_people(folder):
        return 0
    wanted = set(keys)
    with open_people(folder) as people:
        return sum(not wanted.isdisjoint(one.pair) for one in people.verdicts())


def forget_gone(folder: Path, existing: Callable[[Sequence[EntryKey]], Collection[EntryKey]]) -> Forgotten:
    """Delete every trace of what was said of entries that the gallery has no more.

    Args:
        folder: The gallery's.
        existing: Those of some entries that it has.
    """
    if not has_people(folder):
        return Forgotten(0, complete=True)
    with open_people(folder, write=True) as people:
        with people.transaction():
            keys = list(people.keys().values())
            there = existing(keys)
            deleted = people.forget([one for one in keys if one not in there])
        return Forgotten(deleted, complete=people.shrink())


def check_people(folder: Path) -> Check:
    """Look at everything in the file."""
    try:
        with open_people(folder) as people:
            problems = people.problems()
            verdicts = people.verdicts()
    except SilError as error:
        return Check(PEOPLE_FILE, False, error.what.removeprefix(f"{folder / PEOPLE_FILE} "))
    judges = len({one.by for one in verdicts})
    found = f"{len(verdicts):,} verdicts of {judges:,} {'person' if judges == 1 else 'people'}"
    return Check(PEOPLE_FILE, not problems, problems[0] if problems else found)


def repair_people(folder: Path, reporter: Reporter) -> list[Path]:
    """Keep what can be read of a damaged file, and set the file aside, as the gallery's only writer.

    Returns:
        Where it is now; empty where nothing was wrong.
    """
    if not has_people(folder):
        return []
    with contextlib.suppress(SilError), open_people(folder, write=True) as people:
        if people.problems():
            people.reindex()
        if not people.problems():
            people.verdicts()
            return []
    with staging_folder(folder) as staging:
        with open_people(staging, write=True) as kept:
            count = _salvage(folder, kept)
            kept.shrink()
        there = [path for name in _FILES if os.path.lexists(path := folder / name)]
        moved = put_aside(folder, there)
        (staging / PEOPLE_FILE).rename(folder / PEOPLE_FILE)
    sync_folder(folder)
    reporter.warn(f"{PEOPLE_FILE} was damaged: {count:,} verdicts could be read and are kept; it is now {moved[0]}.")
    return moved


def _salvage(folder: Path, kept: People) -> int:
    """Put all that can be read of a damaged file into a new one; returns how many verdicts that is."""
    try:
        damaged = People(folder, write=False)
    except SilError:  # it has what no file of ours has: it is another program's, or a stranger's trap
        return 0
    with damaged:
        return kept.salvage(damaged)


def _await_folder(folder: Path) -> None:
    """Where there is no gallery because a rebuilt one is about to take its place, let it."""
    if not folder.exists():
        from sil_cli.gallery.local.store import rename_back

        rename_back(folder)


@contextlib.contextmanager
def _access_of(folder: Path) -> Iterator[None]:
    """Have what is made be readable and writable for those who may read and write the gallery, as far as it says."""
    try:
        handle = open_no_link(folder / LOCK_FILE, os.O_RDONLY)
    except OSError:  # an older copy without one
        yield
        return
    try:
        with access_as(handle):
            yield
    finally:
        os.close(handle)


def _sortable(key: EntryKey) -> tuple[str, str, tuple[int, ...]]:
    source, path, box = key
    return source, path, box or ()
