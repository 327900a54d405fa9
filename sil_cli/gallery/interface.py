"""What every store of a gallery can do; nothing above `retrieval` knows which store it talks to.

A store has entries (what each image is), their embeddings, and the record of the model that made these. Beside it
stands a folder on this machine: it keeps the model itself, and entries name their sources relative to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence, Set
    from contextlib import AbstractContextManager
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from sil_cli.gallery.entry import EntryKey, GalleryEntry, Match, Member
    from sil_cli.gallery.filters import Filter
    from sil_cli.gallery.local.gallery import GalleryInfo, GallerySummary
    from sil_cli.gallery.local.health import Check, Repaired
    from sil_cli.gallery.local.tuning import Measured
    from sil_cli.runtime import Reporter


class Gallery(Protocol):
    """A gallery that is open for searching; see `gallery.Gallery`, whose promises all stores keep.

    Attributes:
        folder: Where its model lies, and what its sources are relative to.
        name: What messages call it.
        model: The record of the model that made its embeddings: `fingerprint`, `dimension` and more.
    """

    folder: Path
    name: str
    model: Mapping[str, Any]

    def __enter__(self) -> Self:
        """Itself, to be closed at the end of the block."""

    def __exit__(self, *_: object) -> None: ...

    def __len__(self) -> int: ...

    def close(self) -> None:
        """Let go of the store."""

    @property
    def dimension(self) -> int:
        """The embeddings' length."""

    def info(self) -> GalleryInfo:
        """What the gallery is."""

    def summary(self) -> GallerySummary:
        """What its entries are."""

    def require_model(self, fingerprint: str) -> None:
        """Refuse a query of another model."""

    def ids(self) -> NDArray[np.int64]:
        """The ids of all entries, ascending."""

    def ids_passing(self, wanted: Filter) -> NDArray[np.int64]:
        """The ids of all entries that pass a filter, ascending."""

    def ids_of_content(self, content_hash: str) -> frozenset[int]:
        """The ids of all entries whose image file has this SHA-256."""

    def count_passing(self, wanted: Filter) -> int:
        """How many entries pass a filter."""

    def sample(self, count: int) -> list[int]:
        """The ids of so many entries at random, the same ones each time; of all where there are fewer."""

    def removals(self) -> list[tuple[str, int, str]]:
        """Time, count and kinds of criteria of all removals, oldest first."""

    def known_values(self, key: str, limit: int = 50) -> list[str]:
        """Some values that entries have for a column or a key of metadata."""

    def entries(self, ids: Sequence[int]) -> dict[int, GalleryEntry]:
        """The entries of the given ids; an unknown id is left out."""

    def members(self, ids: Sequence[int]) -> dict[int, list[Member]]:
        """The images of whose embeddings entries are the mean; entries of one image are left out."""

    def vectors(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """The embeddings of the given entries, shape (N, D), of unit length."""

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
        """Find the k most similar gallery images of each query."""


class GalleryWriter(Protocol):
    """A gallery that is open for writing; see `writer.GalleryWriter`."""

    @property
    def set_aside(self) -> Sequence[Path]:
        """Where files of vectors are now that its database doesn't know."""

    @property
    def dimension(self) -> int:
        """The embeddings' length."""

    @property
    def model(self) -> Mapping[str, Any]:
        """The record of the model that the gallery belongs to."""

    def __len__(self) -> int: ...

    def sources(self) -> list[str]:
        """The folders and data sets that entries came from."""

    def held(self, keys: Sequence[EntryKey]) -> dict[EntryKey, tuple[int, GalleryEntry]]:
        """Those of these entries that the gallery holds, each with its id."""

    def entries_of(self, source: str) -> Iterator[tuple[int, GalleryEntry]]:
        """All entries of a source with their ids, read some at a time."""

    def entries(self, ids: Sequence[int]) -> dict[int, GalleryEntry]:
        """The entries of the given ids; an unknown id is left out."""

    def ids(self) -> NDArray[np.int64]:
        """The ids of all entries, ascending."""

    def ids_passing(self, wanted: Filter) -> NDArray[np.int64]:
        """The ids of all entries that pass a filter, ascending."""

    def vectors(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """The embeddings of the given entries, shape (N, D), of unit length."""

    def add(
        self, entries: Sequence[GalleryEntry], embeddings: NDArray[np.floating], *, members: Sequence[Sequence[Member]]
    ) -> None:
        """Add one batch; an entry of the same source, path and box is replaced. Durable when it returns."""

    def describe(self, entries: Mapping[int, GalleryEntry]) -> None:
        """Write anew what is known of images whose vectors stay, by id."""

    def remove(self, ids: Sequence[int], criterion: str) -> int:
        """Remove entries, and log how many without saying which; returns that number."""

    def adopt_removals(self, removals: Sequence[tuple[str, int, str]]) -> None:
        """Put another gallery's log of removals in the place of this one."""

    def finish(self) -> None:
        """Bring what was added into the shape that is searched best."""

    def refresh_index(self, reporter: Reporter, *, wished: str | None = None) -> None:
        """Give the gallery the index that it should have, where it hasn't; say what was chosen."""

    def compact(self) -> bool:
        """Delete every trace of removed entries; returns whether that is complete."""

    def repair(self, *, trust: bool) -> Repaired:
        """Drop what is broken and keep all else."""

    def tune(self, reporter: Reporter, *, recall: float, factories: Sequence[str]) -> tuple[list[Measured], Measured]:
        """Measure ways of searching, and keep the quickest with the wished recall."""


class Rebuilding(Protocol):
    """A gallery and the new one, of another model, that grows beside it; see `rebuild.Rebuild`.

    Attributes:
        folder: Where the new one's model lies.
    """

    folder: Path

    @property
    def old(self) -> Gallery:
        """The gallery as it is."""

    @property
    def new(self) -> GalleryWriter:
        """What is embedded anew so far."""

    def to_do(self) -> NDArray[np.int64]:
        """The ids of the old gallery that the new one lacks, ascending."""

    def add(
        self,
        ids: Sequence[int],
        entries: Sequence[GalleryEntry],
        embeddings: NDArray[np.floating],
        members: Sequence[Sequence[Member]],
    ) -> None:
        """Add one batch to the new gallery, under the ids of the old one."""

    def swap(self) -> None:
        """Put the new gallery in the old one's place, in one step."""


class GalleryStore(Protocol):
    """A place that holds a gallery, or may come to hold one.

    Attributes:
        folder: As of `Gallery`.
        name: What messages call it.
    """

    folder: Path
    name: str

    def open(self) -> Gallery:
        """Open the gallery for searching.

        Raises:
            GalleryError: There is none, it can't be reached, or it is damaged.
        """

    def writer(self, model: Mapping[str, Any]) -> AbstractContextManager[GalleryWriter]:
        """Open the gallery for writing, or make it, for this model.

        Raises:
            SilError: It belongs to another model, another process writes to it, or it can't be written.
        """

    def existing_writer(self) -> AbstractContextManager[GalleryWriter]:
        """Open a gallery that is there for writing, whatever its model."""

    def rebuilding(self, model: Mapping[str, Any]) -> AbstractContextManager[Rebuilding]:
        """Open the gallery to embed it anew by another model; goes on with what an earlier attempt has done."""

    def require_index(self, wished: str, dimension: int) -> None:
        """Refuse a kind of index that the store can't build."""

    def check(self) -> list[Check]:
        """Look at everything that the gallery says of itself."""

    def size(self) -> int | None:
        """Bytes that the gallery takes; None where the store doesn't say."""

    def option(self) -> str:
        """The option that names this store in a command, such as ` --gallery station`; empty for the default."""
