"""What every store of a gallery can do; whoever uses a gallery doesn't know which store it talks to.

A store has entries (what each image is), their embeddings, and the record of the model that made these. Beside it
stands a folder on this machine: it keeps the model itself, and entries name their sources relative to it.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sil_cli.errors import GalleryError, did_you_mean, quoted
from sil_cli.gallery.entry import make_match, require_batch
from sil_cli.gallery.filters import COLUMNS
from sil_cli.similarity.distance import unit_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence, Set
    from contextlib import AbstractContextManager
    from pathlib import Path

    from numpy.typing import NDArray

    from sil_cli.gallery.entry import EntryKey, GalleryEntry, Match, Member
    from sil_cli.gallery.filters import Filter
    from sil_cli.gallery.results import Check, GalleryInfo, MeasuredIndex, Removal, RepairResult
    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings

MODEL_FOLDER = "model"
"""Where in its folder a gallery keeps its model."""

PEOPLE_FILE = "people.sqlite"
"""Where in its folder a gallery keeps what people said of its entries (`gallery.people`)."""
POLICY_FILE = "policy.json"
"""Where in its folder a gallery keeps what it is for, and what holds for whoever uses it."""

AUTOMATIC, EXACT = "auto", "exact"
"""Kinds of index that every store knows: the one that suits its size, and none."""

Ranked = list[tuple[int, float]]
"""Ids and scores of what was found, best first."""


def has_policy(settings: Settings, folder: Path) -> bool:
    """Whether the gallery or the settings say more than that it may be searched; of a plain gallery nothing is read."""
    wanted = settings.gallery
    given = (wanted.log, wanted.require_purpose, wanted.keep_days, wanted.camera_keep_days)
    return any(given) or os.path.lexists(folder / POLICY_FILE)


def rebuilding_folder(folder: Path) -> Path:
    """Where a rebuilt gallery grows; in the same parent, so that relative paths mean the same in both."""
    whole = folder.resolve()
    return whole.with_name(f".{whole.name}.rebuilding")


class GalleryContent(ABC):
    """What a gallery holds, for those who search it and for those who write to it.

    Attributes:
        folder: Where its model lies, and what its sources are relative to.
        name: What messages call it: its folder, or the address of its store.
        model: The record of the model that made its embeddings: `fingerprint`, `dimension` and more.
    """

    def __init__(self, folder: Path, name: str, model: Mapping[str, Any]) -> None:
        self.folder = folder
        self.name = name
        self.model = model

    @property
    def dimension(self) -> int:
        """The embeddings' length."""
        return int(self.model["dimension"])

    def require_model(self, fingerprint: str) -> None:
        """Refuse embeddings of another model, which mean something else.

        Raises:
            GalleryError: The gallery's fingerprint isn't this one; names both, and the ways out.
        """
        if self.model["fingerprint"] != fingerprint:
            store = "" if self.name == str(self.folder) else f" --store {self.name}"
            raise GalleryError(
                f"The gallery {self.name} was made by model {self.model['fingerprint'][:12]}, not by "
                f"{fingerprint[:12]}.",
                f"Use the gallery's own model with --model {self.folder / MODEL_FOLDER}, embed its images again with "
                f"`sil gallery rebuild {quoted(self.folder)}{store} --model NEW`, "
                "or use a new folder with --gallery DIR.",
            )

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def ids(self) -> NDArray[np.int64]:
        """The ids of all entries, ascending."""

    def ids_passing(self, where: Filter) -> NDArray[np.int64]:
        """The ids of all entries that pass a filter, ascending.

        Raises:
            GalleryError: It asks for metadata of a name that no entry has.
        """
        self._require_known_keys(where)
        return self._ids_passing(where)

    @abstractmethod
    def _ids_passing(self, where: Filter) -> NDArray[np.int64]:
        """As `ids_passing`; every key of its metadata is known."""

    @abstractmethod
    def metadata_keys(self) -> list[str]:
        """The names under which entries have metadata of their own."""

    @abstractmethod
    def entries(self, ids: Sequence[int]) -> dict[int, GalleryEntry]:
        """The entries of the given ids; an unknown id is left out."""

    @abstractmethod
    def vectors(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """The embeddings of the given entries, shape (N, D), of unit length.

        Raises:
            GalleryError: There is no such entry.
        """

    def _require_known_keys(self, where: Filter) -> None:
        unknown = [key for key, _ in where.metadata if key not in COLUMNS]
        if not unknown:
            return
        known = [*COLUMNS, *self.metadata_keys()]
        for key in unknown:
            if key not in known:
                raise GalleryError(f"No entry of the gallery has metadata '{key}'.", did_you_mean(key, known))

    def _require_all(self, ids: Sequence[int], known: Sequence[int] | Set[int] | NDArray[np.int64]) -> None:
        unknown = np.setdiff1d(np.array(ids, dtype=np.int64), np.fromiter(known, dtype=np.int64, count=len(known)))
        if len(unknown):
            raise GalleryError(f"{self.name} has no entry {unknown[0]}.", "Use the id of a match from this gallery.")


class Gallery(GalleryContent):
    """A gallery that is open for searching; use it in a `with` statement."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Close the store."""

    @abstractmethod
    def describe_index(self) -> str:
        """How it is searched, and what was measured of that."""

    @abstractmethod
    def requested_index(self) -> str:
        """`auto`, `exact`, or the name of the index that was asked for."""

    @abstractmethod
    def info(self) -> GalleryInfo:
        """All that can be said of the gallery and its entries in general."""

    @abstractmethod
    def ids_of_content(self, content_hash: str) -> frozenset[int]:
        """The ids of all entries whose image file has this SHA-256, such as the query image itself."""

    def count_passing(self, where: Filter) -> int:
        """How many entries pass a filter; raises as `ids_passing`."""
        return len(self.ids_passing(where))

    def sample(self, count: int) -> list[int]:
        """The ids of so many entries at random, the same ones each time; of all where there are fewer."""
        chosen: list[int] = np.random.default_rng(0).permutation(self._ids_to_sample(count))[:count].tolist()
        return chosen

    def _ids_to_sample(self, count: int) -> NDArray[np.int64]:
        """Ids of which any `count` are a random sample."""
        del count
        return self.ids()

    @abstractmethod
    def removals(self) -> list[Removal]:
        """The log of removals, oldest first."""

    @abstractmethod
    def known_values(self, key: str, limit: int = 50) -> list[str]:
        """Some values that entries have for a column or a key of metadata."""

    @abstractmethod
    def members(self, ids: Sequence[int]) -> dict[int, list[Member]]:
        """The images of whose embeddings entries are the mean; entries of one image are left out."""

    def search(
        self,
        embeddings: NDArray[np.floating],
        k: int = 10,
        *,
        where: Filter | None = None,
        exclude: Sequence[Set[int]] | None = None,
        exact: bool = False,
    ) -> list[list[Match]]:
        """Find the k most similar gallery images of each query.

        Scores are computed in float64 and depend on the two images alone, so a query gets the same
        scores on its own and among others. Equal scores stand in the order of ids. Without an approximate index
        the matches are surely the best; with one, as surely as its measured recall (`describe_index()`) says.

        Args:
            embeddings: Shape (Q, D), of any length but zero.
            k: At least 1; fewer matches come back only where fewer exist.
            where: What the entries that may be found must fulfil; None for all.
            exclude: For each query the ids that it mustn't find.
            exact: Leave an approximate index out.

        Returns:
            For each query its matches, best first.

        Raises:
            GalleryError: The gallery is empty, k is below 1, the dimension is another, or the filter asks for
                metadata of a name that no entry has.
            DataError: An embedding is NaN or all zeros.
        """
        if len(self) == 0:
            raise GalleryError(
                f"The gallery {self.name} is empty.", "Add images to it with `sil index-gallery IMAGES`."
            )
        if k < 1:
            raise GalleryError(f"{k} matches were asked for.", "Ask for at least 1.")
        if embeddings.ndim != 2 or embeddings.shape[1] != self.dimension:
            raise GalleryError(
                f"The query's shape is {embeddings.shape}, but {self.name} holds {self.dimension} dimensions.",
                "Embed the query with the gallery's own model.",
            )
        units = unit_rows(embeddings.astype(np.float32, copy=False), what="query")
        excluded = exclude if exclude is not None else [frozenset[int]()] * len(units)
        found = self._search(units, k, where or None, excluded, exact=exact)
        entries = self.entries(sorted({identifier for one in found for identifier, _ in one}))
        there = [[one for one in ranked if one[0] in entries] for ranked in found]  # not removed since it was found
        return [
            [make_match(rank, score, one, entries[one]) for rank, (one, score) in enumerate(ranked, start=1)]
            for ranked in there
        ]

    @abstractmethod
    def _search(
        self,
        queries: NDArray[np.float32],
        k: int,
        where: Filter | None,
        exclude: Sequence[Set[int]],
        *,
        exact: bool,
    ) -> list[Ranked]:
        """As `search`, of queries (Q, D) of unit length."""


class GalleryWriter(GalleryContent):
    """A gallery that is open for writing."""

    def _unit_batch(
        self, entries: Sequence[GalleryEntry], embeddings: NDArray[np.floating], members: Sequence[Sequence[Member]]
    ) -> NDArray[np.float32]:
        """The embeddings of a batch scaled to length 1; raises as `add`."""
        require_batch(entries, embeddings, members, self.dimension)
        return unit_rows(embeddings.astype(np.float32, copy=False), what="gallery")

    @property
    def set_aside(self) -> Sequence[Path]:
        """Where files of vectors are now that its database doesn't know; a server looks after its own files."""
        return ()

    def warn_of_set_aside(self, reporter: Reporter) -> None:
        """Say which files were found among a gallery's vectors that its database doesn't know."""
        moved = self.set_aside
        if moved:
            more = f" and {len(moved) - 1:,} more" if len(moved) > 1 else ""
            reporter.warn(
                f"Files of vectors that the gallery's database doesn't know were set aside: {moved[0]}{more}. If it is "
                "an older copy, put the right one back, and these files with it; `sil gallery compact` deletes them."
            )

    @abstractmethod
    def sources(self) -> list[str]:
        """The folders and data sets that entries came from."""

    @abstractmethod
    def existing(self, keys: Sequence[EntryKey]) -> dict[EntryKey, tuple[int, GalleryEntry]]:
        """Those of these entries that the gallery holds, each with its id."""

    @abstractmethod
    def entries_of(self, source: str) -> Iterator[tuple[int, GalleryEntry]]:
        """All entries of a source with their ids, read some at a time."""

    @abstractmethod
    def add(
        self,
        entries: Sequence[GalleryEntry],
        embeddings: NDArray[np.floating],
        *,
        members: Sequence[Sequence[Member]] = (),
        ids: Sequence[int] | None = None,
    ) -> None:
        """Add one batch; an entry of the same source, path and box is replaced.

        When this returns, the batch is durable: it survives a kill.

        Args:
            entries: N of them, no two of the same source, path and box.
            embeddings: Shape (N, D), of any length but zero.
            members: For each entry the images of whose embeddings it is the mean; none for an entry of one image.
            ids: For each entry an id from 1 on that the gallery never gave, ascending; None for the next ones. In a
                store where ids follow from the entries it is not looked at.

        Raises:
            GalleryError: The batch doesn't fit together or to the gallery, or can't be written.
            DataError: An embedding is NaN or all zeros.
        """

    @abstractmethod
    def describe(self, entries: Mapping[int, GalleryEntry]) -> None:
        """Write again what is known (identity, camera, time, …) of images whose vectors stay, by id."""

    @abstractmethod
    def remove(self, ids: Sequence[int], criterion: str) -> int:
        """Remove entries, and log how many without saying which; returns that number.

        They are found no more from this moment; `compact` deletes every trace of them.

        Args:
            ids: Of the entries; unknown ones are ignored.
            criterion: Why, free of personal data: the kinds of what they were chosen by.
        """

    @abstractmethod
    def adopt_removals(self, removals: Sequence[Removal]) -> None:
        """Put another gallery's log of removals in the place of this one."""

    @abstractmethod
    def finish(self) -> None:
        """Bring what was added into the shape that is searched best."""

    @abstractmethod
    def refresh_index(self, reporter: Reporter, *, requested: str | None = None) -> None:
        """Give the gallery the index that it should have, where it hasn't; say what was chosen.

        Args:
            reporter: Receives progress and notes.
            requested: `auto` (by size), `exact`, or the name of an index; None for what was requested last.

        Raises:
            GalleryError: The store can't make that index from these vectors.
        """

    @abstractmethod
    def compact(self) -> bool:
        """Delete every trace of removed entries; returns whether that is complete."""

    @abstractmethod
    def repair(self, reporter: Reporter, *, trust: bool) -> RepairResult:
        """Drop what is broken and keep all else.

        Args:
            reporter: Receives progress and notes.
            trust: Accept files of vectors that someone edited, if they are well formed, as they are now.

        Raises:
            GalleryError: What is broken can't be repaired.
        """

    @abstractmethod
    def tune(
        self, reporter: Reporter, *, recall: float, factories: Sequence[str]
    ) -> tuple[list[MeasuredIndex], MeasuredIndex]:
        """Measure exact search and some indexes at their least sufficient effort, and keep the quickest of them.

        Args:
            reporter: Receives progress and notes.
            recall: The recall@10 that is needed, 0..1.
            factories: Names of the indexes to compare; empty: the gallery's own and those that suit its size.

        Returns:
            All that was measured, exact search first, and the one that the gallery has now.

        Raises:
            GalleryError: The gallery is empty, or can't have one of the indexes.
        """


class GalleryRebuild(ABC):
    """A gallery, and the new one, of another model, that grows beside it. Entries keep their ids.

    Attributes:
        old: The gallery as it is.
        new: What is embedded again so far.
        folder: Where the new one's model lies.
    """

    def __init__(self, old: Gallery, new: GalleryWriter, folder: Path) -> None:
        self.old = old
        self.new = new
        self.folder = folder
        dropped = np.setdiff1d(new.ids(), old.ids())  # removed or replaced since an earlier attempt
        if len(dropped):
            new.remove(dropped.tolist(), "removed before the rebuild")

    def to_do(self) -> NDArray[np.int64]:
        """The ids of the old gallery that the new one lacks, ascending."""
        return np.setdiff1d(self.old.ids(), self.new.ids())

    @abstractmethod
    def swap(self) -> None:
        """Put the new gallery in the old one's place.

        Raises:
            GalleryError: That can't be done.
        """


class GalleryStore(ABC):
    """A place that holds a gallery, or may come to hold one.

    Attributes:
        folder: As of `Gallery`.
        name: What messages call it.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name

    @abstractmethod
    def open(self) -> Gallery:
        """Open the gallery for searching.

        Raises:
            GalleryError: No gallery is there, it can't be reached, or it is damaged.
        """

    @abstractmethod
    def writer(self, model: Mapping[str, Any]) -> AbstractContextManager[GalleryWriter]:
        """Open the gallery for writing, or make it.

        Args:
            model: The record of its model (JSON values), with at least `fingerprint` (str) and `dimension` (int).

        Raises:
            SilError: It belongs to another model, another process writes to it, or it can't be written.
        """

    @abstractmethod
    def existing_writer(self) -> AbstractContextManager[GalleryWriter]:
        """Open a gallery that is there for writing, whatever its model.

        Raises:
            SilError: No gallery is there, another process writes to it, it can't be written, or it is damaged.
        """

    @abstractmethod
    def rebuilding(self, model: Mapping[str, Any]) -> AbstractContextManager[GalleryRebuild]:
        """Open the gallery to embed it again by another model; goes on with what an earlier attempt has done.

        What an attempt with yet another model left is thrown away.

        Raises:
            SilError: There is no gallery, or another process writes to it.
        """

    @abstractmethod
    def require_index(self, requested: str, dimension: int) -> None:
        """Refuse a kind of index that the store can't build.

        Raises:
            GalleryError: It is one.
        """

    @abstractmethod
    def check(self) -> list[Check]:
        """Look at everything that the gallery says of itself; reads every file or row whole."""

    @abstractmethod
    def size(self) -> int | None:
        """Bytes that the gallery takes; None where the store doesn't say."""

    @abstractmethod
    def option(self) -> str:
        """The option that names this store in a command, such as ` --gallery station`; empty for the default."""
