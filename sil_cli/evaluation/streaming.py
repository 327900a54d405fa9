"""One pass over all scores of a test: the gallery streams past the queries, and listeners take what they need.

Memory beyond the embeddings doesn't grow with the gallery, and the matrix product is made once for all listeners. They
take it in tiles of a few queries, small enough for the cache, and as many at a time as there are cores.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from sil_cli.evaluation.pairs import PairRules, check_sides
from sil_cli.runtime import SilentReporter, map_threads, threads
from sil_cli.similarity.scorers import make_scorer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from sil_cli.evaluation.pairs import EmbeddingSet
    from sil_cli.runtime import Reporter
    from sil_cli.similarity.scorers import Metric, Operand

CHUNK_BYTES = 2**27  # of scores held at a time, and of gallery rows
_TILE_BYTES = 2**20  # of scores shown at a time: half of a core's cache
_PAIRED_BYTES = 2**19  # of one identity's images, in float64, that are scored at a time
_IDENTITIES_AT_A_TIME = 16  # that a thread scores: each takes little time by itself
_NOTHING: NDArray[np.int64] = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Chunk:
    """Scores of some queries with a block of the gallery; all listeners read the same ones.

    Attributes:
        scores: Shape (C, B), from a matrix product; -inf where the gallery image is junk, or no different person.
        errors: Shape (C,), how far a query's scores are from the exact ones at most.
        queries: The C queries' operands.
        block: The B gallery images' operands.
        first: The first query's place among the test's Q.
        start: The block's position in the gallery.
    """

    scores: NDArray[np.floating]
    errors: NDArray[np.float64]
    queries: Operand
    block: Operand
    first: int
    start: int


class Listener(Protocol):
    """Something that is measured on all scores."""

    def take(self, chunk: Chunk) -> None:
        """Look at a chunk, in any thread; chunks that come at the same time are of different queries."""


class RetrievalTest:
    """A test that is ready to be run: the matches of every query are known, with their exact scores.

    What has one value a query is of the Q queries that aren't junk.

    Args:
        query: The queries; junk ones are ignored.
        gallery: The gallery, of the same dimension and precision.
        metric: What is near: by cosine similarity, or by Euclidean distance of the embeddings as they are.

    Attributes:
        rules: Which pairs count.
        scorer: Of the metric.
        rows: The queries' operands.
        gallery_rows: Those of the gallery, where they take no more than `CHUNK_BYTES`.
        matches: For each query its valid matches, best first: by descending exact score, ties in gallery order.
        match_scores: For each the exact scores of those.
        excluded: For each the gallery positions that show no other person, ascending: its identity's images and
            itself.

    Raises:
        DataError: A side is empty, the sides don't fit together, or an embedding can't be used.
    """

    def __init__(self, query: EmbeddingSet, gallery: EmbeddingSet, *, metric: Metric = "cosine") -> None:
        check_sides(query, gallery)
        self.query, self.gallery = query, gallery
        self.scorer = make_scorer(metric, query.embeddings, gallery.embeddings)
        self.rules = PairRules(query, gallery)
        self.rows = self.scorer.operand(query.embeddings[self.rules.queries])
        small = gallery.embeddings.nbytes <= CHUNK_BYTES
        self.gallery_rows = self.scorer.operand(gallery.embeddings) if small else None
        self.matches, self.match_scores = self._score_matches()
        self.excluded = [self.rules.not_impostors(index) for index in self.rules.queries.tolist()]

    def _score_matches(self) -> tuple[list[NDArray[np.int64]], list[NDArray[np.float64]]]:
        """The queries of one identity are scored together: its images are then looked up and converted once."""
        matches, exact = [_NOTHING] * len(self.rows), [np.empty(0)] * len(self.rows)

        def score(groups: list[NDArray[np.int64]]) -> None:
            for places in groups:
                for place, found in zip(places.tolist(), self._score_identity(places), strict=True):
                    matches[place], exact[place] = found

        groups = self.rules.groups()
        starts = range(0, len(groups), _IDENTITIES_AT_A_TIME)
        map_threads(score, [groups[start : start + _IDENTITIES_AT_A_TIME] for start in starts])
        return matches, exact

    def _score_identity(self, places: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """The matches and their scores of each of some queries of one identity."""
        images = self.rules.of_identity(int(self.rules.queries[places[0]]))
        scores = np.empty((len(places), len(images)))
        step = max(1, _PAIRED_BYTES // (self.rows.rows.shape[1] * 8))
        for start in range(0, len(images), step):
            part = slice(start, start + step)
            wide = self._rows_of(images[part]).astype(np.float64, copy=False)
            for own, place in zip(scores, places.tolist(), strict=True):
                own[part] = self.scorer.exact(self.rows.rows[place], wide)
        for own, index in zip(scores, self.rules.queries[places].tolist(), strict=True):
            matches = self.rules.matches(index)
            exact = own[np.searchsorted(images, matches)]
            order = np.lexsort((matches, -exact))
            yield matches[order], exact[order]

    def _rows_of(self, images: NDArray[np.int64]) -> NDArray[np.floating]:
        if self.gallery_rows is not None:
            return self.gallery_rows.rows[images]
        return self.scorer.operand(self.gallery.embeddings[images]).rows


def run_test(
    test: RetrievalTest,
    listeners: Sequence[Listener],
    *,
    chunk_bytes: int = CHUNK_BYTES,
    reporter: Reporter | None = None,
) -> None:
    """Show every score to every listener.

    Args:
        test: The test.
        listeners: What is measured.
        chunk_bytes: Memory for scores, and for gallery rows.
        reporter: Hears of the progress.
    """
    gallery, scratch, scaled = test.gallery.embeddings, _Scratch(), _Scratch()
    length = max(1, chunk_bytes // (gallery.shape[1] * gallery.itemsize))
    reporter = reporter or SilentReporter()

    def show(chunk: Chunk) -> None:
        for listener in listeners:
            listener.take(chunk)

    with (
        threads() as pool,
        reporter.task("Ranking", total=len(test.rows) * len(gallery), unit="pairs") as task,
    ):
        for start in range(0, len(gallery), length):
            block = _block(test, slice(start, start + length), scaled)
            size = max(1, chunk_bytes // (len(block) * block.rows.itemsize))
            for first in range(0, len(test.rows), size):
                tiles = _tiles(make_chunk(test, slice(first, first + size), block, start, scratch))
                list(pool.map(show, tiles))
                task.advance(sum(tile.scores.size for tile in tiles))


def _block(test: RetrievalTest, part: slice, scratch: _Scratch) -> Operand:
    """Some of the gallery's operands; those of another block in the same memory are then overwritten."""
    if test.gallery_rows is not None:
        return test.gallery_rows.part(part)
    embeddings = test.gallery.embeddings[part]
    rows, columns = embeddings.shape
    return test.scorer.operand(embeddings, out=scratch.of(rows, columns, embeddings.dtype))


def make_chunk(test: RetrievalTest, which: slice, block: Operand, start: int, scratch: _Scratch | None = None) -> Chunk:
    """All scores of some of the Q queries with a block, in its precision.

    Args:
        test: The test.
        which: The queries.
        block: The gallery images' operands.
        start: Where they begin in the gallery.
        scratch: Memory for the scores.
    """
    queries = test.rows.part(which)
    if block.rows.dtype == np.float64:
        queries = queries.widened
    out = None if scratch is None else scratch.of(len(queries), len(block), block.rows.dtype)
    scores, errors = test.scorer.product(queries, block, out=out)
    scores[:, within_block(test.rules.junk, start, len(block))] = -np.inf
    excluded = test.excluded[which]
    rows, columns = np.repeat(np.arange(len(excluded)), [len(each) for each in excluded]), np.concatenate(excluded)
    inside = (columns >= start) & (columns < start + len(block))
    scores[rows[inside], columns[inside] - start] = -np.inf
    return Chunk(scores, errors, queries, block, which.start, start)


class _Scratch:
    """Memory that is used again for every chunk or block: fresh pages take time."""

    def __init__(self) -> None:
        self._values: NDArray[np.floating] = np.empty(0)

    def of(self, rows: int, columns: int, dtype: np.dtype[np.floating]) -> NDArray[np.floating]:
        """An array of this shape, holding anything."""
        if self._values.dtype != dtype or self._values.size < rows * columns:
            self._values = np.empty(rows * columns, dtype=dtype)
        return self._values[: rows * columns].reshape(rows, columns)


def _tiles(chunk: Chunk) -> list[Chunk]:
    """The same scores in parts, each of some of the queries."""
    step = max(1, _TILE_BYTES // (chunk.scores.shape[1] * chunk.scores.itemsize))
    return [
        replace(
            chunk,
            scores=chunk.scores[at : at + step],
            errors=chunk.errors[at : at + step],
            queries=chunk.queries.part(slice(at, at + step)),
            first=chunk.first + at,
        )
        for at in range(0, len(chunk.scores), step)
    ]


def within_block(positions: NDArray[np.int64], start: int, length: int) -> NDArray[np.int64]:
    """Of ascending positions those in a block, counted from its start."""
    first, last = np.searchsorted(positions, (start, start + length))
    return positions[first:last] - start
