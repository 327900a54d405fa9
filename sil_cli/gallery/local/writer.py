"""Filling a gallery so that a kill or a full disk at any moment leaves it whole.

A batch is first written as a new file of vectors, flushed and renamed into place; then one SQLite transaction
makes the file and its entries count. A kill before that leaves a file that nobody names: the next writer deletes it.
A kill after it leaves a finished batch. `vector_files.py` has the files, `tables.py` the database.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from typing_extensions import override

from sil_cli.errors import quoted
from sil_cli.gallery.filters import Filter
from sil_cli.gallery.interface import GalleryWriter, rebuilding_folder
from sil_cli.gallery.local.health import Repair
from sil_cli.gallery.local.set_aside import delete_aside, delete_gallery
from sil_cli.gallery.local.tuning import GalleryIndex
from sil_cli.gallery.local.vector_files import VectorFiles
from sil_cli.gallery.results import Removal, RepairResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from sil_cli.gallery.entry import EntryKey, GalleryEntry, Member
    from sil_cli.gallery.local.tables import Tables
    from sil_cli.gallery.results import MeasuredIndex
    from sil_cli.runtime import Reporter


class LocalWriter(GalleryWriter):
    """The only writer of a gallery; `LocalStore` opens one.

    Attributes:
        index: Its approximate index.
    """

    def __init__(self, folder: Path, tables: Tables) -> None:
        super().__init__(folder, str(folder), tables.meta()["model"])
        self._tables = tables
        self._files = VectorFiles(folder, tables, self.dimension)
        self.index = GalleryIndex(tables, self._files, self.dimension)
        self._set_aside: list[Path] = []
        self.delete_leftovers()

    @override
    def __len__(self) -> int:
        return self._tables.count()

    def close(self) -> None:
        """Close the database before its folder is moved; nothing can be written afterwards."""
        self._tables.close()

    @property
    @override
    def set_aside(self) -> Sequence[Path]:
        return self._set_aside

    @override
    def sources(self) -> list[str]:
        return self._tables.sources()

    @override
    def metadata_keys(self) -> list[str]:
        return self._tables.metadata_keys()

    @override
    def existing(self, keys: Sequence[EntryKey]) -> dict[EntryKey, tuple[int, GalleryEntry]]:
        paths: defaultdict[str, list[str]] = defaultdict(list)
        for source, path, _ in keys:
            paths[source].append(path)
        found = {
            entry.key: (identifier, entry)
            for source, some in paths.items()
            for identifier, entry in self._tables.entries_at(source, some).items()
        }
        return {key: found[key] for key in keys if key in found}

    @override
    def entries_of(self, source: str) -> Iterator[tuple[int, GalleryEntry]]:
        return self._tables.entries_of(source)

    @override
    def ids(self) -> NDArray[np.int64]:
        return self._tables.ids_matching(Filter())

    @override
    def _ids_passing(self, where: Filter) -> NDArray[np.int64]:
        return self._tables.ids_matching(where)

    @override
    def entries(self, ids: Sequence[int]) -> dict[int, GalleryEntry]:
        return self._tables.entries(ids)

    @override
    def vectors(self, ids: Sequence[int]) -> NDArray[np.float32]:
        searcher = self.index.searcher(None)
        self._require_all(ids, searcher.ids())
        return searcher.vectors(np.array(ids, dtype=np.int64)).reshape(len(ids), self.dimension)

    @override
    def add(
        self,
        entries: Sequence[GalleryEntry],
        embeddings: NDArray[np.floating],
        *,
        members: Sequence[Sequence[Member]] = (),
        ids: Sequence[int] | None = None,
    ) -> None:
        if not len(entries):
            return
        units = self._unit_batch(entries, embeddings, members)
        if ids is None:
            first = self._tables.last_number("entries") + 1
            ids = range(first, first + len(entries))
        segment = self._files.write(np.array(ids, dtype=np.int64), units)
        with self._tables.transaction():
            self._tables.insert_segment(segment)
            self._tables.insert_entries(ids, entries, segment.number)
            if members:
                self._tables.insert_members(dict(zip(ids, members, strict=True)))

    @override
    def describe(self, entries: Mapping[int, GalleryEntry]) -> None:
        with self._tables.transaction():
            self._tables.describe_entries(entries)

    @override
    def remove(self, ids: Sequence[int], criterion: str) -> int:
        with self._tables.transaction():
            removed = self._tables.delete_ids(ids)
            self._tables.log_removal(Removal(datetime.now(UTC).isoformat(timespec="seconds"), removed, criterion))
        return removed

    @override
    def adopt_removals(self, removals: Sequence[Removal]) -> None:
        with self._tables.transaction():
            self._tables.replace_removals(removals)

    def use_up_ids(self, last: int) -> None:
        """Never give an id up to `last` to a new entry."""
        with self._tables.transaction():
            self._tables.use_up("entries", last)

    @override
    def finish(self) -> None:
        self._files.merge()
        self.delete_leftovers()

    @override
    def compact(self) -> bool:
        """Merge files and delete every trace of removed entries: their vectors, their rows, their mark in an index.

        What is set aside goes too, for it may hold their vectors. An index that holds a removed vector is dropped;
        `refresh_index` builds it again.

        Returns:
            Whether that is complete: a reader that still looks at an older state keeps the database's log alive.
        """
        self.finish()
        delete_gallery(rebuilding_folder(self.folder))  # may hold what was removed since it began
        self.index.drop_if_it_holds_removed()
        self.delete_leftovers()
        delete_aside(self.folder)
        return self._tables.shrink()

    @override
    def repair(self, reporter: Reporter, *, trust: bool) -> RepairResult:
        repair = Repair(self.folder, self._tables, trust=trust)
        self.finish()
        if repair.index_rebuilt:
            self.refresh_index(reporter)
        sources = sorted({Path(self.folder, one.source).resolve() for one in repair.lost})
        return RepairResult(
            gallery=self.folder,
            files=repair.files,
            set_aside=[*repair.set_aside, *self.set_aside],
            lost=repair.lost,
            again=[f"sil index-gallery {quoted(source)} --gallery {quoted(self.folder)}" for source in sources],
            index_rebuilt=repair.index_rebuilt,
            database_mended=repair.database_mended,
            entries=len(self),
        )

    @override
    def refresh_index(self, reporter: Reporter, *, requested: str | None = None) -> None:
        self.index.refresh(reporter, requested=requested)
        self.delete_leftovers()

    @override
    def tune(
        self, reporter: Reporter, *, recall: float, factories: Sequence[str]
    ) -> tuple[list[MeasuredIndex], MeasuredIndex]:
        found = self.index.tune(reporter, recall=recall, factories=factories)
        self.delete_leftovers()
        return found

    def delete_leftovers(self) -> None:
        """Delete the files that no finished batch needs, and set those aside that the database can't know.

        Raises:
            GalleryError: The database most likely is another gallery's; nothing was changed.
        """
        self._set_aside += self._files.delete_leftovers()
