"""Measuring an index on the gallery's own vectors, and keeping the cheapest setting that is good enough."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.errors import GalleryError
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
from sil_cli.gallery.local.schema import AUTOMATIC
from sil_cli.gallery.local.vector_search import Searcher

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from sil_cli.gallery.local.records import IndexRecord
    from sil_cli.gallery.local.vector_search import Ranked
    from sil_cli.gallery.local.writer import LocalWriter
    from sil_cli.runtime import Reporter, Task

EXACT = "exact"
WISHED_RECALL = 0.99
STALE_SHARE = 0.2
"""An index is built anew once more than this share of it is dead, or of the gallery came after it."""

_DEPTH = 10  # recall is measured among so many matches
_SAMPLE = 4096  # a graph that misses a person misses all ten matches: few queries would tell recall too roughly
_MADE = 1024  # queries made from indexed vectors, which tell it roughly anyway
_HELD_SHARE = 20  # of small galleries one vector in so many is held out
_FEWEST = 256  # vectors from which on an index may pay
_ONE_SIDED = 1.645  # standard errors: one of twenty samples lies farther above the truth
_ALONE = 32  # queries timed one by one
_AT_ONCE = 256
_SAME = 1e-7  # scores this near are a tie, of which either may be found


@dataclass(frozen=True)
class Measured:
    """What one way of searching achieves; times are of this machine at this moment.

    Attributes:
        factory: FAISS's name of the index, or "exact".
        effort: nprobe or efSearch, 0 for neither.
        recall: recall@10 against exact search, 0..1.
        batch_seconds: For each query, 256 at once.
        single_seconds: For a query on its own.
    """

    factory: str
    effort: int
    recall: float
    batch_seconds: float
    single_seconds: float


class Bench:
    """Queries with their exact answers.

    A vector that is in an index is found through it more easily than one that isn't, so the queries mustn't be in it.
    Best are vectors that were held out of the index. Where none can be, a query is (v + a + b - c) / 2 of a vector v
    and its three nearest a, b, c, scaled to length 1. Where the four show one person, it is distributed as one more
    image of them (the weights sum to 1, and so do their squares), but it lies nearer to v, a and b than another image
    would: among 20,000 generated vectors a graph missed 1.1 % of such queries' best, and 2.5 % of new images'.
    """

    def __init__(self, searcher: Searcher, *, held: NDArray[np.int64] | None = None, seed: int = 0) -> None:
        """Search for the queries exactly.

        Args:
            searcher: All vectors.
            held: Ids of those that the indexes to measure don't hold: each is a query, and none an answer.
            seed: Of the choice of vectors that queries are made from where none are held out.
        """
        left_out: set[int] = set() if held is None else set(held.tolist())
        if held is None or not left_out:
            chosen = np.random.default_rng(seed).permutation(searcher.ids())[:_MADE]
            self._queries = searcher.vectors(chosen)
            self._queries = _one_more_of_each(searcher, chosen, self._search(searcher, exact=True))
        else:
            self._queries = searcher.vectors(held)
        start = time.perf_counter()
        truth = self._search(searcher, exact=True, depth=2 * _DEPTH if left_out else _DEPTH)
        batch = (time.perf_counter() - start) / len(self._queries)
        truth = [[one for one in ranked if one[0] not in left_out][:_DEPTH] for ranked in truth]
        self._worst = [matches[-1][1] if matches else np.inf for matches in truth]
        self._wanted = np.array([len(matches) for matches in truth])
        self._fresh = bool(left_out)
        self.exact = Measured(EXACT, 0, 1.0, batch, self._alone(searcher, exact=True))

    def recall(self, searcher: Searcher) -> float:
        """The share of the true best that an index finds; an equal score counts as found."""
        return self.promise(searcher)[0]

    def promise(self, searcher: Searcher) -> tuple[float, float]:
        """The recall of these queries, and what other queries can count on.

        That is the lower end of its one-sided 95 % interval; where the sample is so small that this would be more than
        twice the loss, twice the loss. For queries made from indexed vectors, which flatter an index, it always is.
        """
        found = [
            sum(score >= worst - _SAME for _, score in matches)
            for matches, worst in zip(self._search(searcher), self._worst, strict=True)
        ]
        recall = float(sum(found) / max(1, self._wanted.sum()))
        cautious = 2.0 * recall - 1.0
        if not self._fresh:
            return recall, cautious
        error = float(np.std(found / np.maximum(1, self._wanted))) / len(found) ** 0.5
        return recall, max(cautious, recall - _ONE_SIDED * error)

    def measure(self, searcher: Searcher, factory: str, recall: float) -> Measured:
        """Time a setting whose recall is known."""
        start = time.perf_counter()
        self._search(searcher)
        batch = (time.perf_counter() - start) / len(self._queries)
        return Measured(factory, searcher.effort, recall, batch, self._alone(searcher))

    def _search(self, searcher: Searcher, *, exact: bool = False, depth: int = _DEPTH) -> list[Ranked]:
        found: list[Ranked] = []
        for start in range(0, len(self._queries), _AT_ONCE):
            part = self._queries[start : start + _AT_ONCE]
            found += searcher.search(part, depth, None, [frozenset()] * len(part), exact=exact)
        return found

    def _alone(self, searcher: Searcher, *, exact: bool = False) -> float:
        some = range(min(_ALONE, len(self._queries)))
        start = time.perf_counter()
        for at in some:
            searcher.search(self._queries[at : at + 1], _DEPTH, None, [frozenset()], exact=exact)
        return (time.perf_counter() - start) / len(some)


def _one_more_of_each(searcher: Searcher, ids: NDArray[np.int64], nearest: list[Ranked]) -> NDArray[np.float32]:
    """For each vector a new one beside it, as `Bench` says; in a gallery of fewer than four, the vector itself."""
    others = [[one for one, _ in ranked if one != own][:3] for own, ranked in zip(ids.tolist(), nearest, strict=True)]
    if any(len(three) < 3 for three in others):
        return searcher.vectors(ids)
    first, second, third = (searcher.vectors(np.array(column)) for column in zip(*others, strict=True))
    made = searcher.vectors(ids) + first + second - third
    lengths = np.linalg.norm(made, axis=1, keepdims=True)
    return np.where(lengths > 1e-3, made / np.maximum(lengths, 1e-3), first).astype(np.float32)


def least_effort(bench: Bench, searcher: Searcher, efforts: Sequence[int], wished: float) -> tuple[int, float]:
    """The least effort that promises the wished recall, and the recall it has; the greatest where none does.

    Recall grows with effort, so the search halves the efforts that are left.
    """
    if not efforts:
        return 0, bench.recall(searcher)
    low, high = 0, len(efforts) - 1
    known: dict[int, float] = {}
    while low < high:
        middle = (low + high) // 2
        searcher.effort = efforts[middle]
        known[middle], promised = bench.promise(searcher)
        low, high = (low, middle) if promised >= wished else (middle + 1, high)
    searcher.effort = efforts[low]
    return efforts[low], known[low] if low in known else bench.recall(searcher)


def refresh_index(writer: LocalWriter, reporter: Reporter, *, wished: str | None = None) -> None:
    """Give the gallery the index that it should have, where it hasn't; say what was chosen.

    Args:
        writer: The gallery.
        reporter: Hears what is done.
        wished: `auto` (by size), `exact`, or FAISS's name of an index; None for what was wished last.

    Raises:
        GalleryError: FAISS can't make the wished index from these vectors.
    """
    count, current = len(writer), writer.index()
    if wished is not None:
        require_factory(wished, writer.dimension)
    wished = wished or writer.wished_index()
    if wished == EXACT or not count or (wished == AUTOMATIC and exact_is_enough(count, writer.dimension)):
        writer.choose_index(wished)
        if current is not None:
            writer.put_index(None)
            reporter.note(f"Index: exact search of {count:,} vectors; {current.factory} was dropped.")
        return
    if current is not None and _is_fresh(writer, current, wished):
        writer.choose_index(wished)
        return
    factory = automatic_factory(count, _sample(writer)) if wished == AUTOMATIC else wished
    held = _held_out(writer)
    bench = Bench(writer.searcher(None), held=held)
    index, measured = _built_and_measured(writer, factory, bench, held, WISHED_RECALL, reporter)
    writer.put_index(index, effort=measured.effort, recall=measured.recall)
    writer.choose_index(wished)
    faster = bench.exact.batch_seconds / measured.batch_seconds
    reporter.note(f"Index: {factory}, recall@10 {measured.recall:.4f} at {faster:.1f} times the speed of exact search.")
    if measured.recall < WISHED_RECALL:
        reporter.warn(f"{factory} finds less than {WISHED_RECALL:.0%} of the true best; see `sil gallery tune`.")


def _held_out(writer: LocalWriter) -> NDArray[np.int64]:
    """Ids of the vectors that are kept from an index until it is measured; of a tiny gallery none."""
    everyone = writer.searcher(None).ids()
    count = min(_SAMPLE, len(everyone) // _HELD_SHARE)
    return np.sort(np.random.default_rng(0).permutation(everyone)[:count])


def _built_and_measured(
    writer: LocalWriter, factory: str, bench: Bench, held: NDArray[np.int64], wished: float, reporter: Reporter
) -> tuple[ApproximateIndex, Measured]:
    """An index of all living vectors, tuned and measured by `bench` before it was given those that were held out.

    Raises:
        GalleryError: FAISS can't make it from these vectors.
    """
    index = build_index(writer, factory, reporter, without=held)
    searcher = writer.searcher(index, without=held)
    _, recall = least_effort(bench, searcher, index.efforts, wished)
    measured = bench.measure(searcher, factory, recall)
    index.add(held, writer.searcher(None).vectors(held))
    return index, measured


def build_index(
    writer: LocalWriter, factory: str, reporter: Reporter, *, without: NDArray[np.int64]
) -> ApproximateIndex:
    """Train and fill an index of all living vectors but those `without` which it shall be; it doesn't count yet.

    Raises:
        GalleryError: FAISS can't make it from these vectors.
    """
    searcher = writer.searcher(None, without=without)
    everyone = searcher.ids()
    size = training_size(factory, writer.dimension, len(everyone))
    chosen = np.sort(np.random.default_rng(0).permutation(everyone)[:size])
    with reporter.task(f"Building the index {factory}", len(everyone), "vectors") as task:
        return ApproximateIndex.build(factory, searcher.vectors(chosen), _reported(searcher, task))


def require_factory(wished: str, dimension: int) -> None:
    """Raise a GalleryError unless `auto`, `exact`, or FAISS knows the index and it can serve a gallery."""
    if wished not in (AUTOMATIC, EXACT):
        plain_index(wished, dimension)


def tune(
    writer: LocalWriter, reporter: Reporter, *, recall: float, factories: Sequence[str]
) -> tuple[list[Measured], Measured]:
    """Measure exact search and some indexes at their least sufficient effort, and keep the quickest of them.

    Args:
        writer: The gallery.
        reporter: Hears what is done.
        recall: The recall@10 that is wished, 0..1.
        factories: FAISS's names of the indexes to compare; empty: the gallery's own and those that suit its size.

    Returns:
        All that was measured, and the one that the gallery has now. It has at least the wished recall.

    Raises:
        GalleryError: The gallery is empty, or FAISS can't make one of the indexes.
    """
    if not len(writer):
        raise GalleryError("An empty gallery can't be tuned.", "Put images into it with `sil index-gallery IMAGES`.")
    for factory in factories:
        require_factory(factory, writer.dimension)
    held = _held_out(writer)
    bench = Bench(writer.searcher(None), held=held)
    measured = [bench.exact]
    best, kept = bench.exact, None
    for factory in factories or _suitable(writer):
        if factory in (EXACT, AUTOMATIC):
            continue
        index, found = _built_and_measured(writer, factory, bench, held, recall, reporter)
        measured.append(found)
        if found.recall >= recall and found.batch_seconds < best.batch_seconds:
            best, kept = found, index
    writer.put_index(kept, effort=best.effort, recall=best.recall)
    by_size = best.factory == EXACT and exact_is_enough(len(writer), writer.dimension)
    writer.choose_index(AUTOMATIC if by_size else best.factory)  # exact while small, and still chosen by size later
    return measured, best


def _suitable(writer: LocalWriter) -> list[str]:
    current = writer.index()
    found = [current.factory] if current else []
    if len(writer) >= _FEWEST:
        found += ["SQfp16", graph_factory(_sample(writer)), cells_factory(len(writer))]
    return list(dict.fromkeys(found))


def _sample(writer: LocalWriter) -> NDArray[np.float32]:
    """Some of the gallery's vectors, to see in how many directions they vary."""
    searcher = writer.searcher(None)
    return searcher.vectors(np.sort(np.random.default_rng(0).permutation(searcher.ids())[:_SAMPLE]))


def _is_fresh(writer: LocalWriter, current: IndexRecord, wished: str) -> bool:
    """Whether the gallery's index is of the wished kind, and most of it and of the gallery are the same."""
    count = len(writer)
    held = writer.count_up_to(current.last_id)
    changed = max((current.count - held) / max(1, current.count), (count - held) / count)
    same = is_automatic(current.factory, count) if wished == AUTOMATIC else current.factory == wished
    return same and changed <= STALE_SHARE


def _reported(searcher: Searcher, task: Task) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    for ids, vectors in searcher.parts():
        yield ids, vectors
        task.advance(len(ids))
