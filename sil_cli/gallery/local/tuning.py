"""The approximate index that a gallery should have: chosen by size or on request, built, measured and kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sil_cli.errors import GalleryError
from sil_cli.gallery.interface import AUTOMATIC, EXACT
from sil_cli.gallery.local.approximate import (
    ApproximateIndex,
    automatic_factory,
    cells_factory,
    exact_is_enough,
    graph_factory,
    is_automatic,
    plain_index,
    training_size,
)
from sil_cli.gallery.local.vector_search import Searcher
from sil_cli.gallery.recall import NEEDED_RECALL, STALE_SHARE, Bench, least_effort

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from sil_cli.gallery.local.schema import IndexRecord
    from sil_cli.gallery.local.tables import Tables
    from sil_cli.gallery.local.vector_files import VectorFiles
    from sil_cli.gallery.results import MeasuredIndex
    from sil_cli.runtime import Reporter, Task

_SAMPLE = 4096  # a graph that misses a person misses all ten matches: few queries would tell recall too roughly
_HELD_SHARE = 20  # of small galleries one vector in so many is held out
_FEWEST = 256  # vectors from which on an index may pay


def require_factory(requested: str, dimension: int) -> None:
    """Raise a GalleryError unless `auto`, `exact`, or FAISS knows the index and it can serve a gallery."""
    if requested not in (AUTOMATIC, EXACT):
        plain_index(requested, dimension)


class GalleryIndex:
    """A gallery's index, as its only writer keeps it.

    Args:
        tables: The gallery's database, open for writing.
        files: Its files.
        dimension: The embeddings' length.
    """

    def __init__(self, tables: Tables, files: VectorFiles, dimension: int) -> None:
        self._tables = tables
        self._files = files
        self._dimension = dimension

    def requested(self) -> str:
        """`auto`, `exact`, or FAISS's name of the index that the user asked for."""
        return str(self._tables.meta()["index"])

    def record(self) -> IndexRecord | None:
        """What is recorded of it; None where there is none."""
        return self._tables.index()

    def read(self) -> ApproximateIndex | None:
        """The index itself; None where there is none.

        Raises:
            GalleryError: It is missing or damaged.
        """
        record = self.record()
        return None if record is None else self._files.read_index(record)

    def searcher(self, index: ApproximateIndex | None, *, without: NDArray[np.int64] | None = None) -> Searcher:
        """All living vectors as they are now, to search in, with an index over all of them.

        Args:
            index: The index, None for exact search.
            without: Ids to leave out, as the index does.

        Raises:
            GalleryError: A file is damaged or missing.
        """
        parts = self._files.living(self._tables.segments())
        if without is not None and len(without):
            parts = [
                (segment, np.isin(segment.ids, without, invert=True) & (True if living is None else living))
                for segment, living in parts
            ]
        return Searcher(parts, index, last_id=int(index.ids.max()) if index is not None and len(index) else 0)

    def drop_if_it_holds_removed(self) -> None:
        """Drop an index that holds a removed vector; the file stays until leftovers are deleted."""
        record = self.record()
        if record is not None and self._tables.count_up_to(record.last_id) != record.count:
            self._put(None)

    def refresh(self, reporter: Reporter, *, requested: str | None = None) -> None:
        """As `GalleryWriter.refresh_index`."""
        count, current = self._tables.count(), self.record()
        if requested is not None:
            require_factory(requested, self._dimension)
        requested = requested or self.requested()
        if requested == EXACT or not count or (requested == AUTOMATIC and exact_is_enough(count, self._dimension)):
            self._choose(requested)
            if current is not None:
                self._put(None)
                reporter.note(f"Index: exact search of {count:,} vectors; {current.factory} was dropped.")
            return
        if current is not None and self._is_fresh(current, requested):
            self._choose(requested)
            return
        factory = automatic_factory(count, self._sample()) if requested == AUTOMATIC else requested
        held_out = self._held_out()
        bench = Bench(self.searcher(None), held_out=held_out)
        index, measured = self._built_and_measured(factory, bench, held_out, NEEDED_RECALL, reporter)
        self._put(index, measured)
        self._choose(requested)
        reporter.note(
            f"Index: {factory}, recall@10 {measured.recall:.4f} at {measured.speedup:.1f} times the speed of exact "
            "search."
        )
        if measured.recall < NEEDED_RECALL:
            reporter.warn(
                f"{factory} finds less than {NEEDED_RECALL:.0%} of the true nearest neighbours; see `sil gallery tune`."
            )

    def tune(
        self, reporter: Reporter, *, recall: float, factories: Sequence[str]
    ) -> tuple[list[MeasuredIndex], MeasuredIndex]:
        """As `GalleryWriter.tune`."""
        count = self._tables.count()
        if not count:
            raise GalleryError("An empty gallery can't be tuned.", "Add images to it with `sil index-gallery IMAGES`.")
        for factory in factories:
            require_factory(factory, self._dimension)
        held_out = self._held_out()
        bench = Bench(self.searcher(None), held_out=held_out)
        measured = [bench.exact]
        best, kept = bench.exact, None
        for factory in factories or self._suitable(count):
            if factory in (EXACT, AUTOMATIC):
                continue
            index, found = self._built_and_measured(factory, bench, held_out, recall, reporter)
            measured.append(found)
            if found.recall >= recall and found.queries_per_second > best.queries_per_second:
                best, kept = found, index
        self._put(kept, best)
        by_size = best.index == EXACT and exact_is_enough(count, self._dimension)
        self._choose(AUTOMATIC if by_size else best.index)  # exact while small, and still chosen by size later
        return measured, best

    def _choose(self, requested: str) -> None:
        """Remember which index the user asked for."""
        with self._tables.transaction():
            self._tables.choose_index(requested)

    def _put(self, index: ApproximateIndex | None, measured: MeasuredIndex | None = None) -> None:
        """Make an index of all living vectors count, in the place of any other; None for none."""
        record = None
        if index is not None and measured is not None:
            record = self._files.write_index(index, effort=measured.effort, recall=measured.recall)
        with self._tables.transaction():
            self._tables.replace_index(record)

    def _held_out(self) -> NDArray[np.int64]:
        """Ids of the vectors that are kept from an index until it is measured; of a tiny gallery none."""
        everyone = self.searcher(None).ids()
        count = min(_SAMPLE, len(everyone) // _HELD_SHARE)
        return np.sort(np.random.default_rng(0).permutation(everyone)[:count])

    def _built_and_measured(
        self, factory: str, bench: Bench, held_out: NDArray[np.int64], needed: float, reporter: Reporter
    ) -> tuple[ApproximateIndex, MeasuredIndex]:
        """An index of all living vectors, tuned and measured before it was given those that were held out."""
        searcher = self.searcher(None, without=held_out)
        everyone = searcher.ids()
        size = training_size(factory, self._dimension, len(everyone))
        chosen = np.sort(np.random.default_rng(0).permutation(everyone)[:size])
        with reporter.task(f"Building the index {factory}", len(everyone), "vectors") as task:
            index = ApproximateIndex.build(factory, searcher.vectors(chosen), _reported(searcher, task))
        searcher = self.searcher(index, without=held_out)
        _, recall = least_effort(bench, searcher, index.efforts, needed)
        measured = bench.measure(searcher, factory, recall)
        index.add(held_out, self.searcher(None).vectors(held_out))
        return index, measured

    def _suitable(self, count: int) -> list[str]:
        """The gallery's own kind of index, and those that suit its size."""
        current = self.record()
        found = [current.factory] if current else []
        if count >= _FEWEST:
            found += ["SQfp16", graph_factory(self._sample()), cells_factory(count)]
        return list(dict.fromkeys(found))

    def _sample(self) -> NDArray[np.float32]:
        """Some of the gallery's vectors, to see in how many directions they vary."""
        searcher = self.searcher(None)
        return searcher.vectors(np.sort(np.random.default_rng(0).permutation(searcher.ids())[:_SAMPLE]))

    def _is_fresh(self, current: IndexRecord, requested: str) -> bool:
        """Whether the gallery's index is of the requested kind, and most of it and of the gallery are the same."""
        count = self._tables.count()
        alive = self._tables.count_up_to(current.last_id)
        changed = max((current.count - alive) / max(1, current.count), (count - alive) / count)
        same = is_automatic(current.factory, count) if requested == AUTOMATIC else current.factory == requested
        return same and changed <= STALE_SHARE


def _reported(searcher: Searcher, task: Task) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    for ids, vectors in searcher.parts():
        yield ids, vectors
        task.advance(len(ids))
