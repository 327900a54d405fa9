"""Measuring an index on the gallery's own vectors: its recall against exact search, and its speed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

import numpy as np

from sil_cli.gallery.interface import EXACT
from sil_cli.gallery.results import MeasuredIndex

if TYPE_CHECKING:
    from collections.abc import Sequence, Set

    from numpy.typing import NDArray

    from sil_cli.gallery.interface import Ranked

NEEDED_RECALL = 0.99
STALE_SHARE = 0.2
"""An index is built or measured again once more than this share of it is dead, or of the gallery came after it."""

_DEPTH = 10  # recall is measured among so many matches
_MADE = 1024  # queries made from indexed vectors, which tell it roughly anyway
_ONE_SIDED = 1.645  # standard errors: one of twenty samples lies farther above the truth
_ALONE = 32  # queries timed one by one
_AT_ONCE = 256
_SAME = 1e-7  # scores this near are a tie, of which either may be found


class MeasuredSearcher(Protocol):
    """Searches vectors exactly, or through an index with a certain effort."""

    effort: int

    def ids(self) -> NDArray[np.int64]:
        """The ids of the vectors, or of a random sample of them."""

    def vectors(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors of the given ids, shape (N, D)."""

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        allowed: None,
        exclude: Sequence[Set[int]],
        /,
        *,
        exact: bool = False,
    ) -> list[Ranked]:
        """Ids and scores of each query's best k."""


class Bench:
    """Queries with their exact answers, to measure indexes by.

    Attributes:
        exact: What exact search achieves.

    A vector that is in an index is found through it more easily than one that isn't, so the queries mustn't be in it.
    Best are vectors that were held out of the index. Where none can be, a query is (v + a + b - c) / 2 of a vector v
    and its three nearest a, b, c, scaled to length 1. Where the four show one person, it is distributed as one more
    image of them (the weights sum to 1, and so do their squares), but it lies nearer to v, a and b than another image
    would: among 20,000 generated vectors a graph missed 1.1 % of such queries' best, and 2.5 % of new images'.
    """

    def __init__(self, searcher: MeasuredSearcher, *, held_out: NDArray[np.int64] | None = None, seed: int = 0) -> None:
        """Search for the queries exactly.

        Args:
            searcher: All vectors.
            held_out: Ids of those that the indexes to measure don't hold: each is a query, and none an answer.
            seed: Of the choice of vectors that queries are made from where none are held out.
        """
        left_out: set[int] = set() if held_out is None else set(held_out.tolist())
        if held_out is None or not left_out:
            chosen = np.random.default_rng(seed).permutation(searcher.ids())[:_MADE]
            self._queries = searcher.vectors(chosen)
            self._queries = _one_more_of_each(searcher, chosen, self._search(searcher, exact=True))
        else:
            self._queries = searcher.vectors(held_out)
        start = time.perf_counter()
        truth = self._search(searcher, exact=True, depth=2 * _DEPTH if left_out else _DEPTH)
        self._exact_seconds = (time.perf_counter() - start) / len(self._queries)
        truth = [[one for one in ranked if one[0] not in left_out][:_DEPTH] for ranked in truth]
        self._worst = [matches[-1][1] if matches else np.inf for matches in truth]
        self._wanted = np.array([len(matches) for matches in truth])
        self._fresh = bool(left_out)
        self.exact = self._measured(EXACT, 0, 1.0, self._exact_seconds, self._alone(searcher, exact=True))

    def recall(self, searcher: MeasuredSearcher) -> float:
        """The share of the true best that an index finds; an equal score counts as found."""
        return self.promise(searcher)[0]

    def promise(self, searcher: MeasuredSearcher) -> tuple[float, float]:
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

    def measure(self, searcher: MeasuredSearcher, index: str, recall: float) -> MeasuredIndex:
        """Time a setting whose recall is known."""
        start = time.perf_counter()
        self._search(searcher)
        batch = (time.perf_counter() - start) / len(self._queries)
        return self._measured(index, searcher.effort, recall, batch, self._alone(searcher))

    def _measured(self, index: str, effort: int, recall: float, batch: float, alone: float) -> MeasuredIndex:
        """What was measured, from the seconds of a query among many and of one on its own."""
        return MeasuredIndex(index, effort, recall, 1 / batch, 1000 * alone, self._exact_seconds / batch)

    def _search(self, searcher: MeasuredSearcher, *, exact: bool = False, depth: int = _DEPTH) -> list[Ranked]:
        found: list[Ranked] = []
        for start in range(0, len(self._queries), _AT_ONCE):
            part = self._queries[start : start + _AT_ONCE]
            found += searcher.search(part, depth, None, [frozenset()] * len(part), exact=exact)
        return found

    def _alone(self, searcher: MeasuredSearcher, *, exact: bool = False) -> float:
        some = range(min(_ALONE, len(self._queries)))
        start = time.perf_counter()
        for at in some:
            searcher.search(self._queries[at : at + 1], _DEPTH, None, [frozenset()], exact=exact)
        return (time.perf_counter() - start) / len(some)


def _one_more_of_each(searcher: MeasuredSearcher, ids: NDArray[np.int64], nearest: list[Ranked]) -> NDArray[np.float32]:
    """For each vector a new one beside it, as `Bench` says; in a gallery of fewer than four, the vector itself."""
    others = [[one for one, _ in ranked if one != own][:3] for own, ranked in zip(ids.tolist(), nearest, strict=True)]
    if any(len(three) < 3 for three in others):
        return searcher.vectors(ids)
    first, second, third = (searcher.vectors(np.array(column)) for column in zip(*others, strict=True))
    made = searcher.vectors(ids) + first + second - third
    lengths = np.linalg.norm(made, axis=1, keepdims=True)
    return np.where(lengths > 1e-3, made / np.maximum(lengths, 1e-3), first).astype(np.float32)


def least_effort(bench: Bench, searcher: MeasuredSearcher, efforts: Sequence[int], needed: float) -> tuple[int, float]:
    """The least effort that promises the needed recall, and the recall it has; the greatest where none does.

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
        low, high = (low, middle) if promised >= needed else (middle + 1, high)
    searcher.effort = efforts[low]
    return efforts[low], known[low] if low in known else bench.recall(searcher)
