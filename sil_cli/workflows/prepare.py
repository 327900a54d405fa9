"""`sil prepare-data`: from raw images, or from nothing, to prepared data sets."""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sil_cli.data.manifest import MANIFEST_FILE, Dataset, is_dataset, load_dataset
from sil_cli.data.prepare import prepare
from sil_cli.data.protocol import PROTOCOL_FILE, Protocol, read_protocol, write_protocol
from sil_cli.data.readers import READERS
from sil_cli.data.synthetic.generate import READER_VERSION, domain_names, generate_domains
from sil_cli.data.synthetic.options import SyntheticOptions
from sil_cli.errors import SilError, UsageError, did_you_mean
from sil_cli.files import staging_folder, writing
from sil_cli.reporting.samples import sample_sheet
from sil_cli.runtime import cpu_count
from sil_cli.workflows.results import PreparedDataset, PrepareResult

if TYPE_CHECKING:
    from sil_cli.runtime import Reporter
    from sil_cli.settings import DataSettings, Settings

SYNTHETIC = "synthetic"
SHEET_FILE = "samples.jpg"
SHEET_COLUMNS = 12
SHEET_ROWS = 8
MEGA = 1_000_000


def prepare_data(settings: Settings, reporter: Reporter) -> PrepareResult:
    """Read or generate data, check every image, and write manifests.

    Raises:
        UsageError: The reader is unknown or lacks its ROOT.
        SilError: The data can't be read, or other data stands in the way.
    """
    data = settings.data
    if data.reader == SYNTHETIC:
        return _prepare_generated(data, reporter)
    if data.reader not in READERS:
        raise UsageError(f"There is no reader '{data.reader}'.", did_you_mean(data.reader, [SYNTHETIC, *READERS]))
    if data.root is None:
        raise UsageError(
            f"The reader {data.reader} needs the folder of the raw data.", f"Say `sil prepare-data {data.reader} ROOT`."
        )
    reading = READERS[data.reader].read(data.root, **_reader_options(data))
    folder = data.out or data.folder / reading.name
    _refuse_other(folder, reading.reader, reading.options, force=data.force)
    dataset = prepare(reading, folder, reporter=reporter, workers=cpu_count(), max_pixels=_max_pixels(data))
    sheet = _write_sheet(folder / SHEET_FILE, _identity_rows(dataset))
    return PrepareResult(datasets=[_described(dataset)], sheet=sheet, sources=[], target=None)


def _reader_options(data: DataSettings) -> dict[str, Any]:
    """The options that this reader takes, of those that were given.

    Raises:
        UsageError: It needs one that was not given, or was given one that it does not take.
    """
    takes = inspect.signature(READERS[data.reader].read).parameters
    given = {"name": data.name, "pattern": data.pattern}
    options = {key: value for key, value in given.items() if value is not None}
    for key in options:
        if key not in takes:
            raise UsageError(f"The reader {data.reader} takes no --{key}.", "Leave it out, or choose another reader.")
    if "pattern" in takes and data.pattern is None:
        raise UsageError(
            f"The reader {data.reader} needs --pattern.",
            r"For example: --pattern '(?P<identity>\d+)_c(?P<camera>\d+)'",
        )
    return options | ({"split": data.split} if "split" in takes else {})


def _prepare_generated(data: DataSettings, reporter: Reporter) -> PrepareResult:
    if data.root is not None:
        raise UsageError("Generated data has no ROOT.", "Say where it goes with --out DIR.")
    folder = data.out or data.folder
    options = SyntheticOptions(**data.synthetic.model_dump())
    standing = _standing(folder, options)
    if standing:
        reporter.note("The same generated networks stand here already; they are kept.")
        return _generated_result(folder, standing, unchanged=True)
    names = _generate(folder, options, data, reporter)
    protocol = Protocol(sources=tuple(names[:-1] or names), target=names[-1])
    write_protocol(folder, protocol)
    datasets = [load_dataset(folder / name) for name in names]
    _write_sheet(folder / SHEET_FILE, [(dataset.name, _spread(dataset)) for dataset in datasets])
    return _generated_result(folder, datasets, unchanged=False)


def _standing(folder: Path, options: SyntheticOptions) -> list[Dataset]:
    """The generated data sets in `folder` if they are complete and were made with these options."""
    protocol = read_protocol(folder) if (folder / PROTOCOL_FILE).exists() else None
    if protocol is None:
        return []
    names = list(dict.fromkeys([*protocol.sources, protocol.target]))
    if not all(is_dataset(folder / name) for name in names):
        return []
    datasets = [load_dataset(folder / name) for name in names]
    same = all(
        dataset.info.options == options.as_dict() and dataset.info.reader_version == READER_VERSION
        for dataset in datasets
    )
    return datasets if same and len(names) == options.domains else []


def _generate(folder: Path, options: SyntheticOptions, data: DataSettings, reporter: Reporter) -> list[str]:
    """Draw all networks aside, then move them into place; returns their names."""
    names = domain_names(options.domains)
    for name in names:
        _refuse_other(folder / name, SYNTHETIC, options.as_dict(), force=data.force)
    with staging_folder(folder) as staging:
        for reading in generate_domains(staging, options, reporter, workers=cpu_count()):
            prepare(reading, staging / reading.name, reporter=reporter, workers=cpu_count())
        for name in names:
            if (folder / name).exists():
                shutil.rmtree(folder / name)
            (staging / name).rename(folder / name)
    return names


def _refuse_other(folder: Path, reader: str, options: dict[str, Any], *, force: bool) -> None:
    """Never replace what is no data set, nor, unless told to, a data set that was made otherwise."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not is_dataset(folder):
        raise SilError(f"{folder} is in the way: it holds something else.", "Choose another place with --out DIR.")
    if force:
        return
    info = load_dataset(folder).info
    if info.reader != reader or info.options != options:
        raise SilError(
            f"{folder} holds data that was prepared otherwise (reader {info.reader}).",
            "Choose another place with --out DIR, or replace it with --force.",
        )


def _generated_result(folder: Path, datasets: list[Dataset], *, unchanged: bool) -> PrepareResult:
    sheet = folder / SHEET_FILE
    return PrepareResult(
        datasets=[_described(dataset, unchanged=unchanged) for dataset in datasets],
        sheet=sheet if sheet.exists() else None,
        sources=[dataset.folder for dataset in datasets[:-1] or datasets],
        target=datasets[-1].folder,
    )


def _described(dataset: Dataset, *, unchanged: bool = False) -> PreparedDataset:
    return PreparedDataset(
        name=dataset.name,
        reader=dataset.info.reader,
        folder=dataset.folder,
        manifest=dataset.folder / MANIFEST_FILE,
        splits=dataset.info.splits,
        skipped=dataset.info.skipped,
        unchanged=unchanged,
    )


def _spread(dataset: Dataset) -> list[Path]:
    """Images of different identities, evenly over the data set."""
    firsts = {record.identity: record for record in dataset.records}
    chosen = list(firsts.values())[:: max(1, len(firsts) // SHEET_COLUMNS)][:SHEET_COLUMNS]
    return [dataset.image_path(record) for record in chosen]


def _identity_rows(dataset: Dataset) -> list[tuple[str, list[Path]]]:
    """A row an identity, for the identities with most images."""
    images: dict[str, list[Path]] = {}
    for record in dataset.records:
        images.setdefault(record.identity, []).append(dataset.image_path(record))
    most = sorted(images.items(), key=lambda item: -len(item[1]))[:SHEET_ROWS]
    return [(identity, paths[:SHEET_COLUMNS]) for identity, paths in most]


def _write_sheet(path: Path, rows: list[tuple[str, list[Path]]]) -> Path:
    with writing(path) as stream:
        sample_sheet(rows).save(stream, format="JPEG", quality=90)
    return path


def _max_pixels(data: DataSettings) -> int:
    return int(data.max_megapixels * MEGA)
