"""The pictures of `sil show`: who is on the sheet, and what is on the chart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from sil_cli.data.images import ImageError, load_image
from sil_cli.files import replacing
from sil_cli.report.identity_sheet import TILE, Cell, PersonRow, Section, identity_sheet
from sil_cli.report.show_report import camera_name
from sil_cli.report.style_chart import StyleColumn, write_style_chart

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sil_cli.data.manifest import Dataset, ImageRecord
    from sil_cli.report.show_report import Shown
    from sil_cli.report.show_results import StyleGap

SHEET_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}
MOST_CAMERAS = 16
"""More columns than these are not drawn: the cameras with most pictures are."""

IN_A_CELL = 2
"""Pictures of one person by one camera that are drawn."""


def draw_sheet(shown: Sequence[Shown], *, identities: int, seed: int) -> Image.Image:
    """Draw a section for each data set."""
    return identity_sheet([_section(each, identities, seed) for each in shown])


def write_chart(path: Path, shown: Sequence[Shown], gap: StyleGap) -> None:
    """Draw the styles of the cameras of one data set, or of several data sets, beside each other."""
    alone = shown[0] if len(shown) == 1 else None
    columns = _camera_columns(alone) if alone else [_dataset_column(each) for each in shown]
    columns = sorted(sorted(columns, key=lambda each: -each.images)[:MOST_CAMERAS], key=lambda each: each.name)
    columns.sort(key=lambda each: gap.names.index(each.name))
    places = [gap.names.index(column.name) for column in columns]
    what = "camera" if alone else "data set"
    note = f"{len(columns)} of {len(gap.names)} {what}s are drawn. " if len(columns) < len(gap.names) else ""
    if gap.mean_distance is not None:
        note += f"Mean style distance {gap.mean_distance:.1f} grey levels"
        note += f"; the {what} explains {gap.explained:.0%} of the variance of style." if gap.explained else "."
    title = f"Cameras of {alone.dataset.name}" if alone else "Data sets side by side"
    with replacing(path) as stream:
        distances = np.array(gap.distances).reshape(len(gap.names), -1)[np.ix_(places, places)]
        write_style_chart(stream, columns, distances, title=title, note=note)


def _section(shown: Shown, identities: int, seed: int) -> Section:
    by_place: dict[tuple[str, str | None], list[ImageRecord]] = {}
    for record in shown.records:
        if not (record.distractor or record.junk):
            by_place.setdefault((record.identity, record.camera), []).append(record)
    cameras = _most_used(shown)
    people = seen_by_most(list(by_place), identities, seed)
    more = f", {len(cameras)} of them drawn" if len(cameras) < len(shown.cameras) else ""
    known = "no camera known" if shown.cameras == [None] else f"{len(shown.cameras)} cameras{more}"
    everyone = len({identity for identity, _ in by_place})
    return Section(
        title=shown.dataset.name,
        note=f"{len(people)} of {everyone:,} people, those whom most cameras saw; {known}",
        cameras=[camera_name(camera) for camera in cameras],
        rows=[
            PersonRow(identity, [_cell(shown.dataset, by_place.get((identity, camera), [])) for camera in cameras])
            for identity in people
        ],
    )


def seen_by_most(places: Sequence[tuple[str, str | None]], count: int, seed: int) -> list[str]:
    """The identities that most cameras saw; among equals the seed draws.

    Args:
        places: (identity, camera), each once.
        count: How many to choose.
        seed: Same seed, same people.

    Returns:
        Their names, sorted.
    """
    seen: dict[str, int] = {}
    for identity, _ in places:
        seen[identity] = seen.get(identity, 0) + 1
    names = sorted(seen)
    shuffled = [names[place] for place in np.random.default_rng(seed).permutation(len(names))]
    return sorted(sorted(shuffled, key=lambda identity: -seen[identity])[:count])


def _most_used(shown: Shown) -> list[str | None]:
    """The cameras with most pictures, in the order of their names."""
    images = {camera: sum(record.camera == camera for record in shown.records) for camera in shown.cameras}
    kept = set(sorted(images, key=lambda camera: -images[camera])[:MOST_CAMERAS])
    return [camera for camera in shown.cameras if camera in kept]


def _cell(dataset: Dataset, records: Sequence[ImageRecord]) -> Cell:
    """The first and the last picture: the two that are farthest apart in time, as a rule."""
    chosen = [*records[:1], *records[-1:]] if len(records) > 1 else records
    return Cell([(_thumbnail(dataset, record), record.split) for record in chosen], more=len(records) - len(chosen))


def _thumbnail(dataset: Dataset, record: ImageRecord) -> Image.Image | None:
    try:
        image = load_image(dataset.image_path(record), box=record.box)
    except ImageError:
        return None  # the report names it
    image.thumbnail((2 * TILE[0], 2 * TILE[1]), Image.Resampling.BOX)
    return image


def _camera_columns(shown: Shown) -> list[StyleColumn]:
    columns = []
    for camera in shown.cameras:
        look = shown.measures.cameras.get(camera)
        if look is not None:
            rows = shown.rows_of(camera)
            columns.append(
                StyleColumn(
                    name=camera_name(camera),
                    images=look.images,
                    mean_image=look.mean_image,
                    histogram=look.histogram,
                    colours=shown.measures.styles[rows, :3],
                    brightness=shown.measures.brightness[rows],
                )
            )
    return columns


def _dataset_column(shown: Shown) -> StyleColumn:
    looks = list(shown.measures.cameras.values())
    weights = np.array([look.images for look in looks], dtype=np.float64) / len(shown.measures.records)
    return StyleColumn(
        name=shown.dataset.name,
        images=len(shown.measures.records),
        mean_image=np.tensordot(weights, np.stack([look.mean_image for look in looks]), axes=1),
        histogram=np.tensordot(weights, np.stack([look.histogram for look in looks]), axes=1),
        colours=shown.measures.styles[:, :3],
        brightness=shown.measures.brightness,
    )
