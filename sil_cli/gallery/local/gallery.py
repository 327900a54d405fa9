"""The gallery of one machine as its readers see it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from typing_extensions import override

from sil_cli.gallery.interface import Gallery
from sil_cli.gallery.local.schema import FORMAT
from sil_cli.gallery.local.segments import INDEX_KIND
from sil_cli.gallery.local.vector_files import naming_missing_files, read_index, read_living
from sil_cli.gallery.local.vector_search import Searcher
from sil_cli.gallery.results import GalleryInfo

if TYPE_CHECKING:
    from collections.abc import Sequence, Set

    from numpy.typing import NDArray

    from sil_cli.gallery.entry import GalleryEntry, Member
    from sil_cli.gallery.filters import Filter
    from sil_cli.gallery.interface import Ranked
    from sil_cli.gallery.local.schema import IndexRecord, SegmentRecord
    from sil_cli.gallery.local.tables import Tables
    from sil_cli.gallery.results import Removal

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
