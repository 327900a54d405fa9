"""Filling a gallery on Milvus so that lost connections and kills neither double nor lose anything.

A row's id follows from the entry's source, path and box. Adding is an upsert: done twice, by two writers, or once more
after an answer got lost, it leaves one row. What the server has acknowledged is in its log; a batch that it hasn't is
sent again by the next run, which asks what exists before it embeds anything.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
from typing_extensions import override

from sil_cli.errors import GalleryError
from sil_cli.gallery.interface import GalleryWriter
from sil_cli.gallery.local.approximate import EXACT_UP_TO
from sil_cli.gallery.milvus.expressions import equal
from sil_cli.gallery.milvus.reader import MilvusContent
from sil_cli.gallery.milvus.rows import (
    ENTRY_FIELDS,
    KEY_FIELDS,
    VECTOR,
    entry_of,
    id_of,
    key_of,
    make_row,
)
from sil_cli.gallery.milvus.searching import MilvusSearcher
from sil_cli.gallery.recall import NEEDED_RECALL, STALE_SHARE, Bench, least_effort
from sil_cli.gallery.results import MeasuredIndex, Removal, RepairResult

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from sil_cli.gallery.entry import EntryKey, GalleryEntry, Member
    from sil_cli.gallery.milvus.generation import Generation
    from sil_cli.runtime import Reporter

_COMPACTION_SECONDS = 60.0
_INDEXING_SECONDS = 600.0
_LOOK_AGAIN = 1.0


class MilvusWriter(MilvusContent, GalleryWriter):
    """Adds to, replaces in and removes from a gallery on Milvus."""

    @override
    def __len__(self) -> int:
        return self._collection.count()

    @override
    def sources(self) -> list[str]:
        return self._catalogue.values("source")

    @override
    def existing(self, keys: Sequence[EntryKey]) -> dict[EntryKey, tuple[int, GalleryEntry]]:
        rows = self._collection.rows(sorted({id_of(key) for key in keys}), ENTRY_FIELDS)
        found = {key: rows[id_of(key)] for key in keys if id_of(key) in rows}
        return {key: (row["id"], entry_of(row)) for key, row in found.items() if key_of(row) == key}

    @override
    def entries_of(self, source: str) -> Iterator[tuple[int, GalleryEntry]]:
        for part in self._collection.parts(equal("source", source), ENTRY_FIELDS):
            yield from ((row["id"], entry_of(row)) for row in part)

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
        ids = self._ids_for([entry.key for entry in entries])
        self._note(entries)
        images = members or [()] * len(entries)
        rows = [make_row(*each) for each in zip(ids, entries, units, images, strict=True)]
        self._collection.upsert(rows)

    @override
    def describe(self, entries: Mapping[int, GalleryEntry]) -> None:
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

    @override
    def remove(self, ids: Sequence[int], criterion: str) -> int:
        """Remove entries, and log how many without saying which; returns that number.

        Searches that are begun from this moment on find them no more; `compact` has the server delete their rows.
        """
        existing = list(self._collection.rows(ids, KEY_FIELDS))
        now = datetime.now(UTC).isoformat(timespec="microseconds")
        self._catalogue.log_removal(Removal(now, len(existing), criterion))
        self._collection.delete(existing)
        left = self._collection.rows(existing, KEY_FIELDS)  # Strong: waits until the deletion has arrived
        if left:
            raise GalleryError(
                f"{len(left):,} of {len(existing):,} entries are still there.",
                "Something else is writing too: run the command again.",
            )
        return len(existing)

    @override
    def adopt_removals(self, removals: Sequence[Removal]) -> None:
        self._catalogue.replace_removals(removals)

    @override
    def finish(self) -> None:
        self._collection.flush()

    @override
    def refresh_index(self, reporter: Reporter, *, requested: str | None = None) -> None:
        present = self._catalogue.requested_index()
        if requested is not None and requested != present:
            old, new = self.generation.kind(present), self.generation.kind(requested)
            self._catalogue.put("wished", requested)
            if old != new:
                reporter.note(
                    f"Index: the server builds {new} in place of {old}; the gallery can't be searched meanwhile."
                )
                self._collection.change_index(new)
        self._await_index(reporter)
        _measure_index(self.generation, reporter)

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

    @override
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

    @override
    def repair(self, reporter: Reporter, *, trust: bool) -> RepairResult:
        """Refused: a server looks after its own files.

        Raises:
            GalleryError: Always.
        """
        raise GalleryError(
            f"{self.generation.connection.address.name} is managed by its server.",
            "Find wrong entries with `sil gallery verify`, remove them with `sil gallery remove --id N`, index again.",
        )

    @override
    def tune(
        self, reporter: Reporter, *, recall: float, factories: Sequence[str]
    ) -> tuple[list[MeasuredIndex], MeasuredIndex]:
        if factories:
            raise GalleryError(
                "A collection has one index at a time, so several can't be compared.",
                "Choose one with `sil index-gallery --index FACTORY`, then tune it.",
            )
        return _tune_index(self.generation, reporter, recall)

    def _ids_for(self, keys: Sequence[EntryKey]) -> list[int]:
        """The id of each key, which no other key may have."""
        ids = [id_of(key) for key in keys]
        owners = {one: key_of(row) for one, row in self._collection.rows(sorted(set(ids)), KEY_FIELDS).items()}
        for one, key in zip(ids, keys, strict=True):
            if owners.setdefault(one, key) != key:
                raise GalleryError(f"The id of '{key[1]}' is taken by '{owners[one][1]}'.", "Rename the file.")
        return ids

    def _note(self, entries: Sequence[GalleryEntry]) -> None:
        """Put into the catalogue what the entries bring, before they come."""
        self._catalogue.note("source", {entry.source for entry in entries})
        self._catalogue.note("camera", {entry.camera for entry in entries if entry.camera})
        self._catalogue.note("key", {key for entry in entries for key in entry.metadata})


def _measure_index(generation: Generation, reporter: Reporter) -> None:
    """Measure the least number of cells with the needed recall, where the gallery is large and nothing fresh is known.

    Until then every search looks into all cells.
    """
    total = generation.collection.count()
    kind, _, measured = generation.index()
    if not kind.cells or total <= EXACT_UP_TO:
        return
    if measured is not None and abs(total - measured["count"]) <= STALE_SHARE * measured["count"]:
        return
    _, quick = _measured(generation, total, NEEDED_RECALL)
    reporter.note(
        f"Index: {kind}, {quick.effort} cells give recall@10 {quick.recall:.4f} at {quick.speedup:.1f} times the "
        "speed of all."
    )


def _tune_index(generation: Generation, reporter: Reporter, recall: float) -> tuple[list[MeasuredIndex], MeasuredIndex]:
    """Measure exact search and the index at its least sufficient effort, and keep that.

    Raises:
        GalleryError: The gallery is empty.
    """
    total = generation.collection.count()
    if not total:
        raise GalleryError("An empty gallery can't be tuned.", "Add images to it with `sil index-gallery IMAGES`.")
    kind, _, _ = generation.index()
    if not kind.cells:
        exact = _bench(generation, total)[0].exact
        return [exact], exact
    with reporter.task("Measuring", None):
        exact, quick = _measured(generation, total, recall)
    return [exact, quick], quick


def _measured(generation: Generation, total: int, recall: float) -> tuple[MeasuredIndex, MeasuredIndex]:
    bench, searcher = _bench(generation, total)
    kind, _, _ = generation.index()
    effort, found = least_effort(bench, searcher, kind.efforts(), recall)
    quick = bench.measure(searcher, str(kind), found)
    record = {"index": str(kind), "count": total, "effort": effort, "recall": found}
    generation.catalogue.put("measured", json.dumps(record))
    return bench.exact, quick


def _bench(generation: Generation, total: int) -> tuple[Bench, MilvusSearcher]:
    kind, _, _ = generation.index()
    searcher = MilvusSearcher(generation.collection, kind, total=total)
    return Bench(searcher), searcher
