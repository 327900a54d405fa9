"""Finding the best vectors: exactly, through an approximate index, among all or among those that a filter keeps.

Whatever proposes candidates, the score of every match is the float64 inner product of the two vectors, and equal
scores stand in the order of ids. An index only decides which vectors are looked at.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from sil_cli.gallery.local.segments import Segment
from sil_cli.runtime import map_threads
from sil_cli.similarity.distance import cosines, product_margin

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence, Set

    from numpy.typing import NDArray

    from sil_cli.gallery.local.approximate import ApproximateIndex

Ranked = list[tuple[int, float]]
Plan = Literal["gather", "scan", "index"]

GATHERED_ROWS = 2_048
"""Up to so many kept vectors are copied together and compared; beyond, a scan past all others is quicker."""

INDEX_SHARE = 0.4
"""An index is asked under a filter only while this share of its vectors passes.

Among a share s of the vectors the k best lie 1/s as far down the index's list, so it must be asked for as much
more, and once again for four times that, to see whether looking further still changes the answer. An exact scan of
the kept vectors costs s times a whole one. With an index 30 times as quick as a whole scan the two meet at s = √(5/30).
"""

_SPARE = 8  # candidates fetched beyond the wanted ones, so that a tie at the cut is seen
_PAIRS_AT_ONCE = 2_048  # vectors copied together to be scored exactly
_PROPOSALS = 4  # candidates asked of an index for each wanted one, which its coarser codes may have misplaced
_FURTHER = 4
"""Times the effort and the candidates of a second look under a filter.

A graph with twice the effort missed 1.5 % of the best of people whom a filter removed, with this one
0.2 %. With twice the candidates codes of 8 bytes missed 1.2 %, with this many 0.2 %.
"""

_SMALL_MASK, _SPARSE = 2**24, 64  # bytes, and bytes for each id, up to which ids are looked up in a mask
_PROPOSED_AT_ONCE = 2**22  # candidates of all queries together, the second time


def plan_search(kept: int, total: int, *, index: bool, takes_filter: bool) -> Plan:
    """How to search among `kept` of `total` vectors.

    Args:
        kept: Vectors that may be found.
        total: All that there are.
        index: Whether there is an approximate index.
        takes_filter: Whether it can search among some of its vectors only.
    """
    if kept < total and kept <= GATHERED_ROWS:
        return "gather"
    if not index or (kept < total and (not takes_filter or kept < INDEX_SHARE * total)):
        return "scan"
    return "index"


class Searcher:
    """All vectors of a gallery, and the index over most of them where there is one.

    Attributes:
        effort: How thorough the index is asked to be (nprobe, efSearch).
    """

    def __init__(
        self,
        segments: Sequence[tuple[Segment, NDArray[np.bool_] | None]],
        index: ApproximateIndex | None = None,
        *,
        last_id: int = 0,
        effort: int = 0,
    ) -> None:
        """Put them together.

        Args:
            segments: Each with the rows that live, None for all.
            index: The approximate index.
            last_id: It holds every living vector up to this id.
            effort: As the attribute.
        """
        self.effort = effort
        self._index = index
        self._all = [part for part in (_part(segment, rows) for segment, rows in segments) if part.living]
        self._newer: list[_Part] = []  # what the index doesn't hold
        self._alive: NDArray[np.bool_ | np.int64] | None = (
            None  # what the index may find, where it also holds dead vectors
        )
        if index is not None:
            self._newer = [
                one for one in (_narrowed(each, each.segment.ids > last_id) for each in self._all) if one.living
            ]
            if len(index) + sum(part.living for part in self._newer) != len(self):
                self._alive = _as_mask(self.ids())

    def __len__(self) -> int:
        return sum(part.living for part in self._all)

    def ids(self) -> NDArray[np.int64]:
        """The ids of all living vectors, ascending."""
        parts = [part.segment.ids if part.keep is None else part.segment.ids[part.keep] for part in self._all]
        return np.sort(np.concatenate(parts)) if parts else np.empty(0, dtype=np.int64)

    def parts(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Ids and vectors of all living ones, a file at a time."""
        for segment, keep, _ in self._all:
            yield (segment.ids, segment.vectors) if keep is None else (segment.ids[keep], segment.vectors[keep])

    def vectors(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors of the given ids, shape (N, D); every id must be a living one."""
        dimension = self._all[0].segment.vectors.shape[1] if self._all else 0
        found = np.empty((len(ids), dimension), dtype=np.float32)
        order = np.argsort(ids)  # each file is asked for its own ids alone, in the order in which they lie there
        ascending = ids[order]
        for segment, _, _ in self._all:
            first, last = segment.span
            here = order[slice(*np.searchsorted(ascending, [first, last + 1]))]
            rows = segment.rows_of(ids[here])
            found[here[rows >= 0]] = segment.vectors[rows[rows >= 0]]
        return found

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        allowed: NDArray[np.int64] | None,
        exclude: Sequence[Set[int]],
        *,
        exact: bool = False,
    ) -> list[Ranked]:
        """Ids and scores of each query's best k.

        Args:
            queries: Shape (Q, D), unit rows; not more than the memory has room for Q × k.
            k: At least 1.
            allowed: Living ids that may be found, ascending; None for all.
            exclude: For each query the ids that it mustn't find.
            exact: Leave the index out.
        """
        total = len(self)
        if allowed is not None and len(allowed) == total:
            allowed = None
        kept = total if allowed is None else len(allowed)
        index = self._index if not exact else None
        takes_filter = index is not None and index.takes_filter
        usable = index is not None and (takes_filter or self._alive is None)  # else it would find dead vectors
        if plan_search(kept, total, index=usable, takes_filter=takes_filter) == "index":
            return self._through_index(queries, k, kept / total, allowed, exclude)
        return self._exact(queries, k, allowed, exclude)

    def _exact(
        self, queries: NDArray[np.float32], k: int, allowed: NDArray[np.int64] | None, exclude: Sequence[Set[int]]
    ) -> list[Ranked]:
        wanted = k + max(map(len, exclude), default=0)
        candidates = _candidates(self._scope(self._all, allowed), queries, wanted)
        return self._ranked(queries, candidates, exclude, k)

    def _through_index(
        self,
        queries: NDArray[np.float32],
        k: int,
        share: float,
        allowed: NDArray[np.int64] | None,
        exclude: Sequence[Set[int]],
    ) -> list[Ranked]:
        """Through the index where that is sure to give enough and, under a filter, where a second look changes nothing.

        A filter may keep none of the vectors near a query although it keeps most of all others. What is left lies far
        away, where the index looks less, and lies close together, where its codes tell less apart. So the second time
        it looks further and proposes more; queries whose answer changes are searched exactly.
        """
        effort = round(self.effort / share)
        found = self._proposed(queries, k, effort, allowed, exclude)
        enough = [len(one) >= min(k, len(self) - len(unwanted)) for one, unwanted in zip(found, exclude, strict=True)]
        if allowed is not None:
            enough = [len(one) >= k for one in found]
            more: list[Ranked] = []
            at_once = max(1, _PROPOSED_AT_ONCE // (_FURTHER * _proposals(k, exclude)))
            for start in range(0, len(queries), at_once):
                part = slice(start, start + at_once)
                more += self._proposed(queries[part], k, _FURTHER * effort, allowed, exclude[part], wider=_FURTHER)
            enough = [good and one == other for good, one, other in zip(enough, found, more, strict=True)]
        doubtful = np.flatnonzero(~np.array(enough, dtype=np.bool_)).tolist()
        if doubtful:
            again = self._exact(queries[doubtful], k, allowed, [exclude[at] for at in doubtful])
            for at, ranked in zip(doubtful, again, strict=True):
                found[at] = ranked
        return found

    def _proposed(
        self,
        queries: NDArray[np.float32],
        k: int,
        effort: int,
        allowed: NDArray[np.int64] | None,
        exclude: Sequence[Set[int]],
        *,
        wider: int = 1,
    ) -> list[Ranked]:
        assert self._index is not None  # noqa: S101 - the plan says so
        wanted = wider * _proposals(k, exclude)
        keep = self._alive if allowed is None else _as_mask(allowed)
        proposed = self._index.search(queries, min(wanted, len(self._index)), effort, keep)
        newest = _candidates(self._scope(self._newer, allowed), queries, wanted)
        return self._ranked(queries, np.concatenate([proposed, newest], axis=1), exclude, k)

    def _ranked(
        self, queries: NDArray[np.float32], candidates: NDArray[np.int64], exclude: Sequence[Set[int]], k: int
    ) -> list[Ranked]:
        """The best k of each query's candidates by their exact scores, equal ones by id.

        Args:
            queries: Shape (Q, D).
            candidates: Shape (Q, C), ids; -1 for none.
            exclude: For each query the ids that it mustn't find.
            k: At least 1.
        """
        at, column = np.nonzero(self._hopeful(queries, _without(candidates, exclude), k))
        ids = candidates[at, column]
        parts = [slice(start, start + _PAIRS_AT_ONCE) for start in range(0, len(ids), _PAIRS_AT_ONCE)]
        found = map_threads(lambda part: cosines(queries[at[part]], self.vectors(ids[part])), parts)
        scores = np.concatenate([np.empty(0), *found])
        order = np.lexsort((ids, -scores, at))
        ends = np.cumsum(np.bincount(at, minlength=len(queries)))
        best = [order[start : min(end, start + k)] for start, end in pairwise([0, *ends.tolist()])]
        return [list(zip(ids[one].tolist(), scores[one].tolist(), strict=True)) for one in best]

    def _hopeful(self, queries: NDArray[np.float32], candidates: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
        """Which candidates may be among a query's best k, as far as float32 can tell; shape (Q, C)."""
        there = candidates >= 0
        if candidates.shape[1] <= k:
            return there
        rough = np.full(candidates.shape, -np.inf, dtype=np.float32)
        for segment, _, _ in self._all:
            np.maximum(rough, segment.scores_of(queries, candidates), out=rough)
        least = np.partition(rough, -k, axis=1)[:, -k] - product_margin(queries.shape[1], queries.dtype)
        hopeful: NDArray[np.bool_] = there & (rough >= least[:, None])
        return hopeful

    def _scope(self, parts: list[_Part], allowed: NDArray[np.int64] | None) -> list[_Part]:
        """What an exact search looks through: the given parts, or the allowed rows of them."""
        if allowed is None or not parts:
            return parts
        if parts is self._all and len(allowed) <= GATHERED_ROWS:
            return [_part(Segment(allowed, self.vectors(allowed)), None)] if len(allowed) else []
        chosen = (_narrowed(part, np.isin(part.segment.ids, allowed)) for part in parts)
        return [part for part in chosen if part.living]


class _Part(NamedTuple):
    """Vectors of which the rows to keep (None: all) are searched."""

    segment: Segment
    keep: NDArray[np.bool_] | None
    living: int  # rows to keep


def _proposals(k: int, exclude: Sequence[Set[int]]) -> int:
    """How many candidates an index is asked for, at first, to find each query's best k."""
    return _PROPOSALS * (k + max(map(len, exclude), default=0)) + _SPARE


def _part(segment: Segment, keep: NDArray[np.bool_] | None) -> _Part:
    count = len(segment) if keep is None else int(np.count_nonzero(keep))
    return _Part(segment, None if count == len(segment) else keep, count)


def _narrowed(part: _Part, rows: NDArray[np.bool_]) -> _Part:
    return _part(part.segment, rows if part.keep is None else rows & part.keep)


def _without(candidates: NDArray[np.int64], exclude: Sequence[Set[int]]) -> NDArray[np.int64]:
    """The candidates of each query, with -1 in the place of those that it mustn't find."""
    if not any(exclude):
        return candidates
    kept = candidates.copy()
    for row, unwanted in zip(kept, exclude, strict=True):
        if unwanted:
            row[np.isin(row, np.fromiter(unwanted, dtype=np.int64, count=len(unwanted)))] = -1
    return kept


def _candidates(scope: Sequence[_Part], queries: NDArray[np.float32], wanted: int) -> NDArray[np.int64]:
    """For each query the ids of its best `wanted` vectors, and of all that float32 can't tell from them.

    Returns:
        Shape (Q, C), -1 where a query has fewer.
    """
    total = sum(part.living for part in scope)
    found: list[NDArray[np.int64]] = [np.empty(0, dtype=np.int64)] * len(queries)
    margin = product_margin(queries.shape[1], queries.dtype)
    open_queries = np.arange(len(queries))
    fetch = min(total, wanted + _SPARE)
    while len(open_queries) and fetch:
        scores, ids = _best_of_all(scope, queries[open_queries], fetch)
        done = np.full(len(open_queries), fetch == total)
        if fetch < total:
            done = scores[:, wanted - 1] - scores[:, -1] > margin
        for position in np.flatnonzero(done):
            found[open_queries[position]] = ids[position]
        open_queries = open_queries[~done]
        fetch = min(total, 4 * fetch)
    widest = max(map(len, found), default=0)
    padded = np.full((len(queries), widest), -1, dtype=np.int64)
    for row, ids in zip(padded, found, strict=True):
        row[: len(ids)] = ids
    return padded


def _best_of_all(
    scope: Sequence[_Part], queries: NDArray[np.float32], fetch: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The best `fetch` of all parts together: scores and ids, (Q, fetch), best first."""
    found = [part.segment.search(queries, min(fetch, part.living), part.keep) for part in scope]
    if len(found) == 1:
        return found[0]
    scores = np.concatenate([one for one, _ in found], axis=1)
    ids = np.concatenate([one for _, one in found], axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :fetch]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(ids, order, axis=1)


def _as_mask(ids: NDArray[np.int64]) -> NDArray[np.bool_ | np.int64]:
    """For every id from 0 to the last of them, whether it is among them; the ids themselves where these lie far apart.

    Args:
        ids: Ascending.
    """
    last = int(ids[-1]) if len(ids) else 0
    if last > max(_SMALL_MASK, _SPARSE * len(ids)):
        return ids
    mask = np.zeros(last + 1, dtype=np.bool_)
    mask[ids] = True
    return mask
