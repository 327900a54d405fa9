"""The folder of a gallery: the snapshot that is searched, and opening it for searching, writing and rebuilding.

gallery.sqlite            what each image is, which files of vectors count, the model (see `tables`)
vectors/segment-*.faiss   the embeddings (see `segments`)
writer.lock               held by the one writer (see `sil_cli.locks`)
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import override

from sil_cli.errors import GalleryError, SilError, one_line, quoted
from sil_cli.files import is_half_made, make_alike, parsing, refuse_links, require_reachable, sync_folder
from sil_cli.gallery.accountability.log import OF_A_LOG, holding_still
from sil_cli.gallery.interface import (
    AUTOMATIC,
    MODEL_FOLDER,
    POLICY_FILE,
    Gallery,
    GalleryRebuild,
    GalleryStore,
    rebuilding_folder,
)
from sil_cli.gallery.local import health
from sil_cli.gallery.local.database import damaged
from sil_cli.gallery.local.schema import DATABASE_FILE, FORMAT, SET_ASIDE_FOLDER, VECTOR_FOLDER
from sil_cli.gallery.local.segments import INDEX_KIND
from sil_cli.gallery.local.set_aside import MADE_AGAIN, delete_gallery, knows_none, require_own
from sil_cli.gallery.local.tables import Tables
from sil_cli.gallery.local.tuning import require_factory
from sil_cli.gallery.local.vector_files import naming_missing_files, read_index, read_living
from sil_cli.gallery.local.vector_search import Searcher
from sil_cli.gallery.local.writer import LocalWriter
from sil_cli.gallery.results import GalleryInfo
from sil_cli.locks import LOCK_FILE, writer_lock

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence, Set

    from numpy.typing import NDArray

    from sil_cli.gallery.entry import GalleryEntry, Member
    from sil_cli.gallery.filters import Filter
    from sil_cli.gallery.interface import Ranked
    from sil_cli.gallery.local.schema import IndexRecord, SegmentRecord
    from sil_cli.gallery.results import Check, Removal


_FILTERS_KEPT = 64
_QUERIES_AT_ONCE = 256  # a matrix product of fewer takes hardly less time
_MATCHES_AT_ONCE = 2**22


class LocalGallery(Gallery):
    """A snapshot: it goes on showing what was there when it was opened, whatever a writer does."""

    def __init__(self, folder: Path, tables: Tables) -> None:
        tables.snapshot()
        super().__init__(folder, str(folder), tables.meta()["model"])
        self._tables = tables
        self._record: IndexRecord | None = None
        self._files = 0
        self._searcher = self._load()
        self._passing: dict[Filter, NDArray[np.int64]] = {}

    @override
    def __len__(self) -> int:
        return len(self._searcher)

    @override
    def close(self) -> None:
        self._tables.close()

    @override
    def describe_index(self) -> str:
        record = self._record
        if record is None:
            return INDEX_KIND
        effort = f"{'nprobe' if 'IVF' in record.factory else 'efSearch'} {record.effort}, " if record.effort else ""
        return f"{record.factory} over {record.count:,} vectors ({effort}recall@10 {record.recall:.4f} measured)"

    @override
    def requested_index(self) -> str:
        return str(self._tables.meta()["index"])

    @override
    def info(self) -> GalleryInfo:
        cameras, identities, earliest, latest = self._tables.extent()
        return GalleryInfo(
            gallery=self.folder,
            format=FORMAT,
            entries=len(self),
            dimension=self.dimension,
            index=self.describe_index(),
            wished_index=self.requested_index(),
            files=self._files,
            cameras=cameras,
            identities=identities,
            metadata=self.metadata_keys(),
            earliest=earliest,
            latest=latest,
            model=self.model["fingerprint"],
            removals=self.removals(),
        )

    @override
    def metadata_keys(self) -> list[str]:
        return self._tables.metadata_keys()

    @override
    def ids(self) -> NDArray[np.int64]:
        return self._searcher.ids()

    @override
    def ids_passing(self, where: Filter) -> NDArray[np.int64]:
        if where not in self._passing:
            while len(self._passing) >= _FILTERS_KEPT:  # a server meets many
                del self._passing[next(iter(self._passing))]
            self._passing[where] = super().ids_passing(where)
        return self._passing[where]

    @override
    def _ids_passing(self, where: Filter) -> NDArray[np.int64]:
        return self._tables.ids_matching(where)

    @override
    def ids_of_content(self, content_hash: str) -> frozenset[int]:
        return self._tables.ids_of_content(content_hash)

    def last_id(self) -> int:
        """The highest id that was ever given."""
        return self._tables.last_number("entries")

    @override
    def removals(self) -> list[Removal]:
        return self._tables.removals()

    @override
    def known_values(self, key: str, limit: int = 50) -> list[str]:
        return self._tables.known_values(key, limit)

    @override
    def entries(self, ids: Sequence[int]) -> dict[int, GalleryEntry]:
        return self._tables.entries(ids)

    @override
    def members(self, ids: Sequence[int]) -> dict[int, list[Member]]:
        return self._tables.members(ids)

    @override
    def vectors(self, ids: Sequence[int]) -> NDArray[np.float32]:
        self._require_all(ids, self._searcher.ids())
        return self._searcher.vectors(np.array(ids, dtype=np.int64)).reshape(len(ids), self.dimension)

    @override
    def _search(
        self,
        queries: NDArray[np.float32],
        k: int,
        where: Filter | None,
        exclude: Sequence[Set[int]],
        *,
        exact: bool,
    ) -> list[Ranked]:
        allowed = self.ids_passing(where) if where else None
        found: list[Ranked] = []
        at_once = max(1, min(_QUERIES_AT_ONCE, _MATCHES_AT_ONCE // min(k, len(self))))
        for start in range(0, len(queries), at_once):
            part = slice(start, start + at_once)
            found += self._searcher.search(queries[part], k, allowed, exclude[part], exact=exact)
        return found

    def _load(self) -> Searcher:
        """All living vectors, and the index over them."""
        missing: list[SegmentRecord] = []
        while True:
            segments, record = self._tables.segments(), self._tables.index()
            try:
                parts = [read_living(self.folder, self._tables, each, self.dimension) for each in segments]
                index = None if record is None else read_index(self.folder, record, self.dimension)
            except FileNotFoundError:
                if segments == missing:
                    with naming_missing_files():
                        raise
                missing = segments
                self._tables.snapshot()  # a writer merged files away in this moment: look again
                continue
            self._files, self._record = len(segments), record
            last_id, effort = (record.last_id, record.effort) if record else (0, 0)
            return Searcher(parts, index, last_id=last_id, effort=effort)


_WRITTEN = (
    DATABASE_FILE,
    f"{DATABASE_FILE}-wal",
    f"{DATABASE_FILE}-shm",
    VECTOR_FOLDER,
    SET_ASIDE_FOLDER,
    MODEL_FOLDER,
)
"""What commands write to in a gallery; links there would have them change other folders."""


class LocalStore(GalleryStore):
    """A folder that holds a gallery, or may come to hold one."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, str(folder))

    @override
    def open(self) -> LocalGallery:
        """Open the gallery for searching; a writer may be at work in it. One of an older version is brought up to date.

        Raises:
            GalleryError: No gallery is there, it is damaged, or of a newer version.
        """
        while True:
            opened = self._inode()
            tables: Tables | None = None
            try:
                tables = self._present_tables()
                with parsing(lambda why: damaged(self.folder / DATABASE_FILE, ValueError(why))):
                    return LocalGallery(self.folder, tables)
            except BaseException as error:
                if tables is not None:
                    tables.close()
                # A rebuilt gallery may have taken the folder's place in this moment: look at that one.
                if not isinstance(error, GalleryError) or self._inode() == opened:
                    raise

    @contextlib.contextmanager
    @override
    def writer(self, model: Mapping[str, Any]) -> Iterator[LocalWriter]:
        rename_back(self.folder)
        self._require_gallery_or_nothing()
        with self._locked(), self._tables_to_write() as tables:
            if tables.is_made():
                tables.migrate()
            else:
                require_own(self.folder, [], 0)
                tables.make(dict(model), AUTOMATIC)
            writer = LocalWriter(self.folder, tables)
            writer.require_model(model["fingerprint"])
            yield writer

    @contextlib.contextmanager
    @override
    def existing_writer(self) -> Iterator[LocalWriter]:
        self._inode()
        with self._locked(), self._tables_to_write() as tables:
            tables.migrate()
            yield LocalWriter(self.folder, tables)

    @contextlib.contextmanager
    @override
    def rebuilding(self, model: Mapping[str, Any]) -> Iterator[LocalRebuild]:
        beside = LocalStore(rebuilding_folder(self.folder))
        self._inode()
        with self._locked():  # throughout: what is indexed meanwhile would be lost
            with self._tables_to_write() as tables:  # closed early: SQLite deletes its log by name, even a successor's
                tables.migrate()
                LocalWriter(self.folder, tables)
            old_one = superseded_folder(self.folder)
            if old_one.is_dir() and any(old_one.iterdir()):
                raise GalleryError(
                    f"{old_one} is in the way: a rebuilt gallery needs its place for a moment.",
                    "See what is there, and move it elsewhere.",
                )
            if beside.folder.exists() and not beside._is_of(model["fingerprint"]):
                delete_gallery(beside.folder)
            make_alike(beside.folder, self.folder)  # with its group, which other users of a shared gallery are in
            with self.open() as old, beside.writer(model) as new:
                yield LocalRebuild(old, new)
                finish_swap(self.folder)

    @override
    def require_index(self, requested: str, dimension: int) -> None:
        require_factory(requested, dimension)

    @override
    def check(self) -> list[Check]:
        self._inode()
        tables = self._present_tables()
        try:
            return health.check_files(self.folder, tables)
        finally:
            tables.close()

    @override
    def size(self) -> int:
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    @override
    def option(self) -> str:
        return "" if self.name == "gallery" else f" --gallery {quoted(self.folder)}"

    def _inode(self) -> int:
        """Which file the database is; raises a GalleryError where there is none."""
        database = self.folder / DATABASE_FILE
        require_reachable(database)
        rename_back(self.folder)
        try:
            return database.stat().st_ino
        except OSError as error:
            raise GalleryError(
                f"No gallery was found: {database} doesn't exist.", "Make one with `sil index-gallery IMAGES`."
            ) from error

    def _present_tables(self) -> Tables:
        """The database, open for reading and of the present format."""
        tables = Tables(self.folder, write=False)
        try:
            if tables.format() == FORMAT:
                return tables
        except BaseException:
            tables.close()
            raise
        tables.close()
        with (
            writer_lock(
                self.folder,
                while_held="It is of an older version: wait until the writer is done and has brought it up to date.",
                elsewhere="It is of an older version: copy it to where it can be written and brought up to date.",
            ),
            self._tables_to_write() as to_write,
        ):
            to_write.migrate()
        return Tables(self.folder, write=False)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with writer_lock(
            self.folder,
            while_held="Wait until it is done; searching goes on meanwhile.",
            elsewhere="Choose another folder with --gallery DIR.",
        ):
            for name in _WRITTEN:
                refuse_links(self.folder / name, within=self.folder)
            database = self.folder / DATABASE_FILE
            if database.is_file() and database.stat().st_nlink > 1:
                raise GalleryError(
                    f"{database} has another name elsewhere (a hard link): writing here would change that file, too.",
                    f"Make it a file of its own: cp {quoted(database)} {quoted(database)}.own && "
                    f"mv {quoted(database)}.own {quoted(database)}",
                )
            for beside in (rebuilding_folder(self.folder), superseded_folder(self.folder)):
                refuse_links(beside, within=beside.parent)
            finish_swap(self.folder)
            yield

    @contextlib.contextmanager
    def _tables_to_write(self) -> Iterator[Tables]:
        tables = Tables(self.folder, write=True)
        try:
            yield tables
        finally:
            tables.close()

    def _require_gallery_or_nothing(self) -> None:
        """Make the folder, and refuse one that holds other things."""
        folder = self.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            names = {path.name for path in folder.iterdir()}
        except OSError as error:
            raise GalleryError(
                f"{folder} can't be used as a gallery: {one_line(error)}.", "Choose another --gallery DIR."
            ) from error
        if DATABASE_FILE not in names and names - {LOCK_FILE, VECTOR_FOLDER}:
            raise GalleryError(
                f"{folder} is not a gallery, and not empty.", "Choose a new or empty folder with --gallery DIR."
            )
        if DATABASE_FILE not in names and knows_none(folder, [], 0):
            raise GalleryError(
                f"{folder} has files of vectors, but {DATABASE_FILE} is missing.",
                "Put it back, or choose a new or empty folder with --gallery DIR.",
            )

    def _is_of(self, fingerprint: str) -> bool:
        """Whether there is a gallery of this model."""
        try:
            with self.open() as gallery:
                return bool(gallery.model["fingerprint"] == fingerprint)
        except SilError:
            return False


class LocalRebuild(GalleryRebuild):
    """A gallery and the new one beside it, which is to take its place; nobody else can write to either meanwhile.

    The new gallery grows in a folder beside, `.NAME.rebuilding`, by whole batches, so a kill costs at most one batch;
    the old gallery stays as it is and can be searched. When everything is there, the old one is renamed to
    `.NAME.superseded` and the new one to `NAME`; then the old one is deleted. Whoever finds no folder `NAME` between
    the two renames, after a kill or in that very moment, does the second one.
    """

    def __init__(self, old: LocalGallery, new: LocalWriter) -> None:
        super().__init__(old, new, new.folder)
        self._old, self._new = old, new

    def swap(self) -> None:
        """Put the new gallery in the old one's place; other people's files in it stay where they are.

        Raises:
            GalleryError: The file system can't do that.
        """
        with holding_still(self.old.folder):
            self._swap()

    def _swap(self) -> None:
        self._new.adopt_removals(self.old.removals())
        self._new.use_up_ids(self._old.last_id())
        self._new.finish()
        self._new.close()
        target = self.old.folder.resolve()
        old = superseded_folder(target)
        for name in (*OF_A_LOG, POLICY_FILE):  # as the same files: whoever waits to write to the log goes on with it
            carry(target / name, self._new.folder / name)
        try:
            target.rename(old)
        except OSError as error:
            raise GalleryError(
                f"{target} can't be replaced: {one_line(error)}.",
                f"The new gallery is complete in {self.folder}: move it by hand while nobody is searching.",
            ) from error
        rename_back(target)
        sync_folder(target.parent)


def carry(path: Path, to: Path) -> None:
    """Give a file another name, beside the one that it has; nothing where there is none."""
    to.unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.link(path, to, follow_symlinks=False)


def superseded_folder(folder: Path) -> Path:
    """Where the gallery is whose place a rebuilt one took, until it is deleted."""
    whole = folder.resolve()
    return whole.with_name(f".{whole.name}.superseded")


def rename_back(folder: Path) -> None:
    """Where there is no gallery because a rebuilt one is about to take its place, let it; anybody may do that."""
    target = folder.resolve()
    if not target.exists() and (superseded_folder(target) / DATABASE_FILE).exists():
        with contextlib.suppress(OSError):  # somebody else was quicker
            rebuilding_folder(target).rename(target)


def finish_swap(folder: Path) -> None:
    """Delete the gallery whose place a rebuilt one took; for the only writer. What else lay in its folder is moved."""
    old = superseded_folder(folder)
    if not (old / DATABASE_FILE).is_file():
        return
    for path in old.iterdir():
        if path.name not in MADE_AGAIN and not is_half_made(path.name) and not (folder / path.name).exists():
            path.rename(folder / path.name)
    delete_gallery(old)
