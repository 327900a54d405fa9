"""Filling a gallery on Milvus so that lost connections and kills neither double nor lose anything.

A row's id follows from the entry's source, path and box. Adding is an upsert: done twice, by two writers, or once more
after an answer got lost, it leaves one row. What the server has acknowledged is in its log; a batch that it hasn't is
sent again by the next run, which asks what is held before it embeds anything.
"""

from __future__ import annotations

import time
from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from sil_cli.errors import GalleryError
from sil_cli.gallery.filters import Filter
from sil_cli.gallery.local.gallery import require_known_keys
from sil_cli.gallery.milvus.measuring import measure_index, tune_index
from sil_cli.gallery.milvus.reader import among_source, ids_fulfilling, ids_passing
from sil_cli.gallery.milvus.rows import (
    ENTRY_FIELDS,
    KEY_FIELDS,
    VECTOR,
    candidate_ids,
    entry_of,
    key_of,
    make_row,
)
from sil_cli.gallery.validation import require_batch
from sil_cli.similarity.distance import unit_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from sil_cli.gallery.entry import EntryKey, GalleryEntry, Member
    from sil_cli.gallery.local.health import Repaired
    from sil_cli.gallery.local.tuning import Measured
    from sil_cli.gallery.milvus.generation import Generation
    from sil_cli.runtime import Reporter

_COMPACTION_SECONDS = 60.0
_INDEXING_SECONDS = 600.0
_LOOK_AGAIN = 1.0


class MilvusWriter:
    """Adds to, replaces in and removes from a gallery on Milvus; a `GalleryWriting`.

    Attributes:
        dimension: The embeddings' length.
    """

    def __init__(self, generation: Generation) -> None:
        self.generation = generation
        self.dimension = generation.collection.dimension
        self._collection = generation.collection
        self._catalogue = generation.catalogue

    def __len__(self) -> int:
        return self._collection.count()

    @property
    def set_aside(self) -> Sequence[Path]:
        """None: a server looks after its own files."""
        return ()

    @property
    def model(self) -> Mapping[str, Any]:
        """The record of the model that the gallery belongs to."""
        return self.generation.model

    def sources(self) -> list[str]:
        """The folders and data sets that entries came from, or had come from."""
        return self._catalogue.values("source")

    def held(self, keys: Sequence[EntryKey]) -> dict[EntryKey, tuple[int, GalleryEntry]]:
        """Those of these entries that the gallery holds, each with its id."""
        rows = self._candidates(keys, ENTRY_FIELDS)
        found = {key: self._row_of(key, rows) for key in keys}
        return {key: (row["id"], entry_of(row)) for key, row in found.items() if row is not None}

    def entries_of(self, source: str) -> Iterator[tuple[int, GalleryEntry]]:
        """All entries of a source with their ids, read some at a time."""
        for part in self._collection.parts(among_source(source), ENTRY_FIELDS):
            yield from ((row["id"], entry_of(row)) for row in part)

    def entries(self, ids: Sequence[int]) -> dict[int, GalleryEntry]:
        """The entries of the given ids; an unknown id is left out."""
        return {one: entry_of(row) for one, row in self._collection.rows(ids, ENTRY_FIELDS).items()}

    def ids(self) -> NDArray[np.int64]:
        """The ids of all entries, ascending."""
        return ids_fulfilling(self.generation, "")

    def ids_passing(self, wanted: Filter) -> NDArray[np.int64]:
        """The ids of all entries that pass a filter, ascending.

        Raises:
            GalleryError: It asks for metadata of a name that no entry has.
        """
        require_known_keys(self.generation, wanted)
        return ids_passing(self.generation, wanted)

    def add(
        self,
        entries: Sequence[GalleryEntry],
        embeddings: NDArray[np.floating],
        *,
        members: Sequence[Sequence[Member]] = (),
    ) -> None:
        """Add one batch; an entry of the same source, path and box is replaced, and keeps its id.

        Args:
            entries: N of them, no two of the same source, path and box.
            embeddings: Shape (N, D), of any length but zero.
            members: For each entry the images of whose embeddings it is the mean; none for an entry of one image.

        Raises:
            GalleryError: The batch doesn't fit, or the server doesn't take it. Part of it may have arrived: adding it
                again sets that right.
            DataError: An embedding is NaN or all zeros.
        """
        if not len(entries):
            return
        require_batch(entries, embeddings, members, self.dimension)
        units = unit_rows(embeddings.astype(np.float32, copy=False), what="gallery")
        ids = self._ids_for([entry.key for entry in entries])
        self._note(entries)
        images = members or [()] * len(entries)
        rows = [make_row(*each) for each in zip(ids, entries, units, images, strict=True)]
        self._collection.upsert(rows)

    def describe(self, entries: Mapping[int, GalleryEntry]) -> None:
        """Write anew what is known of images whose vectors stay, by id."""
        self._note(list(entries.values()))
        ids = list(entries)
        for start in range(0, len(ids), 1_024):
            rows = self._collection.rows(ids[start : start + 1_024], [VECTOR, "members"])
            self._collection.upsert(
                [
                    make_row(one, entries[one], np.array(row[VECTOR], dtype=np.float32), row["members"])
                    for one, row in rows.items()
                ]
            )

    def remove(self, ids: Sequence[int], criterion: str) -> int:
        """Remove entries, and log how many without saying which; returns that number.

        Searches that are begun from this moment on find them no more; `compact` has the server delete their rows.
        """
        held = list(self._collection.rows(ids, KEY_FIELDS))
        self._catalogue.log_removal(datetime.now(UTC).isoformat(timespec="microseconds"), len(held), criterion)
        self._collection.delete(held)
        left = self._collection.rows(held, KEY_FIELDS)  # Strong: waits until the deletion has arrived
        if left:
            raise GalleryError(
                f"{len(left):,} of {len(held):,} entries are still there.", "Somebody writes too: run it again."
            )
        return len(held)

    def vectors(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """The embeddings of the given entries, shape (N, D), of unit length; every id must be there."""
        rows = self._collection.rows(sorted(set(ids)), [VECTOR])
        found = np.array([rows[one][VECTOR] for one in ids], dtype=np.float32)
        return found.reshape(len(ids), self.dimension)

    def adopt_removals(self, removals: Sequence[tuple[str, int, str]]) -> None:
        """Put another gallery's log of removals in the place of this one."""
        self._catalogue.replace_removals(removals)

    def finish(self) -> None:
        """Have the server write what was added as files that it can index."""
        self._collection.flush()

    def refresh_index(self, reporter: Reporter, *, wished: str | None = None) -> None:
        """Give the collection the index that it should have, and measure how thoroughly to search it."""
        present = self._catalogue.wished_index()
        if wished is not None and wished != present:
            old, new = self.generation.kind(present), self.generation.kind(wished)
            self._catalogue.put("wished", wished)
            if old != new:
                reporter.note(f"Index: the server builds {new} in the place of {old}; it can't be searched meanwhile.")
                self._collection.change_index(new)
        self._await_index(reporter)
        measure_index(self.generation, reporter)

    def _await_index(self, reporter: Reporter) -> None:
        """Wait until the server has indexed what was flushed, and searches it through that index."""
        deadline = time.monotonic() + _INDEXING_SECONDS
        while not self._is_indexed():
            if time.monotonic() > deadline:
                reporter.warn(
                    f"The server has not built its index within {_INDEXING_SECONDS / 60:.0f} minutes; until it has, "
                    "searches may find less than they should."
                )
                return
            time.sleep(_LOOK_AGAIN)

    def _is_indexed(self) -> bool:
        if self._collection.index_state().get("pending_index_rows", 0):
            return False
        kind, _, _ = self.generation.index()
        return not kind.cells or self._collection.is_handed_over()

    def compact(self) -> bool:
        """Have the server write its files without removed rows.

        Returns:
            Whether it has done so within a minute. Old files stay on the server's disk until its garbage collection
            (`dataCoord.gc.dropTolerance`).
        """
        self._collection.flush()
        self._collection.compact()
        deadline = time.monotonic() + _COMPACTION_SECONDS
        while self._collection.stored_rows() > len(self):
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK_AGAIN)
        return True

    def repair(self, *, trust: bool) -> Repaired:
        """Refused: a server looks after its own files.

        Raises:
            GalleryError: Always.
        """
        raise GalleryError(
            f"{self.generation.connection.address.name} is looked after by its server.",
            "Find entries that are wrong with `sil gallery verify`, remove them by --id, and index their images again.",
        )

    def tune(self, reporter: Reporter, *, recall: float, factories: Sequence[str]) -> tuple[list[Measured], Measured]:
        """Measure exact search and the index, and search in as few cells as give the wished recall."""
        if factories:
            raise GalleryError(
                "A collection's index can't be compared with others beside it.",
                "Choose one with `sil index-gallery --index FACTORY`, then tune it.",
            )
        return tune_index(self.generation, reporter, recall)

    def _candidates(self, keys: Sequence[EntryKey], fields: Sequence[str]) -> dict[int, dict[str, Any]]:
        ids = sorted({one for key in keys for one in candidate_ids(key)})
        return self._collection.rows(ids, fields)

    @staticmethod
    def _row_of(key: EntryKey, rows: Mapping[int, dict[str, Any]]) -> dict[str, Any] | None:
        found = (rows.get(one) for one in candidate_ids(key))
        return next((row for row in found if row is not None and key_of(row) == key), None)

    def _ids_for(self, keys: Sequence[EntryKey]) -> list[int]:
        """The id of each key: the one that it has, else the first of its two that no other key has."""
        rows = self._candidates(keys, KEY_FIELDS)
        owners: defaultdict[int, EntryKey | None] = defaultdict(lambda: None)
        owners.update({one: key_of(row) for one, row in rows.items()})
        ids = []
        for key in keys:
            own = [one for one in candidate_ids(key) if owners[one] == key]
            free = own or [one for one in candidate_ids(key) if owners[one] is None]
            if not free:
                raise GalleryError(f"Both ids of '{key[1]}' are taken by other images.", "Rename the file.")
            owners[free[0]] = key
            ids.append(free[0])
        return ids

    def _note(self, entries: Sequence[GalleryEntry]) -> None:
        """Put into the catalogue what the entries bring, before they come."""
        self._catalogue.note("source", {entry.source for entry in entries})
        self._catalogue.note("camera", {entry.camera for entry in entries if entry.camera})
        self._catalogue.note("key", {key for entry in entries for key in entry.metadata})
