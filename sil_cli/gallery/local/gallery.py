"""The gallery as its readers see it: a folder of embeddings and of what each of them shows.

    gallery.sqlite            what each image is, which files of vectors count, the model (see `store`)
    vectors/segment-*.faiss   the embeddings (see `segments`)
    writer.lock               held by the one writer (see `lock`)

A `LocalGallery` is a snapshot: it goes on showing what was there when it was opened, whatever a writer does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np

from sil_cli.errors import GalleryError, did_you_mean
from sil_cli.gallery.entry import GalleryEntry, make_match
from sil_cli.gallery.filters import COLUMNS
from sil_cli.gallery.local.loading import load
from sil_cli.gallery.local.schema import FORMAT
from sil_cli.gallery.local.segments import INDEX_KIND, MAKE_ANEW
from sil_cli.gallery.local.tables import DATABASE_FILE, Tables
from sil_cli.locks import writer_lock
from sil_cli.similarity.distance import unit_rows

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence, Set
    from pathlib import Path

    from numpy.typing import NDArray

    from sil_cli.gallery.entry import Match, Member
    from sil_cli.gallery.filters import Filter
    from sil_cli.gallery.local.records import IndexRecord
    from sil_cli.gallery.local.vector_search import Ranked

_QUERIES_AT_ONCE = 256  # a matrix product of fewer takes hardly less time
_MATCHES_AT_ONCE = 2**22


@dataclass(frozen=True)
class GalleryInfo:
    """What a gallery is: its number of images, their dimension, how they are searched, and its model."""

    folder: Path
    count: int
    dimension: int
    index: str
    segments: int
    model: Mapping[str, Any]


@dataclass(frozen=True)
class GallerySummary:
    """What a gallery's entries are, and the index that the user wants (`auto`, `exact`, or FAISS's name of it).

    Attributes:
        earliest, latest: Times as they were given, None where no entry has one.
        metadata: The names of further metadata.
    """

    wished_index: str
    cameras: int | None
    identities: int | None
    earliest: str | None
    latest: str | None
    metadata: list[str]


class LocalGallery:
    """An open gallery, to search in; use `open_gallery` to get one.

    Attributes:
        folder: Where it lies.
        name: What messages call it.
        model: The record of the model that made its embeddings: `fingerprint`, `dimension` and more.
    """

    def __init__(self, folder: Path, store: Tables) -> None:
        self.folder = folder
        self.name = str(folder)
        self._store = store
        store.snapshot()
        self.model: Mapping[str, Any] = store.meta()["model"]
        self._searcher, self._segments, self._record = load(folder, store, self.dimension)
        self._passing: dict[Filter, NDArray[np.int64]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._searcher)

    def close(self) -> None:
        """Let go of the database."""
        self._store.close()

    @property
    def dimension(self) -> int:
        """The embeddings' length."""
        return int(self.model["dimension"])

    def info(self) -> GalleryInfo:
        """What the gallery is."""
        kind = INDEX_KIND if self._record is None else index_in_words(self._record)
        return GalleryInfo(self.folder, len(self), self.dimension, kind, self._segments, self.model)

    def summary(self) -> GallerySummary:
        """What its entries are."""
        cameras, identities, earliest, latest = self._store.extent()
        wished = str(self._store.meta()["index"])
        return GallerySummary(wished, cameras, identities, earliest, latest, self._store.metadata_keys())

    def require_model(self, fingerprint: str) -> None:
        """Refuse a query of another model, whose embeddings mean something else.

        Raises:
            GalleryError: The gallery's fingerprint isn't this one.
        """
        require_same_model(self.name, self.folder, self.model, fingerprint)

    def ids_of_content(self, content_hash: str) -> frozenset[int]:
        """The ids of all entries whose image file has this SHA-256, such as the query image itself."""
        return self._store.ids_of_content(content_hash)

    def ids(self) -> NDArray[np.int64]:
        """The ids of all entries, ascending."""
        return self._searcher.ids()

    def last_id(self) -> int:
        """The highest id that was ever given."""
        return self._store.next_numbers()[0] - 1

    def removals(self) -> list[tuple[str, int, str]]:
        """Time, count and kinds of criteria of all removals, oldest first."""
        return self._store.removals()

    def known_values(self, key: str, limit: int = 50) -> list[str]:
        """Some values that entries have for a column or a key of metadata."""
        return self._store.known_values(key, limit)

    def ids_passing(self, wanted: Filter) -> NDArray[np.int64]:
        """The ids of all entries that pass a filter, ascending.

        Raises:
            GalleryError: It asks for metadata of a name that no entry has.
        """
        if wanted not in self._passing:
            require_known_keys(self._store, wanted)
            self._passing[wanted] = self._store.ids_matching(wanted)
        return self._passing[wanted]

    def count_passing(self, wanted: Filter) -> int:
        """How many entries pass a filter; raises as `ids_passing`."""
        return len(self.ids_passing(wanted))

    def sample(self, count: int) -> list[int]:
        """The ids of so many entries at random, the same ones each time; of all where there are fewer."""
        chosen: list[int] = np.random.default_rng(0).permutation(self.ids())[:count].tolist()
        return chosen

    def entries(self, ids: Sequence[int]) -> dict[int, GalleryEntry]:
        """The entries of the given ids; an unknown id is left out."""
        return self._store.entries(ids)

    def members(self, ids: Sequence[int]) -> dict[int, list[Member]]:
        """The images of whose embeddings entries are the mean; entries of one image are left out."""
        return self._store.members(ids)

    def vectors(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """The embeddings of the given entries, shape (N, D), of unit length.

        Raises:
            GalleryError: There is no such entry.
        """
        if not len(ids):
            return np.empty((0, self.dimension), dtype=np.float32)
        wanted = np.array(ids, dtype=np.int64)
        unknown = np.setdiff1d(wanted, self._searcher.ids())
        if len(unknown):
            raise GalleryError(f"{self.folder} has no entry {unknown[0]}.", "Take the id from a match of this gallery.")
        return self._searcher.vectors(wanted)

    def search(
        self,
        embeddings: NDArray[np.floating],
        k: int = 10,
        *,
        where: Filter | None = None,
        allowed: Collection[int] | None = None,
        exclude: Sequence[Set[int]] | None = None,
        exact: bool = False,
    ) -> list[list[Match]]:
        """Find the k most similar gallery images of each query.

        Scores are computed in float64 and depend on the two images alone, so a query gets the same
        scores on its own and among others. Equal scores stand in the order of ids. Without an approximate index
        the matches are surely the best; with one, as surely as its measured recall (`info().index`) says.

        Args:
            embeddings: Shape (Q, D), of any length but zero.
            k: At least 1; fewer matches come back only where fewer exist.
            where: What the entries that may be found must fulfil; None for all.
            allowed: Search these ids only; None for all.
            exclude: For each query the ids that it mustn't find.
            exact: Leave an approximate index out.

        Returns:
            For each query its matches, best first.

        Raises:
            GalleryError: The gallery is empty, k is below 1, the dimension is another, or the filter asks for
                metadata of a name that no entry has.
            DataError: An embedding is NaN or all zeros.
        """
        self._check(embeddings, k)
        units = unit_rows(embeddings.astype(np.float32, copy=False), what="query")
        known = self._allowed(where, allowed)
        excluded = exclude if exclude is not None else [frozenset[int]()] * len(units)
        found: list[Ranked] = []
        at_once = max(1, min(_QUERIES_AT_ONCE, _MATCHES_AT_ONCE // min(k, len(self))))
        for start in range(0, len(units), at_once):
            part = slice(start, start + at_once)
            found += self._searcher.search(units[part], k, known, excluded[part], exact=exact)
        entries = self._store.entries(sorted({identifier for one in found for identifier, _ in one}))
        try:
            return [
                [make_match(rank, score, one, entries[one]) for rank, (one, score) in enumerate(matches, start=1)]
                for matches in found
            ]
        except KeyError as error:
            raise GalleryError(f"{self.folder} has a vector {error} without an entry.", MAKE_ANEW) from None

    def _allowed(self, where: Filter | None, allowed: Collection[int] | None) -> NDArray[np.int64] | None:
        """The living ids that may be found; None for all."""
        if not where and allowed is None:
            return None
        ids = self.ids_passing(where) if where else self._searcher.ids()
        if allowed is None:
            return ids
        return np.intersect1d(ids, np.fromiter(allowed, dtype=np.int64, count=len(allowed)))

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


def open_local(folder: Path) -> LocalGallery:
    """Open a gallery for searching; a writer may be at work in it. One of an older version is brought up to date.

    Raises:
        GalleryError: There is none, it is damaged, or of a newer version.
    """
    while True:
        database = folder / DATABASE_FILE
        try:
            opened = database.stat().st_ino
        except OSError as error:
            raise GalleryError(
                f"There is no gallery in {folder}.", "Make one with `sil index-gallery IMAGES`."
            ) from error
        store = Tables(folder, write=False)
        try:
            if store.format() < FORMAT:
                store.close()
                bring_up_to_date(folder)
                store = Tables(folder, write=False)
            return LocalGallery(folder, store)
        except BaseException as error:
            store.close()
            # A rebuilt gallery may have taken the folder's place in this moment: look at that one.
            if not isinstance(error, GalleryError) or not database.exists() or database.stat().st_ino == opened:
                raise


def bring_up_to_date(folder: Path) -> None:
    """Migrate a gallery of an older version, as its only writer.

    Raises:
        SilError: Another process writes to it, or the folder can't be written.
    """
    with writer_lock(
        folder,
        while_held="It is of an older version: wait until the writer is done and has brought it up to date.",
        elsewhere="It is of an older version: copy it to where it can be written and brought up to date.",
    ):
        store = Tables(folder, write=True)
        try:
            store.migrate()
        finally:
            store.close()


class KnowsKeys(Protocol):
    """Knows the names under which entries have metadata."""

    def metadata_keys(self) -> list[str]:
        """These names."""


def require_known_keys(store: KnowsKeys, wanted: Filter) -> None:
    """Raise a GalleryError if a filter asks for metadata of a name that no entry has."""
    unknown = [key for key, _ in wanted.metadata if key not in COLUMNS]
    if not unknown:
        return
    known = [*COLUMNS, *store.metadata_keys()]
    for key in unknown:
        if key not in known:
            raise GalleryError(f"No entry of the gallery has metadata '{key}'.", did_you_mean(key, known))


def index_in_words(record: IndexRecord) -> str:
    """An approximate index and what was measured of it."""
    effort = ""
    if record.effort:
        effort = f"{'nprobe' if 'IVF' in record.factory else 'efSearch'} {record.effort}, "
    return f"{record.factory} over {record.count:,} vectors ({effort}recall@10 {record.recall:.4f} measured)"


def require_same_model(name: object, folder: Path, model: Mapping[str, Any], fingerprint: str) -> None:
    """Raise a GalleryError that names both models, and the ways out, unless the fingerprints are equal.

    Args:
        name: What messages call the gallery: its folder, or the address of its store.
        folder: Where the gallery keeps its own model.
        model: The gallery's.
        fingerprint: Of the other one.
    """
    if model["fingerprint"] != fingerprint:
        store = "" if str(name) == str(folder) else f" --store {name}"
        raise GalleryError(
            f"The gallery {name} was made by model {model['fingerprint'][:12]}, not by {fingerprint[:12]}.",
            f"Use the gallery's own model with --model {folder / 'model'}, embed its images anew with "
            f"`sil gallery rebuild {folder}{store} --model NEW`, or use a new folder with --gallery DIR.",
        )
