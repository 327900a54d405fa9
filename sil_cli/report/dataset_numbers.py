"""The numbers of `sil show`: counts, looks, how far cameras lie apart, and what is there more than once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import ValidationError

from sil_cli.data.duplicates import DOUBTS, Doubt
from sil_cli.data.manifest import SPLITS, Skipped, Split, SplitCounts
from sil_cli.data.measuring import explained_share, style_distances
from sil_cli.data.reading import SYNTHETIC
from sil_cli.results import Result
from sil_cli.settings import SyntheticSettings
from sil_cli.synthetic.generate import all_options

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sil_cli.data.duplicates import Duplicate
    from sil_cli.data.manifest import Dataset, DatasetInfo, ImageRecord
    from sil_cli.data.measuring import Measures

UNKNOWN = "unknown"
"""What a camera without a name is called."""


class Quantiles(Result):
    """Quantiles of some numbers, and their mean."""

    min: float
    q05: float
    median: float
    q95: float
    max: float
    mean: float


class CameraFacts(Result):
    """One camera's images; levels are 0..255.

    Attributes:
        camera: None where it is unknown.
        images: In the manifest.
        opened: Of those, how many were measured; what follows is None where there was none.
        brightness: Mean over images of their mean luma, and its standard deviation over images.
        contrast: Mean over images of the standard deviation of luma.
        colour: Means of red, green and blue.
        colour_spread: Standard deviations over images of their means of red, green and blue.
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
    """How far apart some groups of images look.

    Attributes:
        names: The groups.
        distances: Between every two, in grey levels (see `sil_cli.data.measuring.style_distance`).
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
        generated_gap: Of generated networks, how strong each part of what tells them apart is, by its name in the
            settings `data.synthetic.gap`; None for others.
        split: The report's images are of this split alone; None: of all.
        splits: Counted in the whole manifest.
        images: How many images the report is about.
        opened: How many of them were opened: all but the unreadable, unless a sample was drawn.
        sampled: Whether a sample was drawn.
        aspect: Height divided by width.
        images_per_identity: Of each split that has any.
        cameras_per_identity: Likewise; None where no camera is known.
    """

    name: str
    folder: Path
    generated_gap: dict[str, float] | None
    split: Split | None
    splits: dict[Split, SplitCounts]
    images: int
    opened: int
    sampled: bool
    unreadable: list[Skipped]
    width: Quantiles
    height: Quantiles
    aspect: Quantiles
    images_per_identity: dict[Split, Quantiles]
    cameras_per_identity: dict[Split, Quantiles | None]
    cameras: list[CameraFacts]
    camera_gap: StyleGap


class ShownImage(Result):
    """An image that is there more than once."""

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
        exact: Groups of equal images.
        near: Pairs of similar images (or of such groups).
        harmless: Of both, those of one person by one camera on one side of the test.
        by_doubt: Of both, how many have each doubt.
        doubtful: All that have one.
        complete: Whether the search for similar images came to its end.
    """

    exact: int
    near: int
    harmless: int
    by_doubt: dict[Doubt, int]
    doubtful: list[ShownDuplicate]
    complete: bool


@dataclass(frozen=True)
class Shown:
    """One data set that was looked at.

    Attributes:
        records: Those that the report is about.
        measures: Of the images that were opened.
        sampled: Not all of them were opened.
    """

    dataset: Dataset
    records: list[ImageRecord]
    measures: Measures
    sampled: bool

    @property
    def cameras(self) -> list[str | None]:
        """All cameras, in the order of their names as people count them; None last, where there is one."""
        return sorted({record.camera for record in self.records}, key=_counted)

    def rows_of(self, camera: str | None) -> np.ndarray:
        """The rows of `measures` that show this camera's images."""
        return np.array([record.camera == camera for record in self.measures.records], dtype=bool)


def describe(shown: Shown, *, split: Split | None) -> ShownDataset:
    """All numbers about one data set."""
    measures = shown.measures
    wide, high = measures.sizes[:, 0], measures.sizes[:, 1]
    cameras = [_camera_facts(shown, camera) for camera in shown.cameras]
    measured = [camera for camera in shown.cameras if shown.rows_of(camera).any()]
    named = [record for record in shown.records if record.is_named]
    images = {each: Counter(record.identity for record in named if record.split == each) for each in SPLITS}
    places = {(record.split, record.identity, record.camera) for record in named if record.camera is not None}
    seen_by = {each: Counter(identity for part, identity, _ in places if part == each) for each in SPLITS}
    return ShownDataset(
        name=shown.dataset.name,
        folder=shown.dataset.folder,
        generated_gap=_generated_gap(shown.dataset.info),
        split=split,
        splits=shown.dataset.info.splits,
        images=len(shown.records),
        opened=len(measures.records),
        sampled=shown.sampled,
        unreadable=measures.unreadable,
        width=quantiles(wide),
        height=quantiles(high),
        aspect=quantiles(high / wide),
        images_per_identity={each: quantiles(counts.values()) for each, counts in images.items() if counts},
        cameras_per_identity={each: quantiles(counts.values()) for each, counts in seen_by.items() if counts},
        cameras=cameras,
        camera_gap=style_gap(
            [camera_name(camera) for camera in measured],
            [measures.styles[shown.rows_of(camera)] for camera in measured],
        ),
    )


def _generated_gap(info: DatasetInfo) -> dict[str, float] | None:
    if info.reader != SYNTHETIC:
        return None
    try:
        return SyntheticSettings.model_validate(all_options(info.options)).strengths
    except ValidationError:
        return None


def style_gap(names: Sequence[str], styles: Sequence[np.ndarray]) -> StyleGap:
    """The gap between groups of styles."""
    distances = style_distances(styles)
    pairs = distances[np.triu_indices(len(names), k=1)]
    explained = explained_share(styles)
    return StyleGap(
        names=list(names),
        distances=distances.round(3).tolist(),
        mean_distance=round(float(pairs.mean()), 3) if len(pairs) else None,
        explained=None if explained is None else round(explained, 4),
    )


def report_duplicates(found: Sequence[Duplicate], records: Sequence[ImageRecord], *, complete: bool) -> DuplicateReport:
    """Count duplicates by kind and by doubt, and name those that have one."""
    doubts = Counter(doubt for duplicate in found for doubt in duplicate.doubts)
    return DuplicateReport(
        exact=sum(duplicate.kind == "exact" for duplicate in found),
        near=sum(duplicate.kind == "near" for duplicate in found),
        harmless=sum(not duplicate.doubts for duplicate in found),
        by_doubt={doubt: doubts[doubt] for doubt in DOUBTS},
        doubtful=[
            ShownDuplicate(
                kind=duplicate.kind,
                doubts=list(duplicate.doubts),
                images=[
                    ShownImage(
                        dataset=records[member].domain,
                        path=records[member].path,
                        split=records[member].split,
                        identity=records[member].identity,
                        camera=records[member].camera,
                    )
                    for member in duplicate.members
                ],
            )
            for duplicate in found
            if duplicate.doubts
        ],
        complete=complete,
    )


def quantiles(values: Iterable[float]) -> Quantiles:
    """Quantiles and mean of at least one number."""
    numbers = np.array(list(values), dtype=np.float64)
    low, q05, median, q95, high = (round(float(value), 4) for value in np.quantile(numbers, (0, 0.05, 0.5, 0.95, 1)))
    return Quantiles(min=low, q05=q05, median=median, q95=q95, max=high, mean=round(float(numbers.mean()), 4))


def camera_name(camera: str | None) -> str:
    """A camera's name for people."""
    return UNKNOWN if camera is None else camera


def _camera_facts(shown: Shown, camera: str | None) -> CameraFacts:
    mine = [record for record in shown.records if record.camera == camera]
    rows = shown.rows_of(camera)
    opened = int(rows.sum())
    colours = shown.measures.styles[rows, :3].astype(np.float64)
    return CameraFacts(
        camera=camera,
        images=len(mine),
        identities=len({record.identity for record in mine if record.is_named}),
        opened=opened,
        brightness=_rounded(shown.measures.brightness[rows].mean()) if opened else None,
        brightness_spread=_rounded(shown.measures.brightness[rows].std()) if opened else None,
        contrast=_rounded(shown.measures.contrast[rows].mean()) if opened else None,
        colour=[_rounded(value) for value in colours.mean(axis=0)] if opened else None,
        colour_spread=[_rounded(value) for value in colours.std(axis=0)] if opened else None,
    )


def _rounded(value: float) -> float:
    return round(float(value), 2)


def _counted(camera: str | None) -> tuple[bool, int, str]:
    """Sorts `c2` before `c10`."""
    digits = "".join(letter for letter in camera or "" if letter.isascii() and letter.isdigit())
    return camera is None, int(digits[:18] or 0), camera or ""
