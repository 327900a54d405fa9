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
from sil_cli.errors import ModelError
from sil_cli.evaluation.metrics import RECALL_STEPS, Share
from sil_cli.files import one_line, parsing, read_bytes, sha256_of_bytes, write_bytes, write_text
from sil_cli.version import VERSION

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

DETAILS_FILE = "details.json"
ARRAYS_FILE = "details.npz"
BINS = 400
_MOST_INFLATED = 2**28
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
