"""What each command returns: the documents that `--json` prints."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from sil_cli.data.manifest import Skipped, Split, SplitCounts


class Result(BaseModel):
    """A command's outcome; it checks itself when it is made."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


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
        reader: The layout that it was read as.
        splits: By `train`, `query` and `gallery`.
        skipped: Files that were left out, and why.
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
        target: The one left out; the first of them, where a protocol has several.
        targets: All that a protocol leaves out; one that has random splits is the folder of these.
        protocol: Its name.
    """

    datasets: list[PreparedDataset]
    sheet: Path | None
    sources: list[Path]
    target: Path | None
    targets: list[Path] = []
    protocol: str | None = None


class TrainResult(Result):
    """The outcome of `sil train`.

    Attributes:
        method: `interleaved`, or `supervised`.
        weights: `trained`, or `averaged`: the moving average of the weights is what was kept.
        loss: Mean over the last epoch.
        images_per_second: Images with gradients, all sources together.
        selected: Which epoch's model was kept and why ("last", or "held-out: epoch 7").
        target: The data set that the protocol beside the sources leaves out; None where there is none.
        run: The run folder, which other commands take as the model.
        checkpoint: The model's weights.
        style: How new feature statistics were drawn.
        recipe: The settings that lay below all that was given.
        fingerprint: A hash of weights and preprocessing: equal ones embed alike.
    """

    run: Path
    checkpoint: Path
    sources: list[str]
    method: str
    style: str
    recipe: str
    epochs: int
    iterations: int
    loss: float
    images_per_second: float
    selected: str
    weights: str
    fingerprint: str
    target: Path | None


class FailedImage(Result):
    """An image that could not be indexed."""

    path: str
    reason: str


class IndexResult(Result):
    """The outcome of `sil index-gallery`; counts are of entries unless they say images.

    Attributes:
        added: New ones.
        unchanged: Those that stood as they are.
        replaced: Those whose files changed.
        described: Those of which something else is known now, whose files have not changed.
        absorbed: Those that became a part of a tracklet, or were its earlier self.
        embedded: Images that went through the network.
        failed: Images that could not be used.
        gone: Images whose files are there no more.
        pruned: Those of them whose entries were removed.
        warnings: What looked odd, one line each.
        example: An image worth querying with, where the data set has queries.
        calibrated: Whether the gallery's model comes with thresholds that decide.
        option: What names this gallery in another command.
        total: Entries that the gallery holds now.
        index: How it is searched.
        model: The fingerprint of the model whose embeddings it holds.
    """

    gallery: Path
    added: int
    unchanged: int
    replaced: int
    described: int = 0
    absorbed: int = 0
    embedded: int = 0
    failed: list[FailedImage]
    gone: list[str] = []
    pruned: int = 0
    warnings: list[str] = []
    total: int
    dimension: int
    index: str
    model: str
    example: Path | None
    calibrated: bool = False
    option: str = ""
