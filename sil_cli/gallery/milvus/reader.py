"""A gallery on Milvus as its readers see it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import override

from sil_cli.gallery.interface import Gallery, GalleryContent
from sil_cli.gallery.milvus.expressions import EVERYTHING, PathPatterns, equal, expression
from sil_cli.gallery.milvus.rows import ENTRY_FIELDS, FORMAT, INSTANT, METADATA, NO_TIME, VECTOR, entry_of, members_of
from sil_cli.gallery.milvus.searching import MilvusSearcher, sample_ids, search_among
from sil_cli.gallery.results import GalleryInfo

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence, Set

    from numpy.typing import NDArray

    from sil_cli.gallery.entry import GalleryEntry, Member
    from sil_cli.gallery.filters import Filter
    from sil_cli.gallery.interface import Ranked
    from sil_cli.gallery.milvus.collection import Consistency
    from sil_cli.gallery.milvus.generation import Generation
    from sil_cli.gallery.milvus.indexes import IndexKind
    from sil_cli.gallery.results import Removal

COUNTED_UP_TO = 1_000_000
"""Entries that are read through to count cameras and people; Milvus can't count distinct values itself."""

_QUERIES_AT_ONCE = 64


class MilvusContent(GalleryContent):
    """What readers and writers of a collection share.

    Attributes:
        generation: The gallery's collections.
    """

    consistency: Consistency = "Strong"

    def __init__(self, folder: Path, generation: Generation) -> None:
        super().__init__(folder, generation.connection.address.name, generation.model)
        self.generation = generation
        self._collection = generation.collection
        self._catalogue = generation.catalogue

    @override
    def metadata_keys(self) -> list[str]:
        return self._catalogue.values("key")

    @override
    def ids(self) -> NDArray[np.int64]:
        return self._ids_fulfilling(EVERYTHING)

    @override
    def _ids_passing(self, where: Filter) -> NDArray[np.int64]:
        condition = expression(where)
        if not where.paths:
            return self._ids_fulfilling(condition)
        with closing(PathPatterns(where)) as patterns:
            found = [
                row["id"]
                for part in self._collection.parts(condition, ["path", "members"])
                for row in part
                if patterns.match([row["path"], *(path for _, path, _ in members_of(row["members"]))])
            ]
        return np.sort(np.array(found, dtype=np.int64))

    def _ids_fulfilling(self, condition: str) -> NDArray[np.int64]:
        """The ids of all rows that fulfil a condition, ascending."""
        parts = self._collection.parts(condition, [])
        return np.sort(np.array([row["id"] for part in parts for row in part], dtype=np.int64))

    @override
    def entries(self, ids: Sequence[int]) -> dict[int, GalleryEntry]:
        rows = self._collection.rows(ids, ENTRY_FIELDS, consistency=self.consistency)
        return {one: entry_of(row) for one, row in rows.items()}

    @override
    def vectors(self, ids: Sequence[int]) -> NDArray[np.float32]:
        rows = self._collection.rows(sorted(set(ids)), [VECTOR])
        self._require_all(ids, rows.keys())
        found = np.array([rows[one][VECTOR] for one in ids], dtype=np.float32)
        return found.reshape(len(ids), self.dimension)


class MilvusGallery(MilvusContent, Gallery):
    """What others write while it is open may be seen or not; nothing else differs from a local gallery."""

    consistency: Consistency = "Bounded"

    def __init__(self, folder: Path, generation: Generation, *, owns: bool = True) -> None:
        """Look at a collection; `owns` closes its connection with the gallery."""
        super().__init__(folder, generation)
        self._owns = owns
        self._count = self._collection.count()  # Strong: from here on, searches see what had been written before
        self._kind, effort, self._measured = generation.index()
        self._searcher = MilvusSearcher(self._collection, self._kind, total=self._count, effort=effort)

    @override
    def __len__(self) -> int:
        return self._count

    @override
    def close(self) -> None:
        if self._owns:
            self.generation.connection.close()

    @override
    def describe_index(self) -> str:
        return _in_words(self._kind, self._measured)

    @override
    def requested_index(self) -> str:
        return self._catalogue.requested_index()

    @override
    def info(self) -> GalleryInfo:
        """All that can be said of it; counts only where there are few enough entries to read them all."""
        known: dict[str, Any] = {"metadata": self.metadata_keys()}
        if self._count <= COUNTED_UP_TO:
            cameras, identities, used, times = set(), set(), set(), []
            for part in self._collection.parts(EVERYTHING, ["camera", "identity", "time", INSTANT, METADATA]):
                cameras |= {row["camera"] for row in part if row["camera"]}
                identities |= {row["identity"] for row in part if row["identity"]}
                used |= {key for row in part for key in row[METADATA]}
                dated = [(row[INSTANT], row["time"]) for row in part if row[INSTANT] != NO_TIME]
                times += [min(dated), max(dated)] if dated else []
            known = {"cameras": len(cameras), "identities": len(identities), "metadata": sorted(used)}
            if times:
                known |= {"earliest": min(times)[1], "latest": max(times)[1]}
        return GalleryInfo(
            gallery=self.folder,
            store=self.name,
            format=FORMAT,
            entries=self._count,
            dimension=self.dimension,
            index=self.describe_index(),
            wished_index=self.requested_index(),
            files=1,
            model=self.model["fingerprint"],
            removals=self.removals(),
            **known,
        )

    @override
    def count_passing(self, where: Filter) -> int:
        if where.paths:
            return len(self.ids_passing(where))
        self._require_known_keys(where)
        return self._collection.count(expression(where), consistency="Bounded")

    @override
    def ids_of_content(self, content_hash: str) -> frozenset[int]:
        return frozenset(self._ids_fulfilling(equal("content_hash", content_hash)).tolist())

    @override
    def _ids_to_sample(self, count: int) -> NDArray[np.int64]:
        return sample_ids(self._collection, self._count, count, seed=0)

    @override
    def removals(self) -> list[Removal]:
        return self._catalogue.removals()

    @override
    def known_values(self, key: str, limit: int = 50) -> list[str]:
        if key in ("camera", "source"):
            return self._catalogue.values("camera" if key == "camera" else "source")[:limit]
        column = key if key in ENTRY_FIELDS and key != METADATA else None
        rows = self._collection.some(EVERYTHING, [column or METADATA], 1_000, consistency="Bounded")
        values = {row[column] if column else row[METADATA].get(key, "") for row in rows}
        return sorted(values - {""})[:limit]

    @override
    def members(self, ids: Sequence[int]) -> dict[int, list[Member]]:
        rows = self._collection.rows(ids, ["members"], consistency="Bounded")
        return {one: members_of(row["members"]) for one, row in rows.items() if row["members"]}

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
        condition, ids = EVERYTHING, None
        if where is not None and where.paths:
            ids = self.ids_passing(where)  # which a condition can't say
        elif where is not None:
            self._require_known_keys(where)
            condition = expression(where)
        found: list[Ranked] = []
        for start in range(0, len(queries), _QUERIES_AT_ONCE):
            part = slice(start, start + _QUERIES_AT_ONCE)
            if ids is None:
                found += self._searcher.search(queries[part], k, condition, exclude[part], exact=exact)
            else:
                found += search_among(self._searcher, queries[part], k, ids, exclude[part])
        return found


def _in_words(kind: IndexKind, measured: Mapping[str, Any] | None) -> str:
    if not kind.cells:
        return "exact (Milvus FLAT, inner product of unit float32 vectors)"
    if measured is None:
        return f"{kind} in every segment, searched exactly"
    return f"{kind} in every segment (nprobe {measured['effort']}, recall@10 {measured['recall']:.4f} measured)"
