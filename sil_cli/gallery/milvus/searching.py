"""Finding the best rows of a collection with the promises of the local store.

Milvus proposes candidates; their scores are computed here from their vectors, so they are the same float64 inner
products that the local store gives. The plan is the local store's, too: few rows that pass a filter are fetched and
compared here, more are searched through in all cells of the index, and only where most of them pass is the index
asked for its quick answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sil_cli.gallery.local.vector_search import GATHERED_ROWS, plan_search
from sil_cli.gallery.milvus.collection import MOST_ROWS, Hits
from sil_cli.gallery.milvus.expressions import EVERYTHING, among_ids
from sil_cli.gallery.milvus.rows import ID_BITS, VECTOR
from sil_cli.similarity.distance import cosines, product_margin

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence, Set

    from numpy.typing import NDArray

    from sil_cli.gallery.interface import Ranked
    from sil_cli.gallery.milvus.collection import Collection, Consistency
    from sil_cli.gallery.milvus.indexes import IndexKind

_MOST_VALUES = 2**22  # of vectors in one message
_SPARE = 8  # candidates fetched beyond the wanted ones, so that a tie at the cut is seen
_PROPOSALS = 4  # candidates asked of coarse codes or of some cells for each wanted one


class MilvusSearcher:
    """Searches a collection.

    Attributes:
        effort: Cells that a quick search looks into; 0 before anything was measured, then every search is exact.
    """

    def __init__(self, collection: Collection, kind: IndexKind, *, total: int, effort: int = 0) -> None:
        self.effort = effort
        self._collection = collection
        self._kind = kind
        self._total = total

    def __len__(self) -> int:
        return self._total

    def ids(self) -> NDArray[np.int64]:
        """Some ids at random, at least 1,000 where there are so many: enough to measure an index by."""
        return sample_ids(self._collection, self._total, 1_000, seed=0)

    def vectors(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors of the given ids, shape (N, D); every id must be there."""
        wanted = ids.tolist()
        rows = self._collection.rows(sorted(set(wanted)), [VECTOR], consistency="Bounded")
        found = np.array([rows[one][VECTOR] for one in wanted], dtype=np.float32)
        return found.reshape(len(ids), self._collection.dimension)

    def search(
        self,
        queries: NDArray[np.float32],
        k: int,
        condition: str | None,
        exclude: Sequence[Set[int]],
        *,
        exact: bool = False,
    ) -> list[Ranked]:
        """Ids and scores of each query's best k.

        Args:
            queries: Shape (Q, D), unit rows.
            k: At least 1.
            condition: On the rows that may be found, in Milvus's words; None or '' for all.
            exclude: For each query the ids that it mustn't find.
            exact: Look at every row.
        """
        condition = condition or EVERYTHING
        kept = self._total if condition == EVERYTHING else self._collection.count(condition, consistency="Bounded")
        quick = bool(self._kind.cells) and 0 < self.effort < self._kind.cells and not exact
        plan = plan_search(kept, self._total, index=quick, takes_filter=True)
        if not kept:
            return [[] for _ in queries]
        if plan == "gather" or kept <= GATHERED_ROWS:
            found = self._gathered(queries, k, kept, condition, exclude)
        elif plan == "index":
            found = self._through_index(queries, k, kept, condition, exclude)
        else:
            found = self._exact(queries, k, kept, condition, exclude)
        short = [at for at, one in enumerate(found) if len(one) < min(k, kept - len(exclude[at]))]
        if short:  # the server looked at an older state: ask it for the present one
            now = self._collection.count(condition)
            again = self._exact(queries[short], k, now, condition, [exclude[at] for at in short], "Strong")
            for at, ranked in zip(short, again, strict=True):
                found[at] = ranked
        return found

    def _gathered(
        self, queries: NDArray[np.float32], k: int, kept: int, condition: str, exclude: Sequence[Set[int]]
    ) -> list[Ranked]:
        """By fetching every row that passes."""
        found: list[Ranked] = [[] for _ in queries]
        for part in self._fetched(condition, kept):
            ids = np.array([row["id"] for row in part], dtype=np.int64)
            vectors = np.array([row[VECTOR] for row in part], dtype=np.float32)
            for at, (query, unwanted) in enumerate(zip(queries, exclude, strict=True)):
                found[at] = _best(found[at] + _ranked(query, ids, vectors, unwanted, k), k)
        return found

    def _fetched(self, condition: str, kept: int) -> Iterable[list[dict[str, Any]]]:
        """Ids and vectors of all rows that pass: at once where one message holds them."""
        if kept <= GATHERED_ROWS and kept * self._collection.dimension <= _MOST_VALUES:
            return [self._collection.some(condition, [VECTOR], 2 * GATHERED_ROWS, consistency="Bounded")]
        return self._collection.parts(condition, [VECTOR])

    def _exact(
        self,
        queries: NDArray[np.float32],
        k: int,
        kept: int,
        condition: str,
        exclude: Sequence[Set[int]],
        consistency: Consistency = "Bounded",
    ) -> list[Ranked]:
        """By asking for more until what is left out is surely worse; by fetching all where Milvus gives no more."""
        wanted = k + max(map(len, exclude), default=0)
        margin = product_margin(queries.shape[1], queries.dtype)
        coarse = self._kind.type == "IVF_SQ8"
        fetch = min(kept, wanted * (_PROPOSALS if coarse else 1) + _SPARE)
        found: list[Ranked] = [[] for _ in queries]
        waiting = list(range(len(queries)))
        while waiting and fetch <= MOST_ROWS:
            everything = self._kind.searching(self._kind.cells)
            hits = self._collection.search(queries[waiting], fetch, condition, everything, consistency=consistency)
            unsure = []
            for at, one in zip(waiting, hits, strict=True):
                found[at] = _ranked(queries[at], one.ids, one.vectors, exclude[at], k)
                if not coarse and fetch < kept and not _is_sure(one, wanted, margin):
                    unsure.append(at)
            waiting = unsure
            fetch = min(kept, 4 * fetch)
        if waiting:
            gathered = self._gathered(queries[waiting], k, kept, condition, [exclude[at] for at in waiting])
            for at, ranked in zip(waiting, gathered, strict=True):
                found[at] = ranked
        return found

    def _through_index(
        self, queries: NDArray[np.float32], k: int, kept: int, condition: str, exclude: Sequence[Set[int]]
    ) -> list[Ranked]:
        """As the local store: under a filter, twice the effort must give the same, or the query is searched exactly."""
        effort = round(self.effort * self._total / kept)
        found = self._proposed(queries, k, effort, condition, exclude)
        enough = [len(one) >= min(k, kept - len(unwanted)) for one, unwanted in zip(found, exclude, strict=True)]
        if condition != EVERYTHING:
            more = self._proposed(queries, k, 2 * effort, condition, exclude)
            enough = [good and one == other for good, one, other in zip(enough, found, more, strict=True)]
        doubtful = [at for at, good in enumerate(enough) if not good]
        if doubtful:
            again = self._exact(queries[doubtful], k, kept, condition, [exclude[at] for at in doubtful])
            for at, ranked in zip(doubtful, again, strict=True):
                found[at] = ranked
        return found

    def _proposed(
        self, queries: NDArray[np.float32], k: int, effort: int, condition: str, exclude: Sequence[Set[int]]
    ) -> list[Ranked]:
        wanted = min(MOST_ROWS, _PROPOSALS * (k + max(map(len, exclude), default=0)) + _SPARE)
        hits = self._collection.search(queries, wanted, condition, self._kind.searching(effort))
        return [
            _ranked(query, one.ids, one.vectors, unwanted, k)
            for query, one, unwanted in zip(queries, hits, exclude, strict=True)
        ]


def search_among(
    searcher: MilvusSearcher,
    queries: NDArray[np.float32],
    k: int,
    ids: NDArray[np.int64],
    exclude: Sequence[Set[int]],
) -> list[Ranked]:
    """Ids and scores of each query's best k of some entries, compared one by one."""
    found: list[Ranked] = [[] for _ in queries]
    for start in range(0, len(ids), GATHERED_ROWS):
        some = searcher.search(queries, k, among_ids(ids[start : start + GATHERED_ROWS].tolist()), exclude)
        found = [_best(one + other, k) for one, other in zip(found, some, strict=True)]
    return found


def sample_ids(collection: Collection, total: int, count: int, *, seed: int) -> NDArray[np.int64]:
    """About `count` ids at random, never fewer where there are so many.

    Ids are hashes, spread evenly: those in a span of numbers are a random sample, and no list of all is needed.
    """
    if total <= 2 * count:
        parts = collection.parts(EVERYTHING, [])
        return np.array([row["id"] for part in parts for row in part], dtype=np.int64)
    width = int(2**ID_BITS * 1.5 * count / total)
    start = int(np.random.default_rng(seed).integers(0, 2**ID_BITS - width))
    rows = collection.some(f"id >= {start} and id < {start + width}", [], MOST_ROWS)
    if len(rows) < count:
        rows = collection.some(EVERYTHING, [], count)
    return np.sort(np.array([row["id"] for row in rows], dtype=np.int64))


def _ranked(
    query: NDArray[np.float32],
    ids: NDArray[np.int64],
    vectors: NDArray[np.float32],
    unwanted: Set[int],
    k: int,
) -> Ranked:
    """The best k candidates by their exact scores, equal ones by id."""
    if not len(ids):
        return []
    scores = cosines(query, vectors)
    return _best([one for one in zip(ids.tolist(), scores.tolist(), strict=True) if one[0] not in unwanted], k)


def _best(ranked: Ranked, k: int) -> Ranked:
    return sorted(ranked, key=lambda one: (-one[1], one[0]))[:k]


def _is_sure(hits: Hits, wanted: int, margin: float) -> bool:
    """Whether nothing beyond these candidates can be among the best: float32 tells the last from the last wanted."""
    return len(hits.scores) > wanted and bool(hits.scores[wanted - 1] - hits.scores[-1] > margin)
