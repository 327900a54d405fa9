"""A close look at an evaluation while the embeddings are at hand: what a report will need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from sil_cli.evaluation.curves import cmc_curve, precision_recall_curve
from sil_cli.evaluation.histograms import CameraPairs, PairStudy, camera_pairs, study_pairs
from sil_cli.evaluation.metrics import score_queries
from sil_cli.evaluation.report_files import DetailArrays, Details, DetailsRecord
from sil_cli.similarity.distance import unit_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from sil_cli.data.manifest import ImageRecord
    from sil_cli.evaluation.ranking import EmbeddingSet, MatchRanks
    from sil_cli.runtime import Reporter

PAIRS = 100_000_000
"""Pairs that histograms, camera pairs and rank lists may look at. A target with more is seen through a sample of its
queries, so that this never costs a large part of the evaluation itself."""
FEWEST_QUERIES = 200
NOTABLE = 24
"""Queries of the highest, the middle and the lowest average precision whose matches are kept in any case."""
SAMPLE = 2000
SAMPLE_OF_IDENTITY = 40


@dataclass(frozen=True)
class Subject:
    """What was tested on what.

    Attributes:
        fingerprint: The model.
        target: The data set's name.
        dataset: Its folder as it was given.
        from_here: The same, relative to the folder in which the details will lie.
        manifest_sha256: Its manifest's checksum.
        generated: Its people are drawn.
    """

    fingerprint: str
    target: str
    dataset: str
    from_here: str
    manifest_sha256: str
    generated: bool


def examine(
    subject: Subject,
    sides: tuple[EmbeddingSet, EmbeddingSet],
    ranks: MatchRanks,
    records: tuple[Sequence[ImageRecord], Sequence[ImageRecord]],
    *,
    seed: int = 0,
    pairs: int = PAIRS,
    reporter: Reporter | None = None,
) -> Details:
    """Look at an evaluation closely and keep what a report needs.

    Args:
        subject: What was tested on what.
        sides: The queries and the gallery.
        ranks: What `rank_matches` found between them; at least one query has a match.
        records: The images of both sides, in the same order.
        seed: Of all that is drawn at random.
        pairs: How many pairs may be looked at; more queries than that allows are sampled.
        reporter: Hears of the progress.

    Raises:
        ValueError: The records are not those of the sides.
    """
    query, gallery = sides
    if (len(records[0]), len(records[1])) != (len(query), len(gallery)):
        raise ValueError("each embedding needs its image's record")
    average_precision = score_queries(ranks).average_precision
    sampled = _sampled(len(ranks.queries), max(FEWEST_QUERIES, pairs // len(gallery)), seed)
    listed = np.union1d(sampled, notable(average_precision, NOTABLE))
    study = study_pairs(query, gallery, ranks.queries[listed], np.isin(listed, sampled), reporter=reporter)
    cameras = camera_pairs(query, gallery, ranks.queries[sampled], reporter=reporter)
    chosen = sample_identities(query, gallery, seed=seed)
    table = _ImageTable(*records)
    arrays = DetailArrays(
        query_image=table.of("query", ranks.queries),
        average_precision=average_precision,
        first_match=np.array([one[0] for one in ranks.ranks], dtype=np.int32),
        listed=listed.astype(np.int32),
        match_image=table.of("gallery", study.matches.ravel()).reshape(study.matches.shape),
        match_score=study.scores.astype(np.float32),
        sample_image=np.concatenate([table.of("query", chosen[0]), table.of("gallery", chosen[1])]),
        sample_embedding=np.concatenate([_halved(query, chosen[0]), _halved(gallery, chosen[1])]),
    )
    dropped = [records[0][row].path for row in ranks.dropped]
    record = _record(
        subject, ranks, study, cameras, images=table.images, dropped=dropped, seed=seed, sampled=len(sampled)
    )
    return Details(record, arrays)


def _record(
    subject: Subject,
    ranks: MatchRanks,
    study: PairStudy,
    cameras: CameraPairs,
    *,
    images: list[ImageRecord],
    dropped: list[str],
    seed: int,
    sampled: int,
) -> DetailsRecord:
    return DetailsRecord(
        fingerprint=subject.fingerprint,
        target=subject.target,
        dataset=subject.dataset,
        dataset_from_here=subject.from_here,
        manifest_sha256=subject.manifest_sha256,
        generated=subject.generated,
        queries=len(ranks.queries),
        gallery=ranks.gallery,
        dropped_queries=dropped,
        seed=seed,
        sampled_queries=sampled,
        cmc=cmc_curve(ranks).tolist(),
        precision=precision_recall_curve(ranks).tolist(),
        same_pairs=study.same.tolist(),
        different_pairs=study.different.tolist(),
        query_cameras=list(cameras.query_cameras),
        gallery_cameras=list(cameras.gallery_cameras),
        camera_map=[[None if np.isnan(value) else value for value in line] for line in cameras.mAP.tolist()],
        camera_queries=cameras.queries.tolist(),
        images=images,
    )


def notable(average_precision: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Positions of the queries of the highest, the middle and the lowest values, `count` of each, ascending."""
    order = np.argsort(-average_precision, kind="stable")
    middle = max(0, (len(order) - count) // 2)
    return np.unique(np.concatenate([order[:count], order[middle : middle + count], order[-count:]]))


def sample_identities(
    query: EmbeddingSet, gallery: EmbeddingSet, *, seed: int, limit: int = SAMPLE, each: int = SAMPLE_OF_IDENTITY
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of both sides to show: whole people, drawn at random until there are `limit` images.

    Args:
        query: The queries.
        gallery: The gallery.
        seed: Same seed, same sample.
        limit: Images in all.
        each: At most this many of one identity (distractors often share one).
    """
    images: dict[str, list[tuple[int, int]]] = {}
    for number, side in enumerate((query, gallery)):
        for row, identity in enumerate(side.identities):
            if side.junk is None or not side.junk[row]:
                images.setdefault(identity, []).append((number, row))
    rng = np.random.default_rng([seed, 1])
    names = list(images)
    chosen: list[tuple[int, int]] = []
    for at in rng.permutation(len(names)):
        own = images[names[at]]
        picked = own if len(own) <= each else [own[i] for i in sorted(rng.choice(len(own), each, replace=False))]
        if len(chosen) + len(picked) > limit:
            break
        chosen += picked
    sides = [np.array([row for number, row in chosen if number == side], dtype=np.int64) for side in (0, 1)]
    return sides[0], sides[1]


class _ImageTable:
    """The images that arrays point to, each once."""

    def __init__(self, query: Sequence[ImageRecord], gallery: Sequence[ImageRecord]) -> None:
        self._sides = {"query": query, "gallery": gallery}
        self._positions: dict[tuple[str, int], int] = {}
        self.images: list[ImageRecord] = []

    def of(self, side: Literal["query", "gallery"], rows: NDArray[np.int64]) -> NDArray[np.int32]:
        """The positions of some rows of a side; a negative row stays -1."""
        return np.array([self._position(side, row) for row in rows.tolist()], dtype=np.int32)

    def _position(self, side: str, row: int) -> int:
        if row < 0:
            return -1
        if (side, row) not in self._positions:
            self._positions[side, row] = len(self.images)
            self.images.append(self._sides[side][row])
        return self._positions[side, row]


def _sampled(queries: int, count: int, seed: int) -> NDArray[np.int64]:
    """Positions of `count` queries drawn at random, ascending; all of them where there are no more."""
    if queries <= count:
        return np.arange(queries)
    return np.sort(np.random.default_rng([seed, 0]).choice(queries, count, replace=False))


def _halved(side: EmbeddingSet, rows: NDArray[np.int64]) -> NDArray[np.float16]:
    return unit_rows(side.embeddings[rows]).astype(np.float16)
