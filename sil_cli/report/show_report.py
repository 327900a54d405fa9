"""The numbers of `sil show`: from measures to what it reports."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.data.duplicates import DOUBTS
from sil_cli.data.manifest import SPLITS
from sil_cli.data.style_gap import explained_share, style_distances
from sil_cli.report.show_results import (
    CameraFacts,
    DuplicateReport,
    ShownDataset,
    ShownDuplicate,
    ShownImage,
    Spread,
    StyleGap,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sil_cli.data.duplicates import Duplicate
    from sil_cli.data.manifest import Dataset, ImageRecord, Split
    from sil_cli.data.measuring import Measures

UNKNOWN = "unknown"
"""What a camera without a name is called."""


@dataclass(frozen=True)
class Shown:
    """One data set that was looked at.

    Attributes:
        records: Those that the report is about.
        measures: Of the pictures that were opened.
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
        """The rows of `measures` that show this camera's pictures."""
        return np.array([record.camera == camera for record in self.measures.records], dtype=bool)


def describe(shown: Shown, *, split: Split | None) -> ShownDataset:
    """All numbers about one data set."""
    measures = shown.measures
    wide, high = measures.sizes[:, 0], measures.sizes[:, 1]
    cameras = [_camera_facts(shown, camera) for camera in shown.cameras]
    measured = [camera for camera in shown.cameras if shown.rows_of(camera).any()]
    by_split = {each: [record for record in shown.records if record.split == each] for each in SPLITS}
    return ShownDataset(
        name=shown.dataset.name,
        folder=shown.dataset.folder,
        split=split,
        splits=shown.dataset.info.splits,
        images=len(shown.records),
        opened=len(measures.records),
        sampled=shown.sampled,
        unreadable=measures.unreadable,
        width=spread(wide),
        height=spread(high),
        aspect=spread(high / wide),
        images_per_identity={
            each: spread(counts) for each, records in by_split.items() if (counts := _images_of_each(records))
        },
        cameras_per_identity={
            each: spread(counts) for each, records in by_split.items() if (counts := _cameras_of_each(records))
        },
        cameras=cameras,
        camera_gap=style_gap(
            [camera_name(camera) for camera in measured],
            [measures.styles[shown.rows_of(camera)] for camera in measured],
        ),
    )


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
                images=[_image(records[member]) for member in duplicate.members],
            )
            for duplicate in found
            if duplicate.doubts
        ],
        complete=complete,
    )


def spread(values: Iterable[float] | np.ndarray) -> Spread:
    """Quantiles and mean of at least one number."""
    numbers = np.asarray(values if isinstance(values, np.ndarray) else list(values), dtype=np.float64)
    low, q05, median, q95, high = (round(float(value), 4) for value in np.quantile(numbers, (0, 0.05, 0.5, 0.95, 1)))
    return Spread(min=low, q05=q05, median=median, q95=q95, max=high, mean=round(float(numbers.mean()), 4))


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
        identities=len({record.identity for record in mine if not (record.distractor or record.junk)}),
        opened=opened,
        brightness=_rounded(shown.measures.brightness[rows].mean()) if opened else None,
        brightness_spread=_rounded(shown.measures.brightness[rows].std()) if opened else None,
        contrast=_rounded(shown.measures.contrast[rows].mean()) if opened else None,
        colour=[_rounded(value) for value in colours.mean(axis=0)] if opened else None,
        colour_spread=[_rounded(value) for value in colours.std(axis=0)] if opened else None,
    )


def _rounded(value: float) -> float:
    return round(float(value), 2)


def _named(records: Iterable[ImageRecord]) -> list[ImageRecord]:
    return [record for record in records if not (record.distractor or record.junk)]


def _images_of_each(records: Sequence[ImageRecord]) -> list[int]:
    return list(Counter(record.identity for record in _named(records)).values())


def _cameras_of_each(records: Sequence[ImageRecord]) -> list[int]:
    """How many cameras saw each identity; none where no camera is known."""
    cameras: dict[str, set[str]] = {}
    for record in _named(records):
        if record.camera is not None:
            cameras.setdefault(record.identity, set()).add(record.camera)
    return [len(seen) for seen in cameras.values()]


def _image(record: ImageRecord) -> ShownImage:
    return ShownImage(
        dataset=record.domain, path=record.path, split=record.split, identity=record.identity, camera=record.camera
    )


def _counted(camera: str | None) -> tuple[bool, int, str]:
    """Sorts `c2` before `c10`."""
    digits = "".join(letter for letter in camera or "" if letter.isascii() and letter.isdigit())
    return camera is None, int(digits[:18] or 0), camera or ""
