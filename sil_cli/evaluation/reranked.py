"""k-reciprocal re-ranking as scores that metrics can be computed from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sil_cli.errors import DataError
from sil_cli.retrieval.distance import unit_rows
from sil_cli.retrieval.rerank import K1, K2, WEIGHT, KReciprocalDistances

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sil_cli.evaluation.ranking import EmbeddingSet
    from sil_cli.runtime import Reporter


class RerankedScores:
    """Final distances of k-reciprocal re-ranking, turned round: `Scores` for `rank_matches`.

    As in the original, all queries and all gallery images are each other's neighbours, whatever their cameras; no
    identity is looked at. Junk images are not among them: they score minus infinity.

    Raises:
        DataError: A side has nothing but junk, or an embedding can't be used.
        UsageError: k1, k2 or weight is out of range.
    """

    def __init__(
        self,
        query: EmbeddingSet,
        gallery: EmbeddingSet,
        *,
        k1: int = K1,
        k2: int = K2,
        weight: float = WEIGHT,
        reporter: Reporter | None = None,
    ) -> None:
        kept_queries, self._kept = (_without_junk(side, name) for side, name in ((query, "query"), (gallery, "gallery")))
        self._images = len(gallery)
        self._place_of_query = _places(kept_queries, len(query))
        self._place_of_image = _places(self._kept, len(gallery))
        units = np.concatenate(
            [
                unit_rows(query.embeddings[kept_queries], what="query"),
                unit_rows(gallery.embeddings[self._kept], what="gallery"),
            ]
        )
        self._distances = KReciprocalDistances(
            units, len(kept_queries), k1=k1, k2=k2, weight=weight, reporter=reporter
        )

    def rows(self, queries: NDArray[np.int64]) -> NDArray[np.floating]:
        """Scores of some queries with the whole gallery, in -1..0."""
        found = self._distances.rows(self._place_of_query[queries])
        np.negative(found, out=found)
        if len(self._kept) == self._images:
            return found
        scores = np.full((len(queries), self._images), -np.inf, dtype=found.dtype)
        scores[:, self._kept] = found
        return scores

    def exact(self, query: int, images: NDArray[np.int64]) -> NDArray[np.float64]:
        """Scores of one query with some gallery images that are not junk."""
        return -self._distances.exact(int(self._place_of_query[query]), self._place_of_image[images])

    def margin(self, query: int) -> float:
        """Two scores in the query's row that differ by more than this are in the right order for certain."""
        return self._distances.margin(int(self._place_of_query[query]))


def _without_junk(side: EmbeddingSet, name: str) -> NDArray[np.int64]:
    kept = np.arange(len(side)) if side.junk is None else np.flatnonzero(~np.asarray(side.junk, dtype=bool))
    if not len(kept):
        raise DataError(f"The {name} is nothing but junk.", "Prepare a data set that has query and gallery images.")
    return kept


def _places(kept: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """For each image its place among those that are kept; -1 for the others."""
    places = np.full(count, -1, dtype=np.int64)
    places[kept] = np.arange(len(kept))
    return places
