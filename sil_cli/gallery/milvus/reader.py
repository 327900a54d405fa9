"""A gallery on Milvus as its readers see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sil_cli.errors import GalleryError
from sil_cli.gallery.entry import make_match
from sil_cli.gallery.filters import Filter
from sil_cli.gallery.local.gallery import GalleryInfo, GallerySummary, require_known_keys, require_same_model
from sil_cli.gallery.milvus.expressions import EVERYTHING, PathPatterns, both, equal, expression
from sil_cli.gallery.milvus.rows import ENTRY_FIELDS, INSTANT, METADATA, NO_TIME, VECTOR, entry_of, members_of
from sil_cli.gallery.milvus.searching import MilvusSearcher, sample_ids, search_among
from sil_cli.similarity.distance import unit_rows

if TYPE_CHECKING:
    from collections.abc import Collection as AnyCollection
    from collections.abc import Mapping, Sequence, Set
    from pathlib import Path

    from numpy.typing import NDArray

    from sil_cli.gallery.entry import GalleryEntry, Match, Member
    from sil_cli.gallery.local.vector_search import Ranked
    from sil_cli.gallery.milvus.generation import Generation
    from sil_cli.gallery.milvus.indexes import IndexKind

COUNTED_UP_TO = 1_000_000
"""Entries that are read through to count cameras and people; Milvus can't count distinct values itself."""

_QUERIES_AT_ONCE = 64


class MilvusGallery:
    """An open gallery on Milvus; a `GalleryReader`.

    What others write while it is open may be seen or not; nothing else differs from a local gallery.
    """

    def __init__(self, folder: Path, generation: Generation, *, owns: bool = True) -> None:
        """Look at a collection; `owns` closes its connection with the gallery."""
        self.folder = folder
        self.name = generation.connection.address.name
        self.model: Mapping[str, Any] = generation.model
        self.generation = generation
        self._collection = generation.collection
        self._owns = owns
        self._count = self._collection.count()  # Strong: from here on, searches see what had been written before
        self._kind, effort, self._measured = generation.index()
        self._searcher = MilvusSearcher(self._collection, self._kind, total=self._count, effort=effort)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self._count

    def close(self) -> None:
        """Let go of the server."""
        if self._owns:
            self.generation.connection.close()

    @property
    def dimension(self) -> int:
        """The embeddings' length."""
        return int(self.model["dimension"])

    def info(self) -> GalleryInfo:
        """What the gallery is."""
        return GalleryInfo(
            self.folder, self._count, self.dimension, _in_words(self._kind, self._measured), 1, self.model
        )

    def summary(self) -> GallerySummary:
        """What its entries are; counts only where there are few enough entries to read them all."""
        catalogue = self.generation.catalogue
        wished, keys = catalogue.wished_index(), catalogue.values("key")
        if self._count > COUNTED_UP_TO:
            return GallerySummary(wished, None, None, None, None, keys)
        cameras, identities, used, times = set(), set(), set(), []
        for part in self._collection.parts(EVERYTHING, ["camera", "identity", "time", INSTANT, METADATA]):
            cameras |= {row["camera"] for row in part if row["camera"]}
            identities |= {row["identity"] for row in part if row["identity"]}
            used |= {key for row in part for key in row[METADATA]}
            dated = [(row[INSTANT], row["time"]) for row in part if row[INSTANT] != NO_TIME]
            times += [min(dated), max(dated)] if dated else []
        first, last = (min(times)[1], max(times)[1]) if times else (None, None)
        return GallerySummary(wished, len(cameras), len(identities), first, last, sorted(used))

    def require_model(self, fingerprint: str) -> None:
        """Refuse a query of another model, whose embeddings mean something else."""
        require_same_model(self.name, self.folder, self.model, fingerprint)

    def ids(self) -> NDArray[np.int64]:
        """The ids of all entries, ascending."""
        return self._ids(EVERYTHING)

    def ids_passing(self, wanted: Filter) -> NDArray[np.int64]:
        """The ids of all entries that pass a filter, ascending.

        Raises:
            GalleryError: It asks for metadata of a name that no entry has.
        """
        require_known_keys(self.generation, wanted)
        return ids_passing(self.generation, wanted)

    def count_passing(self, wanted: Filter) -> int:
        """How many entries pass a filter.

        Raises:
            GalleryError: It asks for metadata of a name that no entry has.
        """
        if wanted.paths:
            return len(self.ids_passing(wanted))
        require_known_keys(self.generation, wanted)
        return self._collection.count(expression(wanted), consistency="Bounded")

    def ids_of_content(self, content_hash: str) -> frozenset[int]:
        """The ids of all entries whose image file has this SHA-256."""
        return frozenset(self._ids(equal("content_hash", content_hash)).tolist())

    def sample(self, count: int) -> list[int]:
        """The ids of so many entries at random, the same ones each time; of all where there are fewer."""
        ids = sample_ids(self._collection, self._count, count, seed=0)
        chosen: list[int] = np.random.default_rng(0).permutation(ids)[:count].tolist()
        return chosen

    def removals(self) -> list[tuple[str, int, str]]:
        """Time, count and kinds of criteria of all removals, oldest first."""
        return self.generation.catalogue.removals()

    def known_values(self, key: str, limit: int = 50) -> list[str]:
        """Some values that entries have for a column or a key of metadata."""
        if key in ("camera", "source"):
            return self.generation.catalogue.values("camera" if key == "camera" else "source")[:limit]
        column = key if key in ENTRY_FIELDS and key != METADATA else None
        rows = self._collection.some(EVERYTHING, [column or METADATA], 1_000, consistency="Bounded")
        values = {row[column] if column else row[METADATA].get(key, "") for row in rows}
        return sorted(values - {""})[:limit]

    def entries(self, ids: Sequence[int]) -> dict[int, GalleryEntry]:
        """The entries of the given ids; an unknown id is left out."""
        rows = self._collection.rows(ids, ENTRY_FIELDS, consistency="Bounded")
        return {one: entry_of(row) for one, row in rows.items()}

    def members(self, ids: Sequence[int]) -> dict[int, list[Member]]:
        """The images of whose embeddings entries are the mean; entries of one image are left out."""
        rows = self._collection.rows(ids, ["members"], consistency="Bounded")
        return {one: members_of(row["members"]) for one, row in rows.items() if row["members"]}

    def vectors(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """The embeddings of the given entries, shape (N, D), of unit length.

        Raises:
            GalleryError: There is no such entry.
        """
        rows = self._collection.rows(sorted(set(ids)), [VECTOR])
        unknown = next((one for one in ids if one not in rows), None)
        if unknown is not None:
            raise GalleryError(f"{self.name} has no entry {unknown}.", "Take the id from a match of this gallery.")
        found = np.array([rows[one][VECTOR] for one in ids], dtype=np.float32)
        return found.reshape(len(ids), self.dimension)

    def search(
        self,
        embeddings: NDArray[np.floating],
        k: int = 10,
        *,
        where: Filter | None = None,
        allowed: AnyCollection[int] | None = None,
        exclude: Sequence[Set[int]] | None = None,
        exact: bool = False,
    ) -> list[list[Match]]:
        """Find the k most similar gallery images of each query; see `gallery.Gallery.search`."""
        self._check(embeddings, k)
        units = unit_rows(embeddings.astype(np.float32, copy=False), what="query")
        condition, ids = self._scope(where, allowed)
        excluded = exclude if exclude is not None else [frozenset[int]()] * len(units)
        found: list[Ranked] = []
        for start in range(0, len(units), _QUERIES_AT_ONCE):
            part = slice(start, start + _QUERIES_AT_ONCE)
            if ids is None:
                found += self._searcher.search(units[part], k, condition, excluded[part], exact=exact)
            else:
                found += search_among(self._searcher, units[part], k, ids, excluded[part])
        entries = self.entries(sorted({one for ranked in found for one, _ in ranked}))
        return [
            [  # what was removed since it was found is left out
                make_match(rank, score, one, entries[one])
                for rank, (one, score) in enumerate((each for each in ranked if each[0] in entries), start=1)
            ]
            for ranked in found
        ]

    def _scope(self, where: Filter | None, allowed: AnyCollection[int] | None) -> tuple[str, NDArray[np.int64] | None]:
        """What may be found: a condition, or ids where a condition can't say it."""
        if not where and allowed is None:
            return EVERYTHING, None
        if where and allowed is None and not where.paths:
            require_known_keys(self.generation, where)
            return expression(where), None
        ids = self.ids_passing(where) if where else self.ids()
        if allowed is not None:
            ids = np.intersect1d(ids, np.fromiter(allowed, dtype=np.int64, count=len(allowed)))
        return EVERYTHING, ids

    def _ids(self, condition: str) -> NDArray[np.int64]:
        return ids_fulfilling(self.generation, condition)

    def _check(self, embeddings: NDArray[np.floating], k: int) -> None:
        if not self._count:
            raise GalleryError(
                f"The gallery {self.name} is empty.", "Put images into it with `sil index-gallery IMAGES`."
            )
        if k < 1:
            raise GalleryError(f"{k} matches were asked for.", "Ask for at least 1.")
        if embeddings.ndim != 2 or embeddings.shape[1] != self.dimension:
            raise GalleryError(
                f"The query's shape is {embeddings.shape}, but {self.name} holds {self.dimension} dimensions.",
                "Embed the query with the gallery's own model.",
            )


def ids_fulfilling(generation: Generation, condition: str) -> NDArray[np.int64]:
    """The ids of all rows that fulfil a condition, ascending."""
    parts = generation.collection.parts(condition, [])
    return np.sort(np.array([row["id"] for part in parts for row in part], dtype=np.int64))


def ids_passing(generation: Generation, wanted: Filter) -> NDArray[np.int64]:
    """The ids of all entries that pass a filter, ascending; patterns of paths are matched here."""
    condition = expression(wanted)
    if not wanted.paths:
        return ids_fulfilling(generation, condition)
    patterns = PathPatterns(wanted.paths)
    try:
        found = [
            row["id"]
            for part in generation.collection.parts(condition, ["path", "members"])
            for row in part
            if patterns.match([row["path"], *(path for _, path, _ in members_of(row["members"]))])
        ]
    finally:
        patterns.close()
    return np.sort(np.array(found, dtype=np.int64))


def among_source(source: str, wanted: str = EVERYTHING) -> str:
    """The condition of coming from a source."""
    return both(equal("source", source), wanted)


def _in_words(kind: IndexKind, measured: Mapping[str, Any] | None) -> str:
    if not kind.cells:
        return "exact (Milvus FLAT, inner product of unit float32 vectors)"
    if measured is None:
        return f"{kind} in every segment, searched exactly"
    return f"{kind} in every segment (nprobe {measured['effort']}, recall@10 {measured['recall']:.4f} measured)"
