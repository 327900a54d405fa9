"""The gallery as its readers see it: a folder of embeddings and of what each of them shows.

    gallery.sqlite            what each image is, which files of vectors count, the model (see `store`)
    vectors/segment-*.faiss   the embeddings (see `segments`)
    writer.lock               held by the one writer (see `lock`)

A `Gallery` is a snapshot: it goes on showing what was there when it was opened, whatever a writer does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sil_cli.errors import GalleryError
from sil_cli.retrieval.distance import cosines, product_margin, unit_rows
from sil_cli.retrieval.segments import MAKE_ANEW, VectorIndex, read_segment
from sil_cli.retrieval.store import DATABASE_FILE, GalleryEntry, Store

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence, Set
    from datetime import datetime
    from pathlib import Path

    from numpy.typing import NDArray

    from sil_cli.retrieval.store import Box, SegmentRecord

VECTOR_FOLDER = "vectors"

_QUERIES_AT_ONCE = 64
_SPARE = 8  # candidates fetched beyond the wanted ones, so that a tie at the cut is seen


@dataclass(frozen=True)
class Match:
    """One gallery image that was found; what is unknown is None.

    Attributes:
        rank: From 1.
        score: Cosine similarity, in -1..1.
        id: The entry's number in this gallery; never used for another one.
        path: Of the image, relative to `source`.
        source: The folder or data set that it came from.
    """

    rank: int
    score: float
    id: int
    path: str
    source: str
    identity: str | None
    camera: str | None
    time: datetime | None
    domain: str | None
    box: Box | None


@dataclass(frozen=True)
class GalleryInfo:
    """What a gallery is: its number of images, their dimension, how they are searched, and its model."""

    folder: Path
    count: int
    dimension: int
    index: str
    segments: int
    model: Mapping[str, Any]


class Gallery:
    """An open gallery, to search in; use `open_gallery` to get one.

    Attributes:
        folder: Where it lies.
        model: The record of the model that made its embeddings: `fingerprint`, `dimension` and more.
    """

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder = folder
        self._store = store
        store.snapshot()
        meta = store.meta()
        self.model: Mapping[str, Any] = meta["model"]
        self._kind: str = meta["index"]
        self._index, self._segments = _load(folder, store, self.dimension)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._index)

    def close(self) -> None:
        """Let go of the database."""
        self._store.close()

    @property
    def dimension(self) -> int:
        """The embeddings' length."""
        return int(self.model["dimension"])

    def info(self) -> GalleryInfo:
        """What the gallery is."""
        return GalleryInfo(self.folder, len(self), self.dimension, self._kind, self._segments, self.model)

    def require_model(self, fingerprint: str) -> None:
        """Refuse a query of another model, whose embeddings mean something else.

        Raises:
            GalleryError: The gallery's fingerprint isn't this one.
        """
        require_same_model(self.folder, self.model, fingerprint)

    def ids_of_content(self, content_hash: str) -> frozenset[int]:
        """The ids of all entries whose image file has this SHA-256, such as the query image itself."""
        return self._store.ids_of_content(content_hash)

    def vectors(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """The stored embeddings of existing ids, shape (N, D), rows of unit length."""
        return self._index.vectors(np.array(ids, dtype=np.int64))

    def search(
        self,
        embeddings: NDArray[np.floating],
        k: int,
        *,
        allowed: Collection[int] | None = None,
        exclude: Sequence[Set[int]] | None = None,
    ) -> list[list[Match]]:
        """Find the k most similar gallery images of each query, exactly.

        Scores are computed in float64 and depend on the two images alone, so a query gets the same
        answer on its own and among others. Equal scores stand in the order of ids.

        Args:
            embeddings: Shape (Q, D), of any length but zero.
            k: At least 1; fewer matches come back only where fewer exist.
            allowed: Search these ids only; None for all.
            exclude: For each query the ids that it mustn't find.

        Returns:
            For each query its matches, best first.

        Raises:
            GalleryError: The gallery is empty, k is below 1, or the dimension is another.
            DataError: An embedding is NaN or all zeros.
        """
        self._check(embeddings, k)
        units = unit_rows(embeddings.astype(np.float32, copy=False), what="query")
        known = None if allowed is None else set(allowed) & set(self._index.ids.tolist())
        excluded = exclude if exclude is not None else [frozenset[int]()] * len(units)
        found: list[list[tuple[int, float]]] = []
        for start in range(0, len(units), _QUERIES_AT_ONCE):
            part = slice(start, start + _QUERIES_AT_ONCE)
            found += self._best(units[part], k, known, excluded[part])
        entries = self._store.entries(sorted({identifier for one in found for identifier, _ in one}))
        return [
            [_match(rank, score, one, entries[one]) for rank, (one, score) in enumerate(matches, start=1)]
            for matches in found
        ]

    def _check(self, embeddings: NDArray[np.floating], k: int) -> None:
        if len(self) == 0:
            raise GalleryError(
                f"The gallery {self.folder} is empty.", "Put images into it with `sil index-gallery IMAGES`."
            )
        if k < 1:
            raise GalleryError(f"{k} matches were asked for.", "Ask for at least 1.")
        if embeddings.ndim != 2 or embeddings.shape[1] != self.dimension:
            raise GalleryError(
                f"The query's shape is {embeddings.shape}, but {self.folder} holds {self.dimension} dimensions.",
                "Embed the query with the gallery's own model.",
            )

    def _best(
        self,
        queries: NDArray[np.float32],
        k: int,
        allowed: Set[int] | None,
        exclude: Sequence[Set[int]],
    ) -> list[list[tuple[int, float]]]:
        """Ids and scores of each query's best k, from candidates that surely contain them."""
        best: list[list[tuple[int, float]]] = []
        wanted = k + max(map(len, exclude))
        for query, ids, unwanted in zip(queries, self._candidates(queries, wanted, allowed), exclude, strict=True):
            scores = cosines(query, self._index.vectors(ids))
            order = np.lexsort((ids, -scores))
            ranked = zip(ids[order].tolist(), scores[order].tolist(), strict=True)
            best.append([(one, score) for one, score in ranked if one not in unwanted][:k])
        return best

    def _candidates(
        self, queries: NDArray[np.float32], wanted: int, allowed: Set[int] | None
    ) -> list[NDArray[np.int64]]:
        """For each query the ids of its best `wanted` vectors, and of all that float32 can't tell from them."""
        total = len(self) if allowed is None else len(allowed)
        found: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)] * len(queries)
        margin = product_margin(self.dimension, queries.dtype)
        open_queries = np.arange(len(queries))
        fetch = min(total, wanted + _SPARE)
        while len(open_queries) and fetch:
            scores, ids = self._index.search(queries[open_queries], fetch, allowed)
            done = np.full(len(open_queries), fetch == total)
            if fetch < total:
                done = scores[:, wanted - 1] - scores[:, -1] > margin
            for position in np.flatnonzero(done):
                found[open_queries[position]] = ids[position]
            open_queries = open_queries[~done]
            fetch = min(total, 4 * fetch)
        return found


def open_gallery(folder: Path) -> Gallery:
    """Open a gallery for searching; a writer may be at work in it.

    Raises:
        GalleryError: There is none, it is damaged, or of another version.
    """
    if not (folder / DATABASE_FILE).is_file():
        raise GalleryError(f"There is no gallery in {folder}.", "Make one with `sil index-gallery IMAGES`.")
    store = Store(folder, write=False)
    try:
        return Gallery(folder, store)
    except BaseException:
        store.close()
        raise


def require_same_model(folder: Path, model: Mapping[str, Any], fingerprint: str) -> None:
    """Raise a GalleryError that names both models unless the fingerprints are equal."""
    if model["fingerprint"] != fingerprint:
        raise GalleryError(
            f"The gallery {folder} was made by model {model['fingerprint'][:12]}, not by {fingerprint[:12]}.",
            "Use that model, or index the images with this one into a new folder with --gallery DIR.",
        )


def _load(folder: Path, store: Store, dimension: int) -> tuple[VectorIndex, int]:
    """All living vectors, and the number of files that they came from."""
    missing: list[SegmentRecord] = []
    while True:
        segments = store.segments()
        try:
            return _joined(folder, store, segments, dimension), len(segments)
        except FileNotFoundError as error:
            if segments == missing:
                raise GalleryError(f"{error.filename} is missing.", MAKE_ANEW) from error
            missing = segments
            store.snapshot()  # a writer merged files away in this moment: look again


def _joined(folder: Path, store: Store, segments: Sequence[SegmentRecord], dimension: int) -> VectorIndex:
    joined = VectorIndex(dimension)
    for segment in segments:
        index, living = read_living(folder, store, segment, dimension)
        if len(segments) == 1 and living.all():
            return index
        joined.add(index.ids[living], index.stored()[living])
    return joined


def read_living(
    folder: Path, store: Store, segment: SegmentRecord, dimension: int
) -> tuple[VectorIndex, NDArray[np.bool_]]:
    """One file of vectors, and for each of them whether it has an entry.

    Raises:
        FileNotFoundError: The file isn't there.
        GalleryError: It is damaged, or an entry has no vector in it.
    """
    path = folder / VECTOR_FOLDER / segment.name
    index = read_segment(path, sha256=segment.sha256, count=segment.count, dimension=dimension)
    living = np.isin(index.ids, np.array(store.ids(segment.number), dtype=np.int64))
    if np.count_nonzero(living) != segment.live:
        raise GalleryError(f"{path} doesn't hold the vectors of all its entries.", MAKE_ANEW)
    return index, living


def _match(rank: int, score: float, identifier: int, entry: GalleryEntry) -> Match:
    return Match(
        rank=rank,
        score=min(1.0, max(-1.0, score)),
        id=identifier,
        path=entry.path,
        source=entry.source,
        identity=entry.identity,
        camera=entry.camera,
        time=entry.time,
        domain=entry.domain,
        box=entry.box,
    )
