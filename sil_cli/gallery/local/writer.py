"""Filling a gallery so that a kill or a full disk at any moment leaves it whole.

A batch is first written as a new file of vectors, flushed and renamed into place; then one SQLite transaction
makes the file and its entries count. A kill before that leaves a file that nobody names, but that is marked as being
written: the next writer deletes it. A kill after it leaves a finished batch. `vector_files.py` has the files,
`store.py` the database.
"""

from __future__ import annotations

import contextlib
import shutil
from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from sil_cli.errors import GalleryError
from sil_cli.gallery.filters import Filter
from sil_cli.gallery.local import tuning
from sil_cli.gallery.local.gallery import require_known_keys, require_same_model
from sil_cli.gallery.local.health import repair_files
from sil_cli.gallery.local.schema import AUTOMATIC
from sil_cli.gallery.local.set_aside import delete_aside, require_own
from sil_cli.gallery.local.tables import DATABASE_FILE, Tables
from sil_cli.gallery.local.vector_files import VectorFiles
from sil_cli.gallery.local.vector_search import Searcher
from sil_cli.gallery.paths import delete_superseded, rebuilding_folder
from sil_cli.gallery.validation import require_batch, require_gallery_or_nothing
from sil_cli.locks import writer_lock
from sil_cli.similarity.distance import unit_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from sil_cli.data.images import Box
    from sil_cli.gallery.entry import EntryKey, GalleryEntry, Member
    from sil_cli.gallery.local.approximate import ApproximateIndex
    from sil_cli.gallery.local.health import Repaired
    from sil_cli.gallery.local.records import IndexRecord
    from sil_cli.gallery.local.tuning import Measured
    from sil_cli.runtime import Reporter


@contextlib.contextmanager
def gallery_writer(folder: Path, model: Mapping[str, Any]) -> Iterator[LocalWriter]:
    """Open a gallery for writing, or make it, as its only writer.

    Args:
        folder: The gallery; made when missing.
        model: The record of the model (JSON values), with at least `fingerprint` (str) and `dimension` (int).

    Raises:
        SilError: The gallery was made by another model, another process writes to it, the folder holds
            something else or can't be written, or the gallery is damaged.
    """
    require_gallery_or_nothing(folder)
    with _locked(folder) as store:
        if store.is_made():
            store.migrate()
        else:
            require_own(folder, [])
            store.make(dict(model), AUTOMATIC)
        require_same_model(folder, folder, store.meta()["model"], model["fingerprint"])
        writer = LocalWriter(folder, store)
        writer.delete_leftovers()
        yield writer


@contextlib.contextmanager
def existing_writer(folder: Path) -> Iterator[LocalWriter]:
    """Open a gallery that is there for writing, whatever its model, as its only writer.

    Raises:
        SilError: There is none, another process writes to it, it can't be written, or it is damaged.
    """
    if not (folder / DATABASE_FILE).is_file():
        raise GalleryError(f"There is no gallery in {folder}.", "Make one with `sil index-gallery IMAGES`.")
    with _locked(folder) as store:
        store.migrate()
        writer = LocalWriter(folder, store)
        writer.delete_leftovers()
        yield writer


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[Tables]:
    with writer_lock(
        folder,
        while_held="Wait until it is done; searching goes on meanwhile.",
        elsewhere="Choose another folder with --gallery DIR.",
    ):
        delete_superseded(folder)
        store = Tables(folder, write=True)
        try:
            yield store
        finally:
            store.close()


class LocalWriter:
    """Adds to, replaces in and removes from a gallery; use `gallery_writer` to get one.

    Attributes:
        dimension: The embeddings' length.
        set_aside: Where the files of vectors are now that nothing explained.
    """

    def __init__(self, folder: Path, store: Tables) -> None:
        self.set_aside: list[Path] = []
        self._folder = folder
        self._store = store
        self.dimension = int(store.meta()["model"]["dimension"])
        self._files = VectorFiles(folder, store, self.dimension)

    def __len__(self) -> int:
        return self._store.count()

    def close(self) -> None:
        """Let go of the database, before its folder is moved; nothing can be written afterwards."""
        self._store.close()

    @property
    def model(self) -> Mapping[str, Any]:
        """The record of the model that the gallery belongs to."""
        model: Mapping[str, Any] = self._store.meta()["model"]
        return model

    def known(self, source: str, paths: Sequence[str]) -> dict[tuple[str, Box | None], str]:
        """What the gallery has of these image files of `source`: the SHA-256 of each (path, box)."""
        return self._store.known(source, paths)

    def sources(self) -> list[str]:
        """The folders and data sets that entries came from."""
        return self._store.sources()

    def entries_at(self, source: str, paths: Sequence[str]) -> dict[int, GalleryEntry]:
        """The entries of these image files of `source`, by id."""
        return self._store.entries_at(source, paths)

    def held(self, keys: Sequence[EntryKey]) -> dict[EntryKey, tuple[int, GalleryEntry]]:
        """Those of these entries that the gallery holds, each with its id."""
        paths: defaultdict[str, list[str]] = defaultdict(list)
        for source, path, _ in keys:
            paths[source].append(path)
        found = {
            entry.key: (identifier, entry)
            for source, some in paths.items()
            for identifier, entry in self._store.entries_at(source, some).items()
        }
        return {key: found[key] for key in keys if key in found}

    def entries_of(self, source: str) -> Iterator[tuple[int, GalleryEntry]]:
        """All entries of a source with their ids, read some at a time."""
        return self._store.entries_of(source)

    def describe(self, entries: Mapping[int, GalleryEntry]) -> None:
        """Write anew what is known (identity, camera, time, …) of images whose vectors stay, by id."""
        with self._store.transaction():
            self._store.describe_entries(entries)

    def add(
        self,
        entries: Sequence[GalleryEntry],
        embeddings: NDArray[np.floating],
        *,
        ids: NDArray[np.int64] | None = None,
        members: Sequence[Sequence[Member]] = (),
    ) -> None:
        """Add one batch, wholly or not at all; an entry of the same source, path and box is replaced.

        When this returns, the batch is on the disk and survives a kill.

        Args:
            entries: N of them, no two of the same source, path and box.
            embeddings: Shape (N, D), of any length but zero.
            ids: For each entry an id from 1 on that the gallery never gave, ascending; None for the next ones.
            members: For each entry the images of whose embeddings it is the mean; none for an entry of one image.

        Raises:
            GalleryError: The batch doesn't fit together or to the gallery, or can't be written.
            DataError: An embedding is NaN or all zeros.
        """
        if not len(entries):
            return
        require_batch(entries, embeddings, members, self.dimension)
        units = unit_rows(embeddings.astype(np.float32, copy=False), what="gallery")
        first_id, number = self._store.next_numbers()
        if ids is None:
            ids = np.arange(first_id, first_id + len(entries), dtype=np.int64)
        sha256, seen = self._files.write(number, ids, units)
        with self._store.transaction():
            self._store.insert_segment(number, sha256, seen, len(ids))
            self._store.insert_entries(ids.tolist(), entries, number)
            if members:
                self._store.insert_members(dict(zip(ids.tolist(), members, strict=True)))
        self._files.settle(number)

    def remove_paths(self, source: str, paths: Sequence[str]) -> int:
        """Remove the entries of these image files of `source`; returns how many there were.

        They are found no more from this moment; `finish` deletes their vectors from the disk.
        """
        with self._store.transaction():
            return self._store.delete_paths(source, paths)

    def ids_passing(self, wanted: Filter) -> NDArray[np.int64]:
        """The ids of all entries that pass a filter, ascending.

        Raises:
            GalleryError: It asks for metadata of a name that no entry has.
        """
        require_known_keys(self._store, wanted)
        return self._store.ids_matching(wanted)

    def remove(self, ids: Sequence[int], criterion: str) -> int:
        """Remove entries, and log how many without saying which; returns that number.

        They are found no more from this moment; `compact` deletes every trace of them from the gallery's files.

        Args:
            ids: The entries'; unknown ones are passed over.
            criterion: Why, free of personal data: the kinds of what they were chosen by.
        """
        with self._store.transaction():
            removed = self._store.delete_ids(ids)
            self._store.log_removal(datetime.now(UTC), removed, criterion)
        return removed

    def compact(self) -> bool:
        """Merge files and delete every trace of removed entries: their vectors, their rows, their mark in an index.

        What is set aside goes too, for it may hold their vectors. An index that holds a removed vector is dropped;
        `tuning.refresh_index` builds it anew.

        Returns:
            Whether that is complete: a reader that still looks at an older state keeps the database's log alive.
        """
        self.finish()
        shutil.rmtree(rebuilding_folder(self._folder), ignore_errors=True)  # may hold what was removed since it began
        index = self._store.index()
        if index is not None and self.count_up_to(index.last_id) != index.count:
            self.put_index(None)
        delete_aside(self._folder)
        return self._store.shrink()

    def repair(self, *, trust: bool) -> Repaired:
        """Drop what is broken and keep all else; see `health.repair_files`."""
        repaired = repair_files(self._folder, self._store, trust=trust)
        self.delete_leftovers()
        repaired.set_aside += self.set_aside
        return repaired

    def ids(self) -> NDArray[np.int64]:
        """The ids of all entries, ascending."""
        return self._store.ids_matching(Filter())

    def entries(self, ids: Sequence[int]) -> dict[int, GalleryEntry]:
        """The entries of the given ids; an unknown id is left out."""
        return self._store.entries(ids)

    def adopt_history(self, removals: Sequence[tuple[str, int, str]], last_id: int) -> None:
        """Take over the log of removals of the gallery that this one replaces, and never give its ids again."""
        with self._store.transaction():
            self._store.use_up_ids(last_id)
            self._store.replace_removals(removals)

    def vectors(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """The embeddings of the given entries, shape (N, D), of unit length; every id must be there.

        Raises:
            GalleryError: A file is damaged or missing.
        """
        return self.searcher(None).vectors(np.array(ids, dtype=np.int64))

    def adopt_removals(self, removals: Sequence[tuple[str, int, str]]) -> None:
        """Put another gallery's log of removals in the place of this one."""
        with self._store.transaction():
            self._store.replace_removals(removals)

    def refresh_index(self, reporter: Reporter, *, wished: str | None = None) -> None:
        """As `tuning.refresh_index`."""
        tuning.refresh_index(self, reporter, wished=wished)

    def tune(self, reporter: Reporter, *, recall: float, factories: Sequence[str]) -> tuple[list[Measured], Measured]:
        """As `tuning.tune`."""
        return tuning.tune(self, reporter, recall=recall, factories=factories)

    def wished_index(self) -> str:
        """`auto`, `exact`, or FAISS's name of the index that the user wants."""
        return str(self._store.meta()["index"])

    def choose_index(self, wished: str) -> None:
        """Remember which index the user wants."""
        with self._store.transaction():
            self._store.choose_index(wished)

    def index(self) -> IndexRecord | None:
        """What is recorded of the approximate index; None where there is none."""
        return self._store.index()

    def read_index(self, record: IndexRecord) -> ApproximateIndex:
        """The approximate index itself.

        Raises:
            GalleryError: It is missing or damaged.
        """
        return self._files.read_index(record)

    def put_index(self, index: ApproximateIndex | None, *, effort: int = 0, recall: float = 1.0) -> None:
        """Make an index of all living vectors count, in the place of any other; None for none."""
        record = self._files.write_index(index, effort=effort, recall=recall) if index is not None else None
        old = self._store.index()
        self._files.give_up([old.name] if old is not None else [])
        with self._store.transaction():
            self._store.replace_index(record)
        self.delete_leftovers()

    def count_up_to(self, last_id: int) -> int:
        """How many living entries have an id up to this one."""
        return self._store.count_up_to(last_id)

    def searcher(self, index: ApproximateIndex | None, *, without: NDArray[np.int64] | None = None) -> Searcher:
        """All living vectors as they are now, to search in, with an index over all of them.

        Args:
            index: The index, None for exact search.
            without: Ids to leave out, as the index does.

        Raises:
            GalleryError: A file is damaged or missing.
        """
        parts = self._files.living(self._store.segments())
        if without is not None and len(without):
            parts = [
                (segment, np.isin(segment.ids, without, invert=True) & (True if living is None else living))
                for segment, living in parts
            ]
        return Searcher(parts, index, last_id=int(index.ids.max()) if index is not None and len(index) else 0)

    def finish(self) -> None:
        """Merge small files of vectors, and those with dead vectors, into few whole ones.

        Raises:
            GalleryError: A file is damaged, or the disk is full; the gallery stays as it was.
        """
        self._files.merge()

    def delete_leftovers(self) -> None:
        """Delete the files that no finished batch needs, and set those aside that nothing explains.

        Raises:
            GalleryError: The database most likely is another gallery's; nothing was changed.
        """
        self.set_aside += self._files.delete_leftovers()
