"""`sil show`: what is in prepared data sets, as a sheet, a chart and numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.data.duplicates import find_duplicates
from sil_cli.data.images import pixels_in
from sil_cli.data.manifest import Dataset, load_dataset, prepared_datasets
from sil_cli.data.measuring import CameraLook, clothes_colours, measure, told_apart
from sil_cli.errors import DataError, UsageError, one_line
from sil_cli.files import write_bytes
from sil_cli.output_checks import refuse_overwriting
from sil_cli.report.canvas import is_wanted, require_sheet_format, write_sheet
from sil_cli.report.charts.styles import StyleColumn, style_chart_png
from sil_cli.report.dataset_numbers import (
    DuplicateReport,
    Shown,
    ShownDataset,
    StyleGap,
    camera_name,
    describe,
    report_duplicates,
    style_gap,
)
from sil_cli.report.gap_advice import GapAdvice, advise, read_study
from sil_cli.report.identity_sheet import MOST_CAMERAS, choose_people, identity_sheet, people_that_fit
from sil_cli.results import Result
from sil_cli.runtime import cpu_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sil_cli.runtime import Reporter
    from sil_cli.settings import DataSettings, Settings, ShowSettings


class ShowResult(Result):
    """The outcome of `sil show`.

    Attributes:
        domain_gap: Between the data sets; None where there is one.
        advice: What the gap suggests for learning from these; None where there is one, or too few people to tell.
        sheet: Identities × cameras; None where it was not wanted, or could not be written.
        chart: The style of cameras, or of data sets where there are several; None likewise.
    """

    datasets: list[ShownDataset]
    domain_gap: StyleGap | None
    advice: GapAdvice | None
    duplicates: DuplicateReport
    sheet: Path | None
    chart: Path | None


def show(settings: Settings, reporter: Reporter) -> ShowResult:
    """Look at prepared data sets: draw the sheet and the chart, measure and count.

    Raises:
        UsageError: No data set is named and none is prepared, one is named twice, a file type is unknown, or an
            image would be overwritten.
        DataError: A data set can't be used, or has no image of the split.
    """
    options = settings.show
    require_sheet_format(options.sheet)
    datasets = _load(options.datasets, settings.data)
    chart = options.sheet.with_name(f"{options.sheet.stem}-style.png")
    for out in (options.sheet, chart) if is_wanted(options.sheet) else ():
        refuse_overwriting(out, (path for dataset in datasets for path in dataset.files()), option="--out")
    shown = [_look(dataset, options, reporter) for dataset in datasets]
    records = [record for each in shown for record in each.measures.records]
    duplicates, complete = find_duplicates(
        records,
        np.concatenate([each.measures.digests for each in shown]),
        np.concatenate([each.measures.dhashes for each in shown]),
        np.concatenate([each.measures.thumbnails for each in shown]),
    )
    domain_gap = style_gap([each.dataset.name for each in shown], [each.measures.styles for each in shown])
    clothes_gap = told_apart([clothes_colours(each.measures) for each in shown])
    described = [describe(each, split=options.split) for each in shown]
    is_drawn = is_wanted(options.sheet)
    if is_drawn:
        people = min(options.identities, people_that_fit(shown, options.sheet))
        if people < options.identities:
            reporter.note(f"{options.sheet} has room for {people:,} people of each data set.")
        tables = [choose_people(each, identities=people, seed=options.seed) for each in shown]
        try:
            write_sheet(options.sheet, identity_sheet(tables), users_own=settings.is_users_own("show.sheet"))
            write_bytes(chart, _draw_styles(shown, domain_gap if len(shown) > 1 else described[0].camera_gap))
        except BrokenPipeError:
            raise
        except OSError as error:
            is_drawn = False
            reporter.warn(
                f"The sheet and the chart were not written to {options.sheet}: {one_line(error)}. Name another file "
                "with --out FILE, or leave them out with --out none."
            )
    return ShowResult(
        datasets=described,
        domain_gap=domain_gap if len(shown) > 1 else None,
        advice=advise(domain_gap.explained, clothes_gap, read_study()),
        duplicates=report_duplicates(duplicates, records, complete=complete),
        sheet=options.sheet if is_drawn else None,
        chart=chart if is_drawn else None,
    )


def _load(named: Sequence[Path], data: DataSettings) -> list[Dataset]:
    """The data sets that are named, or all that are prepared."""
    folders = list(named) or prepared_datasets(data.folder)
    if not folders:
        raise UsageError(
            f"There is no prepared data set in {data.folder}.", "Run `sil prepare-data` first, or name a data set."
        )
    datasets = [load_dataset(folder, max_pixels=pixels_in(data.max_megapixels)) for folder in folders]
    names = [dataset.name for dataset in datasets]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(
            f"Two data sets are called {twice}.", "Name each once, or prepare one with `sil prepare-data --name NAME`."
        )
    return datasets


def _look(dataset: Dataset, options: ShowSettings, reporter: Reporter) -> Shown:
    """Measure a data set's images, or a sample of them."""
    records = [record for record in dataset.records if options.split in {None, record.split}]
    if not records:
        raise DataError(f"{dataset.name} has no images in its {options.split} split.", "Leave --split out.")
    wanted = records
    if len(records) > options.sample:
        chosen = np.random.default_rng(options.seed).choice(len(records), options.sample, replace=False)
        wanted = [records[position] for position in np.sort(chosen)]
        reporter.note(
            f"{dataset.name}: opening {options.sample:,} of {len(records):,} images (--sample); colours, sizes "
            f"and duplicates are those of this sample."
        )
    measures = measure(dataset, wanted, reporter=reporter, workers=cpu_count())
    if not measures.records:
        first = measures.unreadable[0]
        raise DataError(
            f"None of the images of {dataset.name} can be opened, such as {first.path} ({first.reason}).",
            f"Run `sil prepare-data {dataset.info.reader}` again.",
        )
    return Shown(dataset, records, measures, sampled=len(wanted) < len(records))


def _draw_styles(shown: Sequence[Shown], gap: StyleGap) -> bytes:
    """The styles of one data set's cameras, or of several data sets, beside each other."""
    alone = shown[0] if len(shown) == 1 else None
    columns = _camera_columns(alone) if alone else [_dataset_column(each) for each in shown]
    columns = sorted(columns, key=lambda each: -each.look.images)[:MOST_CAMERAS]
    columns.sort(key=lambda each: gap.names.index(each.name))
    places = [gap.names.index(column.name) for column in columns]
    what = "camera" if alone else "data set"
    note = f"{len(columns)} of {len(gap.names)} {what}s are drawn. " if len(columns) < len(gap.names) else ""
    if gap.mean_distance is not None:
        note += f"Mean style distance {gap.mean_distance:.1f} grey levels"
        note += f"; the {what} explains {gap.explained:.0%} of the variance of style." if gap.explained else "."
    title = f"Cameras of {alone.dataset.name}" if alone else "Data sets side by side"
    distances = np.array(gap.distances).reshape(len(gap.names), -1)[np.ix_(places, places)]
    return style_chart_png(columns, distances, title=title, note=note)


def _camera_columns(shown: Shown) -> list[StyleColumn]:
    measures = shown.measures
    columns = []
    for camera in shown.cameras:
        if camera in measures.cameras:
            rows = shown.rows_of(camera)
            colours, brightness = measures.styles[rows, :3], measures.brightness[rows]
            columns.append(StyleColumn(camera_name(camera), measures.cameras[camera], colours, brightness))
    return columns


def _dataset_column(shown: Shown) -> StyleColumn:
    measures = shown.measures
    looks = list(measures.cameras.values())
    weights = np.array([look.images for look in looks], dtype=np.float64) / len(measures.records)
    mean_image, histogram = (
        np.tensordot(weights, np.stack(parts), axes=1)
        for parts in ([look.mean_image for look in looks], [look.histogram for look in looks])
    )
    look = CameraLook(len(measures.records), mean_image, histogram)
    return StyleColumn(shown.dataset.name, look, measures.styles[:, :3], measures.brightness)
