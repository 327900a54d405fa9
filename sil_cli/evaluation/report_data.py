"""What an evaluation leaves for a report: `details.json` and `details.npz` beside `results.json`.

They are small whatever the size of the target: curves, histograms, mAP of each camera pair, the average precision of
every query, the first ten matches of many of them, and a sample of the embeddings. All is by cosine similarity.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_serializer, model_validator

from sil_cli.data.manifest import ImageRecord, first_problem
from sil_cli.errors import ModelError, one_line
from sil_cli.evaluation.metrics import RECALL_STEPS, Share, cmc_curve, precision_recall_curve, score_queries
from sil_cli.evaluation.open_set import Verifier
from sil_cli.evaluation.ranking import rank_matches
from sil_cli.evaluation.streaming import CHUNK_BYTES, RetrievalTest, run_test
from sil_cli.files import parsing, read_bytes, sha256_of_bytes, write_bytes, write_text
from sil_cli.similarity.distance import unit_rows
from sil_cli.similarity.expansion import best_matches
from sil_cli.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from sil_cli.evaluation.pairs import EmbeddingSet
    from sil_cli.evaluation.ranking import MatchRanks
    from sil_cli.evaluation.streaming import Chunk
    from sil_cli.runtime import Reporter


DETAILS_FILE = "details.json"
ARRAYS_FILE = "details.npz"
_MOST_INFLATED = 2**28
BINS = 400
"""Of a histogram over cosines -1..1. Bin b counts the scores from -1 + b/200 to below -1 + (b+1)/200; the last one
holds 1 too."""
TOP = 10
"""Matches of a rank list."""
Count = Annotated[int, Field(ge=0)]


class ReportRecord(BaseModel):
    """What `details.json` says.

    Attributes:
        program: The version of this program that wrote it.
        fingerprint: The model.
        target: The data set's name.
        dataset: Its folder as it was given.
        dataset_from_here: The same, relative to this file's folder.
        manifest_sha256: Its manifest's checksum.
        generated: Its people are drawn, not photographed.
        queries: Queries that were scored.
        gallery: Gallery images without junk.
        dropped_queries: Paths of the queries without a valid match.
        seed: Of all that is drawn at random.
        sampled_queries: How many queries the histograms and camera pairs are over; drawn when fewer than `queries`.
        cmc: Share of queries whose first match stands at rank k or before, k from 1.
        precision: Mean interpolated precision at recalls 0, 0.01, ..., 1 (`precision_recall_curve`).
        same_pairs: Valid pairs of one person by score, in equal bins over -1..1.
        different_pairs: Valid pairs of two people likewise.
        query_cameras: The rows of `camera_map`.
        gallery_cameras: Its columns.
        camera_map: mAP of the queries of one camera among the gallery images of one; None where there is no match.
        camera_queries: How many queries each is over.
        searched: Gallery images that identification searched; None in files of earlier versions.
        identification: (FPIR, FNIR) of identification at rank 1, by ascending FPIR.
        images: All images that the arrays point to.
        arrays_sha256: Checksum of `details.npz`; set when the two are written.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["sil-details"] = "sil-details"
    version: Literal[1] = 1
    program: str = VERSION
    fingerprint: str
    target: str
    dataset: str
    dataset_from_here: str
    manifest_sha256: str
    generated: bool
    queries: int = Field(ge=1)
    gallery: int = Field(ge=1)
    dropped_queries: list[str]
    seed: int
    sampled_queries: int = Field(ge=1)
    cmc: list[Share] = Field(min_length=1)
    precision: list[Share] = Field(min_length=RECALL_STEPS + 1, max_length=RECALL_STEPS + 1)
    same_pairs: list[Count] = Field(min_length=BINS, max_length=BINS)
    different_pairs: list[Count] = Field(min_length=BINS, max_length=BINS)
    query_cameras: list[str]
    gallery_cameras: list[str]
    camera_map: list[list[Share | None]]
    camera_queries: list[list[Count]]
    searched: Count | None = None
    identification: list[tuple[Share, Share]] = Field(default_factory=list)
    images: list[ImageRecord]
    arrays_sha256: str = ""

    @field_serializer("images")
    def _briefly(self, images: list[ImageRecord]) -> list[dict[str, Any]]:
        return [image.model_dump(mode="json", exclude_defaults=True) for image in images]

    @model_validator(mode="after")
    def _is_a_table(self) -> Self:
        shape = [len(self.gallery_cameras)] * len(self.query_cameras)
        for table in (self.camera_map, self.camera_queries):
            if [len(line) for line in table] != shape:
                raise ValueError("the camera pairs are no table")
        return self


@dataclass(frozen=True)
class ReportArrays:
    """What `details.npz` holds; Q scored queries, n with a rank list, s sampled embeddings.

    Attributes:
        query_image: (Q,) int32, positions in `ReportRecord.images`.
        average_precision: (Q,) float64.
        first_match: (Q,) int32, rank of the first true match.
        listed: (n,) int32, positions in `query_image` of the queries whose first matches are here.
        match_image: (n, 10) int32, positions in `images`, in rank order; -1 where there are fewer.
        match_score: (n, 10) float32, their cosines.
        sample_image: (s,) int32, positions in `images`.
        sample_embedding: (s, D) float16, unit length.
    """

    query_image: NDArray[np.int32]
    average_precision: NDArray[np.float64]
    first_match: NDArray[np.int32]
    listed: NDArray[np.int32]
    match_image: NDArray[np.int32]
    match_score: NDArray[np.float32]
    sample_image: NDArray[np.int32]
    sample_embedding: NDArray[np.float16]


@dataclass(frozen=True)
class ReportData:
    """The two files together."""

    record: ReportRecord
    arrays: ReportArrays


def write_report_data(folder: Path, data: ReportData) -> None:
    """Write `details.npz`, then `details.json` that seals it with a checksum.

    Raises:
        OSError: The folder can't be written.
    """
    stream = io.BytesIO()
    np.savez_compressed(stream, **{field.name: getattr(data.arrays, field.name) for field in fields(ReportArrays)})
    content = stream.getvalue()
    record = data.record.model_copy(update={"arrays_sha256": sha256_of_bytes(content)})
    write_bytes(folder / ARRAYS_FILE, content)
    write_text(folder / DETAILS_FILE, record.model_dump_json() + "\n")


def read_report_data(folder: Path) -> ReportData:
    """Read what `write_report_data` wrote.

    Raises:
        ModelError: A file is missing, damaged, of another version, or the two don't belong together.
    """
    fix = "Run `sil evaluate` again."
    path = folder / DETAILS_FILE
    try:
        record = ReportRecord.model_validate_json(read_bytes(path))
        content = read_bytes(folder / ARRAYS_FILE, most=_MOST_INFLATED)
    except FileNotFoundError as error:
        raise ModelError(f"{folder} has no report data of its evaluation ({error.filename} is missing).", fix) from None
    except OSError as error:
        raise ModelError(f"{error.filename or path} can't be read: {one_line(error)}.", fix) from error
    except ValidationError as error:
        raise ModelError(f"{path} is not one that this version reads ({first_problem(error)}).", fix) from error
    if sha256_of_bytes(content) != record.arrays_sha256:
        raise ModelError(f"{folder / ARRAYS_FILE} does not belong to {DETAILS_FILE} beside it.", fix)
    with parsing(lambda why: ModelError(f"{folder / ARRAYS_FILE} can't be read: {why}.", fix)):
        return ReportData(record, _read_arrays(content, record))


def _read_arrays(content: bytes, record: ReportRecord) -> ReportArrays:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(member.file_size for member in archive.infolist()) > _MOST_INFLATED:
            raise ValueError(f"it would take more than {_MOST_INFLATED:,} bytes")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = ReportArrays(**{field.name: file[field.name] for field in fields(ReportArrays)})
    except MemoryError:  # NumPy gives room for what a header says; Python's parser can't take thousands of brackets
        raise ValueError("a header says what can't be") from None
    queries, listed, sample = len(arrays.query_image), len(arrays.listed), len(arrays.sample_image)
    shapes = {
        "query_image": (record.queries,),
        "average_precision": (queries,),
        "first_match": (queries,),
        "match_image": (listed, TOP),
        "match_score": (listed, TOP),
        "sample_embedding": (sample, arrays.sample_embedding.shape[-1]),
    }
    for name, shape in shapes.items():
        if getattr(arrays, name).shape != shape:
            raise ValueError(f"{name} has shape {getattr(arrays, name).shape}, not {shape}")
    for name, low, high in (
        ("query_image", 0, len(record.images)),
        ("match_image", -1, len(record.images)),
        ("sample_image", 0, len(record.images)),
        ("listed", 0, queries),
    ):
        values = getattr(arrays, name)
        if values.size and not (values.min() >= low and values.max() < high):
            raise ValueError(f"{name} points outside")
    return arrays


PAIRS = 100_000_000
"""Pairs that histograms, camera pairs and rank lists may look at. A target with more is seen through a sample of its
queries, so that this never costs a large part of the evaluation itself."""
FEWEST_QUERIES = 200
NOTABLE = 24
"""Queries of the highest, the middle and the lowest average precision whose matches are kept in any case."""
SAMPLE = 2000
SAMPLE_OF_IDENTITY = 40
CAMERAS = 24
"""Cameras of a side that are compared."""


def make_report_data(
    about: dict[str, Any],
    sides: tuple[EmbeddingSet, EmbeddingSet],
    ranks: MatchRanks,
    records: tuple[Sequence[ImageRecord], Sequence[ImageRecord]],
    *,
    seed: int = 0,
    pairs: int = PAIRS,
    reporter: Reporter,
) -> ReportData:
    """Look at an evaluation closely and keep what a report needs.

    Args:
        about: What was tested on what: the fields of `ReportRecord` from `fingerprint` to `generated`.
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
    others = np.setdiff1d(notable(average_precision, NOTABLE), sampled)
    listed = np.concatenate([sampled, others])
    same, different, matches, scores = study_pairs(
        query.subset(ranks.queries[listed]), gallery, counted=len(sampled), reporter=reporter
    )
    order = np.argsort(listed)
    chosen = sample_identities(query, gallery, seed=seed)
    table = _ImageTable(*records)
    arrays = ReportArrays(
        query_image=table.of("query", ranks.queries),
        average_precision=average_precision,
        first_match=np.array([one[0] for one in ranks.ranks], dtype=np.int32),
        listed=listed[order].astype(np.int32),
        match_image=table.of("gallery", matches[order].ravel()).reshape(matches.shape),
        match_score=scores[order].astype(np.float32),
        sample_image=np.concatenate([table.of("query", chosen[0]), table.of("gallery", chosen[1])]),
        sample_embedding=np.concatenate(
            [unit_rows(side.embeddings[rows]).astype(np.float16) for side, rows in zip(sides, chosen, strict=True)]
        ),
    )
    record = ReportRecord(
        **about,
        queries=len(ranks.queries),
        gallery=ranks.gallery,
        dropped_queries=[records[0][row].path for row in ranks.dropped],
        seed=seed,
        sampled_queries=len(sampled),
        cmc=cmc_curve(ranks).tolist(),
        precision=precision_recall_curve(ranks).tolist(),
        same_pairs=same.tolist(),
        different_pairs=different.tolist(),
        **compare_cameras(query.subset(ranks.queries[sampled]), gallery, reporter=reporter),
        images=table.images,
    )
    return ReportData(record, arrays)


def study_pairs(
    query: EmbeddingSet, gallery: EmbeddingSet, *, counted: int, chunk_bytes: int = CHUNK_BYTES, reporter: Reporter
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Histograms and first matches by cosine, in one pass; `PairRules` says which images are ignored.

    The matches stand in the exact order of `rank_matches`. A pair of different people whose score lies within a
    rounding error of a bin's edge, or 2e-6, may be counted on either side.

    Args:
        query: The n queries to look at.
        gallery: The gallery.
        counted: How many of them the histograms count, from the first.
        chunk_bytes: Memory for scores.
        reporter: Hears of the progress.

    Returns:
        Pairs of one person and of different people by score, both (BINS,); for each query its first matches in rank
        order, (n, TOP) gallery rows, -1 where there are fewer; and their cosines, 0 where there is none.
    """
    test = RetrievalTest(query, gallery)
    verifier, first = Verifier(test, queries=counted), _FirstMatches(test)
    run_test(test, [verifier, first], chunk_bytes=chunk_bytes, reporter=reporter)
    same, different = verifier.result().histograms(np.linspace(-1, 1, BINS + 1))
    return same, different, *first.result()


class _FirstMatches:
    """A listener that keeps the first gallery images of each query: of other people, and its own matches among them."""

    def __init__(self, test: RetrievalTest) -> None:
        self._test = test
        self._rows = [each[:TOP] for each in test.matches]
        self._scores = [each[:TOP] for each in test.match_scores]

    def take(self, chunk: Chunk) -> None:
        """Look for better ones in a chunk."""
        for at, (scores, error) in enumerate(zip(chunk.scores, chunk.errors.tolist(), strict=True)):
            place = chunk.first + at
            found, exact = best_matches(chunk.queries.rows[at], chunk.block.rows, scores, TOP, 2 * error)
            rows = np.concatenate([self._rows[place], chunk.start + found])
            values = np.concatenate([self._scores[place], exact])
            order = np.lexsort((rows, -values))[:TOP]
            self._rows[place], self._scores[place] = rows[order], values[order]

    def result(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Rows and cosines, both (n, TOP), once all chunks have been taken."""
        rows = np.full((len(self._rows), TOP), -1, dtype=np.int64)
        scores = np.zeros(rows.shape)
        for place, (found, exact) in enumerate(zip(self._rows, self._scores, strict=True)):
            rows[place, : len(found)], scores[place, : len(found)] = found, exact
        return rows, scores


def compare_cameras(query: EmbeddingSet, gallery: EmbeddingSet, *, reporter: Reporter) -> dict[str, Any]:
    """The mAP of the queries of each camera against the gallery images of each camera alone.

    Images whose camera is unknown are left out. Where there are more than `CAMERAS` cameras on a side, those with
    the most images are taken, in the order of their names.

    Returns:
        The fields of `ReportRecord` that say so.
    """
    of_queries, of_gallery = (np.array([camera or "" for camera in side.cameras]) for side in (query, gallery))
    own, others = _most_frequent(of_queries), _most_frequent(of_gallery)
    means: list[list[float | None]] = [[None] * len(others) for _ in own]
    numbers = [[0] * len(others) for _ in own]
    labelled = np.isin(of_queries, own)
    asked, of_asked = query.subset(np.flatnonzero(labelled)), of_queries[labelled]
    with reporter.task("Comparing cameras", len(others) if own else 0, "cameras") as task:
        for column, camera in enumerate(others if own else ()):
            scores = score_queries(rank_matches(asked, gallery.subset(np.flatnonzero(of_gallery == camera))))
            for line, name in enumerate(own):
                chosen = scores.average_precision[of_asked[scores.queries] == name]
                numbers[line][column] = len(chosen)
                means[line][column] = float(chosen.mean()) if len(chosen) else None
            task.advance()
    return {"query_cameras": own, "gallery_cameras": others, "camera_map": means, "camera_queries": numbers}


def _most_frequent(cameras: NDArray[np.str_]) -> list[str]:
    names, counts = np.unique(cameras[cameras != ""], return_counts=True)
    return sorted(names[np.argsort(-counts, kind="stable")[:CAMERAS]].tolist())


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
