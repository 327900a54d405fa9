"""What pairs of images score: histograms of same and different pairs, the first matches, mAP of each camera pair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.evaluation.metrics import score_queries
from sil_cli.evaluation.pairs import EmbeddingSet
from sil_cli.evaluation.ranking import rank_matches
from sil_cli.evaluation.streaming import CHUNK_BYTES
from sil_cli.runtime import SilentReporter
from sil_cli.similarity.distance import cosines, product_margin, unit_rows

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from numpy.typing import NDArray

    from sil_cli.runtime import Reporter

BINS = 400
"""Of a histogram over cosines -1..1. Bin b counts the scores from -1 + b/200 to below -1 + (b+1)/200; the last one
holds 1 too."""
TOP = 10
CAMERAS = 24
_BYTES_A_PAIR = 24  # held at a time for each: its score, flags, its bin, and copies while counting


@dataclass(frozen=True)
class PairStudy:
    """Scores of valid pairs, a query and a gallery image that is not ignored for it.

    Attributes:
        same: (BINS,) pairs of one person, by score.
        different: (BINS,) pairs of two people.
        matches: (n, TOP) gallery rows in rank order for each query that was asked for, -1 where there are fewer.
        scores: (n, TOP) their cosines, 0 where there is none.
    """

    same: NDArray[np.int64]
    different: NDArray[np.int64]
    matches: NDArray[np.int64]
    scores: NDArray[np.float64]


@dataclass(frozen=True)
class CameraPairs:
    """mAP by the camera of the query and the camera of the gallery images.

    Attributes:
        query_cameras: A of them, those of most queries, in order of their names.
        gallery_cameras: B of them.
        mAP: (A, B), NaN where no query of the one camera has a match in the other.
        queries: (A, B), how many queries each mean is over.
    """

    query_cameras: tuple[str, ...]
    gallery_cameras: tuple[str, ...]
    mAP: NDArray[np.float64]  # noqa: N815 - the field's name for it
    queries: NDArray[np.int64]


def study_pairs(
    query: EmbeddingSet,
    gallery: EmbeddingSet,
    rows: NDArray[np.int64],
    counted: NDArray[np.bool_],
    *,
    chunk_bytes: int = CHUNK_BYTES,
    reporter: Reporter | None = None,
) -> PairStudy:
    """Histograms and first matches in one pass over chunks of a matrix product.

    The matches stand in the exact order of `rank_matches`; which images are ignored follows its rules. A score in
    the histogram is the product's, so one that lies within a rounding error of a bin's edge may be counted on
    either side.

    Args:
        query: The queries.
        gallery: The gallery.
        rows: Which queries to look at, shape (n,).
        counted: Which of them the histograms count, shape (n,).
        chunk_bytes: Memory for scores.
        reporter: Hears of the progress.
    """
    relations = _Relations(query, gallery)
    query_units = unit_rows(query.embeddings[rows], what="query")
    gallery_units = unit_rows(gallery.embeddings, what="gallery")
    margin = product_margin(query_units.shape[1], query_units.dtype)
    same_counts, all_counts = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)
    matches = np.full((len(rows), TOP), -1, dtype=np.int64)
    cosine = np.zeros((len(rows), TOP))
    size = max(1, chunk_bytes // (len(gallery) * query_units.itemsize))
    part = max(1, chunk_bytes // (len(gallery) * _BYTES_A_PAIR))
    with (reporter or SilentReporter()).task("Looking at pairs", len(rows), "queries") as task:
        for start in range(0, len(rows), size):
            # One product of many queries is much quicker than many of a few; flags and counts take more memory.
            product = query_units[start : start + size] @ gallery_units.T
            for first in range(start, start + len(product), part):
                some = slice(first, min(first + part, start + len(product)))
                scores = product[some.start - start : some.stop - start]
                same, valid = relations.of(rows[some])
                all_counts += _histogram(scores[valid & counted[some, None]])
                same_counts += _histogram(scores[same & counted[some, None]])
                scores[~valid] = -np.inf
                for at, row_scores in enumerate(scores, start=first):
                    found, exact = _first(row_scores, query_units[at], gallery_units, margin)
                    matches[at, : len(found)], cosine[at, : len(found)] = found, exact
                task.advance(len(scores))
    return PairStudy(same=same_counts, different=all_counts - same_counts, matches=matches, scores=cosine)


def camera_pairs(
    query: EmbeddingSet,
    gallery: EmbeddingSet,
    rows: NDArray[np.int64],
    *,
    reporter: Reporter | None = None,
) -> CameraPairs:
    """The mAP of the queries of each camera against the gallery images of each camera alone.

    Images whose camera is unknown are left out. Where there are more than `CAMERAS` cameras on a side, those with
    the most images are taken.

    Args:
        query: The queries.
        gallery: The gallery.
        rows: Which queries to look at.
        reporter: Hears of the progress.
    """
    of_queries = np.array([query.cameras[row] or "" for row in rows])
    of_gallery = np.array([camera or "" for camera in gallery.cameras])
    first, second = _most_frequent(of_queries), _most_frequent(of_gallery)
    means = np.full((len(first), len(second)), np.nan)
    numbers = np.zeros((len(first), len(second)), dtype=np.int64)
    labelled = np.isin(of_queries, first)
    asked = subset(query, rows[labelled])
    of_asked = of_queries[labelled]
    with (reporter or SilentReporter()).task("Comparing cameras", len(second) if first else 0, "cameras") as task:
        for column, camera in enumerate(second if first else ()):
            there = subset(gallery, np.flatnonzero(of_gallery == camera))
            scores = score_queries(rank_matches(asked, there))
            for line, own in enumerate(first):
                chosen = scores.average_precision[of_asked[scores.queries] == own]
                numbers[line, column] = len(chosen)
                if len(chosen):
                    means[line, column] = chosen.mean()
            task.advance()
    return CameraPairs(tuple(first), tuple(second), means, numbers)


def subset(side: EmbeddingSet, rows: NDArray[np.int64]) -> EmbeddingSet:
    """Some images of a side, in the order given."""
    return EmbeddingSet(
        embeddings=side.embeddings[rows],
        identities=[side.identities[row] for row in rows],
        cameras=[side.cameras[row] for row in rows],
        junk=None if side.junk is None else [side.junk[row] for row in rows],
        keys=None if side.keys is None else [side.keys[row] for row in rows],
    )


class _Relations:
    """Which gallery images show the person of a query, and which count for it, as matrices."""

    def __init__(self, query: EmbeddingSet, gallery: EmbeddingSet) -> None:
        self._identities = _codes(list(query.identities), list(gallery.identities))
        # An unknown camera equals no other, not even another unknown one.
        self._cameras = _codes(
            [each or _Unknown() for each in query.cameras], [each or _Unknown() for each in gallery.cameras]
        )
        keys = None if query.keys is None or gallery.keys is None else (list(query.keys), list(gallery.keys))
        self._keys = _codes(*keys) if keys else None
        self._counts = np.ones(len(gallery), bool) if gallery.junk is None else ~np.asarray(gallery.junk, dtype=bool)

    def of(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(n, N) valid pairs of one person, and (n, N) all valid pairs."""
        same = _equal(self._identities, rows)
        valid = ~(same & _equal(self._cameras, rows)) & self._counts
        if self._keys is not None:
            valid &= ~_equal(self._keys, rows)
        return same & valid, valid


class _Unknown:
    """Equal to nothing but itself."""


def _codes(*sides: Sequence[Hashable]) -> tuple[NDArray[np.int32], ...]:
    """Whole numbers that are equal where the names are."""
    known: dict[Hashable, int] = {}
    return tuple(np.array([known.setdefault(each, len(known)) for each in side], dtype=np.int32) for side in sides)


def _equal(codes: tuple[NDArray[np.int32], ...], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    query, gallery = codes
    return np.equal(query[rows, None], gallery)


def _histogram(scores: NDArray[np.floating]) -> NDArray[np.int64]:
    bins = ((scores + 1) * (BINS / 2)).astype(np.int64)
    return np.bincount(np.clip(bins, 0, BINS - 1), minlength=BINS)


def _first(
    scores: NDArray[np.floating], query: NDArray[np.floating], gallery: NDArray[np.floating], margin: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The first rows in exact order with their cosines; `scores` hold -inf where an image is ignored."""
    count = min(TOP, int(np.isfinite(scores).sum()))
    if count == 0:
        return np.empty(0, np.int64), np.empty(0)
    last = np.partition(scores, len(scores) - count)[len(scores) - count]
    near = np.flatnonzero(scores >= last - scores.dtype.type(margin))
    exact = cosines(query, gallery[near])
    order = np.lexsort((near, -exact))[:count]
    return near[order], exact[order]


def _most_frequent(cameras: NDArray[np.str_]) -> list[str]:
    names, counts = np.unique(cameras[cameras != ""], return_counts=True)
    return sorted(names[np.argsort(-counts, kind="stable")[:CAMERAS]].tolist())
