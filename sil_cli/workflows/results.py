"""What each command returns: the documents that `--json` prints."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from sil_cli.data.manifest import Skipped, Split, SplitCounts


class Result(BaseModel):
    """A command's outcome; it checks itself when it is made."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ComparedCount(Result):
    """A count that was published, beside what was found.

    Attributes:
        split: A split, or `all` of them together.
        what: `images`, `identities` or `cameras`.
        cause: Where the two differ, what is likely wrong.
    """

    split: Split | Literal["all"]
    what: str
    expected: int
    found: int
    cause: str | None


class PreparedDataset(Result):
    """One prepared data set.

    Attributes:
        unchanged: It stood already, made from the same options.
        published: Who published counts of it; None where nobody did.
        compared: Those counts beside what was found.
    """

    name: str
    reader: str
    folder: Path
    manifest: Path
    splits: dict[Split, SplitCounts]
    skipped: list[Skipped]
    unchanged: bool = False
    published: str | None = None
    compared: list[ComparedCount] = []


class PrepareResult(Result):
    """The outcome of `sil prepare-data`.

    Attributes:
        sheet: A picture of samples.
        sources: The data sets to learn from, where preparing decided that.
        target: The one left out.
    """

    datasets: list[PreparedDataset]
    sheet: Path | None
    sources: list[Path]
    target: Path | None


class TrainResult(Result):
    """The outcome of `sil train`.

    Attributes:
        loss: Mean over the last epoch.
        images_per_second: Images with gradients, all sources together.
        selected: Which epoch's model was kept and why ("last", or "held-out: epoch 7").
        target: The data set that the protocol beside the sources leaves out; None where there is none.
    """

    run: Path
    checkpoint: Path
    sources: list[str]
    style: str
    recipe: str
    epochs: int
    iterations: int
    loss: float
    images_per_second: float
    selected: str
    fingerprint: str
    target: Path | None


class EvaluateResult(Result):
    """The outcome of `sil evaluate`; rates are in 0..1.

    Attributes:
        fused: Further models, where similarity is the mean of several models'.
        gallery: Number of gallery images, junk left out.
        dropped_queries: Queries without a valid match, left out of the means.
        trained_on_target: The model has seen the target's training split, so this is no test of generalisation.
        conditions: Under which the numbers hold.
    """

    model: Path
    fingerprint: str
    fused: list[Path] = []
    target: str
    queries: int
    gallery: int
    dropped_queries: int
    mAP: float = Field(ge=0.0, le=1.0)  # noqa: N815 - the field's name for it
    cmc: dict[int, float]
    mINP: float = Field(ge=0.0, le=1.0)  # noqa: N815
    trained_on_target: bool
    conditions: dict[str, str]
    results: Path


class FailedImage(Result):
    """An image that could not be indexed."""

    path: str
    reason: str


class IndexResult(Result):
    """The outcome of `sil index-gallery`.

    Attributes:
        example: An image worth querying with, where the data set has queries.
    """

    gallery: Path
    added: int
    unchanged: int
    replaced: int
    failed: list[FailedImage]
    total: int
    dimension: int
    index: str
    model: str
    example: Path | None


class FoundMatch(Result):
    """One gallery entry that was found.

    Attributes:
        score: Cosine similarity, -1..1.
        correct: Whether it shows the query's identity; None where either is unknown.
    """

    rank: int
    score: float
    path: str
    identity: str | None
    camera: str | None
    time: str | None
    id: int
    correct: bool | None


class QueryResult(Result):
    """The outcome of `sil query` for one image.

    Attributes:
        reranking: How the matches were put in another order than that of their scores; None where they were not.
    """

    image: Path
    gallery: Path
    identity: str | None
    camera: str | None
    reranking: str | None = None
    matches: list[FoundMatch]
    sheet: Path


class QueryResults(Result):
    """The outcome of `sil query` for several images."""

    queries: list[QueryResult]
