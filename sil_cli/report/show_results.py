"""What `sil show` returns."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from sil_cli.data.duplicates import Doubt
from sil_cli.data.manifest import Skipped, Split, SplitCounts
from sil_cli.results import Result


class Spread(Result):
    """How some numbers are spread: quantiles and the mean."""

    min: float
    q05: float
    median: float
    q95: float
    max: float
    mean: float


class CameraFacts(Result):
    """One camera's pictures; levels are 0..255.

    Attributes:
        camera: None where it is unknown.
        images: In the manifest.
        opened: Of those, how many were measured; what follows is None where there was none.
        brightness: Mean over pictures of their mean luma, and its standard deviation over pictures.
        contrast: Mean over pictures of the standard deviation of luma.
        colour: Means of red, green and blue.
        colour_spread: Standard deviations over pictures of their means of red, green and blue.
    """

    camera: str | None
    images: int
    identities: int
    opened: int
    brightness: float | None
    brightness_spread: float | None
    contrast: float | None
    colour: list[float] | None
    colour_spread: list[float] | None


class StyleGap(Result):
    """How far apart some groups of pictures look.

    Attributes:
        names: The groups.
        distances: Between every two, in grey levels (see `sil_cli.data.style_gap.style_distance`).
        mean_distance: Over all pairs; None where there is one group.
        explained: How much of the variance of style lies between the groups, 0..1.
    """

    names: list[str]
    distances: list[list[float]]
    mean_distance: float | None
    explained: float | None


class ShownDataset(Result):
    """One data set.

    Attributes:
        split: The report's pictures are of this split alone; None: of all.
        splits: Counted in the whole manifest.
        images: How many pictures the report is about.
        opened: How many of them were opened: all but the unreadable, unless a sample was drawn.
        sampled: Whether a sample was drawn.
        aspect: Height divided by width.
        images_per_identity: Of each split that has any.
        cameras_per_identity: Likewise; None where no camera is known.
    """

    name: str
    folder: Path
    split: Split | None
    splits: dict[Split, SplitCounts]
    images: int
    opened: int
    sampled: bool
    unreadable: list[Skipped]
    width: Spread
    height: Spread
    aspect: Spread
    images_per_identity: dict[Split, Spread]
    cameras_per_identity: dict[Split, Spread | None]
    cameras: list[CameraFacts]
    camera_gap: StyleGap


class ShownImage(Result):
    """A picture that is there more than once."""

    dataset: str
    path: str
    split: Split
    identity: str
    camera: str | None


class ShownDuplicate(Result):
    """Pictures that are the same (`exact`) or nearly (`near`), and why that is a problem."""

    kind: Literal["exact", "near"]
    doubts: list[Doubt]
    images: list[ShownImage]


class DuplicateReport(Result):
    """What is there more than once.

    Attributes:
        exact: Groups of equal pictures.
        near: Pairs of similar pictures (or of such groups).
        harmless: Of both, those of one person by one camera on one side of the test.
        by_doubt: Of both, how many have each doubt.
        doubtful: All that have one.
        complete: Whether the search for similar pictures came to its end.
    """

    exact: int
    near: int
    harmless: int
    by_doubt: dict[Doubt, int]
    doubtful: list[ShownDuplicate]
    complete: bool


class ShowResult(Result):
    """The outcome of `sil show`.

    Attributes:
        domain_gap: Between the data sets; None where there is one.
        sheet: Identities × cameras.
        chart: The style of cameras, or of data sets where there are several.
    """

    datasets: list[ShownDataset]
    domain_gap: StyleGap | None
    duplicates: DuplicateReport
    sheet: Path
    chart: Path
