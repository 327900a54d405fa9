"""`sil show`: what is in prepared data sets, as a sheet, a chart and numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sil_cli.data.duplicates import find_duplicates
from sil_cli.data.manifest import Dataset, load_dataset, prepared_datasets
from sil_cli.data.measuring import measure
from sil_cli.errors import DataError, UsageError
from sil_cli.files import writing
from sil_cli.output_checks import refuse_overwriting
from sil_cli.report.show_pictures import SHEET_FORMATS, draw_sheet, write_chart
from sil_cli.report.show_report import Shown, describe, report_duplicates, style_gap
from sil_cli.report.show_results import ShowResult
from sil_cli.runtime import cpu_count

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings, ShowSettings


def show(settings: Settings, reporter: Reporter) -> ShowResult:
    """Look at prepared data sets: draw the sheet and the chart, measure and count.

    Raises:
        UsageError: No data set is named and none is prepared, one is named twice, a file type is unknown, or a
            picture would be overwritten.
        DataError: A data set can't be used, or has no picture of the split.
    """
    options = settings.show
    if options.sheet.suffix.lower() not in SHEET_FORMATS:
        raise UsageError(f"A sheet can't be written as {options.sheet.name}.", "Name it .jpg, .png or .webp.")
    datasets = _load(options.datasets, settings.data.folder)
    chart = options.sheet.with_name(f"{options.sheet.stem}-style.png")
    for out in (options.sheet, chart):
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
    described = [describe(each, split=options.split) for each in shown]
    sheet = draw_sheet(shown, identities=options.identities, seed=options.seed)
    with writing(options.sheet, users_own=settings.is_users_own("show.sheet")) as stream:
        sheet.save(stream, format=SHEET_FORMATS[options.sheet.suffix.lower()], quality=92)
    write_chart(chart, shown, domain_gap if len(shown) > 1 else described[0].camera_gap)
    return ShowResult(
        datasets=described,
        domain_gap=domain_gap if len(shown) > 1 else None,
        duplicates=report_duplicates(duplicates, records, complete=complete),
        sheet=options.sheet,
        chart=chart,
    )


def _load(named: Sequence[Path], data_folder: Path) -> list[Dataset]:
    """The data sets that are named, or all that are prepared."""
    folders = list(named) or prepared_datasets(data_folder)
    if not folders:
        raise UsageError(
            f"There is no prepared data set in {data_folder}.", "Run `sil prepare-data` first, or name a data set."
        )
    datasets = [load_dataset(folder) for folder in folders]
    names = [dataset.name for dataset in datasets]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"Two data sets are called {twice}.", "Name each once, or prepare one under another --name.")
    return datasets


def _look(dataset: Dataset, options: ShowSettings, reporter: Reporter) -> Shown:
    """Measure a data set's pictures, or a sample of them."""
    records = [record for record in dataset.records if options.split in {None, record.split}]
    if not records:
        raise DataError(f"{dataset.name} has no picture in its {options.split} split.", "Leave --split out.")
    wanted = records
    if len(records) > options.sample:
        chosen = np.random.default_rng(options.seed).choice(len(records), options.sample, replace=False)
        wanted = [records[position] for position in np.sort(chosen)]
        reporter.note(
            f"{dataset.name}: {options.sample:,} of {len(records):,} pictures are opened (--sample); colours, sizes "
            f"and duplicates are of these alone."
        )
    measures = measure(dataset, wanted, reporter=reporter, workers=cpu_count())
    if not measures.records:
        first = measures.unreadable[0]
        raise DataError(
            f"No picture of {dataset.name} can be opened, such as {first.path} ({first.reason}).",
            f"Run `sil prepare-data {dataset.info.reader}` again.",
        )
    return Shown(dataset, records, measures, sampled=len(wanted) < len(records))
