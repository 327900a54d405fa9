"""Ranks of true matches after k-reciprocal re-ranking, by the rules of every other evaluation.

As in the original, all queries and all gallery images are each other's neighbours, whatever their cameras, and no
identity is looked at: the test is taken as a whole, so a query's ranks depend on the other queries. Junk images take
no part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sil_cli.evaluation.pairs import PairRules, check_sides
from sil_cli.evaluation.ranking import MatchRanks
from sil_cli.evaluation.streaming import CHUNK_BYTES
from sil_cli.runtime import SilentReporter
from sil_cli.similarity.distance import unit_rows
from sil_cli.similarity.rerank import K1, K2, WEIGHT, KReciprocalDistances

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sil_cli.evaluation.pairs import EmbeddingSet
    from sil_cli.runtime import Reporter


def rank_reranked(
    query: EmbeddingSet,
    gallery: EmbeddingSet,
    *,
    k1: int = K1,
    k2: int = K2,
    weight: float = WEIGHT,
    chunk_bytes: int = CHUNK_BYTES,
    reporter: Reporter | None = None,
) -> MatchRanks:
    """Find the ranks of all true matches by the final distance of `KReciprocalDistances`, ties in gallery order.

    Args:
        query: The queries.
        gallery: The gallery, of the same dimension and precision.
        k1: As in `KReciprocalDistances`.
        k2: Likewise.
        weight: Likewise, λ.
        chunk_bytes: Memory for the distances of some queries; the result doesn't depend on it.
        reporter: Hears of the progress.

    Raises:
        DataError: A side is empty, the sides don't fit together, or an embedding can't be used.
        UsageError: k1, k2 or weight is out of range.
    """
    check_sides(query, gallery)
    reporter = reporter or SilentReporter()
    rules = PairRules(query, gallery)
    found = {index: rules.matches(index) for index in rules.queries.tolist()}
    scored = np.array([index for index, matches in found.items() if len(matches)], dtype=np.int64)
    dropped = np.array([index for index, matches in found.items() if not len(matches)], dtype=np.int64)
    if not len(scored):
        return MatchRanks(scored, (), dropped, rules.gallery_size)
    images = np.flatnonzero(~gallery.junk_flags())
    units = np.concatenate(
        [
            unit_rows(query.embeddings[rules.queries], what="query"),
            unit_rows(gallery.embeddings[images], what="gallery"),
        ]
    )
    distances = KReciprocalDistances(units, len(rules.queries), k1=k1, k2=k2, weight=weight, reporter=reporter)
    ranks = []
    size = max(1, chunk_bytes // (len(images) * units.itemsize))
    with reporter.task("Ranking", total=len(scored), unit="queries") as task:
        for start in range(0, len(scored), size):
            chunk = scored[start : start + size]
            places = np.searchsorted(rules.queries, chunk)
            for index, place, row in zip(chunk.tolist(), places.tolist(), distances.rows(places), strict=True):
                matches = np.searchsorted(images, found[index])
                strangers = row.astype(np.float64)
                strangers[np.searchsorted(images, rules.not_strangers(index))] = np.inf
                ranks.append(_ranks(strangers, matches, place, distances))
            task.advance(len(chunk))
    return MatchRanks(scored, tuple(ranks), dropped, rules.gallery_size)


def _ranks(
    strangers: NDArray[np.float64], matches: NDArray[np.int64], query: int, distances: KReciprocalDistances
) -> NDArray[np.int64]:
    """Ranks of one query's `matches`, ascending.

    Args:
        strangers: Shape (G,), distances of all images, infinite where one is no stranger; changed.
        matches: Positions of the matches.
        query: The query's row in `distances`.
        distances: Says again, exactly, what is too near to tell.
    """
    own = distances.exact(query, matches)
    order = np.lexsort((matches, own))
    matches, own = matches[order], own[order]
    near = _near(strangers, own, distances.margin(query))
    strangers[near] = distances.exact(query, near)
    ahead_of_last = np.sort(strangers[strangers <= own[-1]])
    ahead = np.searchsorted(ahead_of_last, own, side="left")
    for match in np.flatnonzero(np.searchsorted(ahead_of_last, own, side="right") > ahead):
        ahead[match] += np.count_nonzero(strangers[: matches[match]] == own[match])
    return ahead + np.arange(1, len(own) + 1)


def _near(values: NDArray[np.float64], ordered: NDArray[np.float64], margin: float) -> NDArray[np.int64]:
    """Positions of the values within `margin` of any of some ascending numbers."""
    place = np.searchsorted(ordered, values)
    below, above = ordered[np.maximum(place - 1, 0)], ordered[np.minimum(place, len(ordered) - 1)]
    return np.flatnonzero(np.minimum(np.abs(values - below), np.abs(values - above)) <= margin)
