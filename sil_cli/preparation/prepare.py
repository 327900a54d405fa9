"""`sil prepare-data`: from raw images, or from nothing, to prepared data sets."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from sil_cli.data.images import drawn_tags, pixels_in
from sil_cli.data.manifest import (
    MANIFEST_FILE,
    Dataset,
    ImageRecord,
    Skipped,
    Split,
    SplitCounts,
    is_dataset,
    load_dataset,
)
from sil_cli.data.protocol import Protocol, read_protocol, write_protocol
from sil_cli.data.reading import SYNTHETIC
from sil_cli.errors import DataError, InterruptedWorkError, SilError, UsageError
from sil_cli.files import replacing, staging_folder
from sil_cli.preparation.check_images import prepare
from sil_cli.preparation.published import ComparedCount, check_counts, compare, counted_by
from sil_cli.preparation.read_raw import OWN_OPTIONS, find_raw, read_raw
from sil_cli.report.image_rows import image_rows
from sil_cli.results import Result
from sil_cli.runtime import cpu_count
from sil_cli.settings import refuse_outside
from sil_cli.synthetic.generate import READER_VERSION, all_options, domain_names, generate_domains

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from sil_cli.runtime import Reporter
    from sil_cli.settings import DataSettings, Settings, SyntheticSettings


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
    compared: list[ComparedCount] = Field(default_factory=list)


class PrepareResult(Result):
    """The outcome of `sil prepare-data`.

    Attributes:
        sheet: A picture of samples.
        sources: The data sets to learn from, where preparing decided that.
        target: The one left out; the first of them, where a protocol has several.
        targets: All that a protocol leaves out; one that has random splits is the folder of these.
        protocol: Its name.
        failed: Data sets that were recognised beside others and can't be prepared: where they lie, and why.
    """

    datasets: list[PreparedDataset]
    sheet: Path | None
    sources: list[Path]
    target: Path | None
    targets: list[Path] = Field(default_factory=list)
    protocol: str | None = None
    failed: list[Skipped] = Field(default_factory=list)


SHEET_FILE = "samples.jpg"
SHEET_COLUMNS = 12
SHEET_ROWS = 8

SheetRow = tuple[str, Dataset, list[ImageRecord]]


def prepare_data(settings: Settings, reporter: Reporter) -> PrepareResult:
    """Read or generate data, check every image, and write manifests.

    Raises:
        UsageError: The reader is unknown, lacks its ROOT, or takes no option of this kind.
        SilError: The data can't be read, or other data stands in the way.
    """
    data = settings.data
    if data.out is None:
        refuse_outside(settings, "data.folder")
    if data.reader == SYNTHETIC:
        return _prepare_generated(data, reporter)
    found = find_raw(data, reporter)
    if len(found) > 1:
        return _prepare_several(found, data, reporter)
    prepared, sheet = _prepare_raw(found[0], set(), reporter)
    return PrepareResult(datasets=[prepared], sheet=sheet, sources=[], target=None)


def _prepare_several(found: Sequence[DataSettings], data: DataSettings, reporter: Reporter) -> PrepareResult:
    """Prepare all data sets that were recognised; those that can't be are named and passed over."""
    for option, flag in (OWN_OPTIONS | {"out": "--out"}).items():
        if getattr(data, option) is not None:
            listed = "; ".join(f"{each.reader} in {each.root}" for each in found)
            raise UsageError(
                f"{data.root} holds {len(found)} data sets, which can't share one {flag}: {listed}.",
                f"Leave it out, or prepare one alone, for example: sil prepare-data {found[0].reader} {found[0].root}",
            )
    prepared: list[PreparedDataset] = []
    failed: list[Skipped] = []
    for each in found:
        try:
            dataset, _ = _prepare_raw(each, {other.name for other in prepared}, reporter)
            prepared.append(dataset)
        except InterruptedWorkError:
            raise
        except SilError as error:
            reporter.warn(f"{each.reader} in {each.root} is skipped: {error.what} {error.fix}")
            failed.append(Skipped(path=str(each.root), reason=error.what))
    if not prepared:
        raise DataError(
            f"None of the {len(found)} data sets in {data.root} can be prepared; the first: {failed[0].reason}",
            f"Prepare it on its own to see what to do: sil prepare-data {found[0].reader} {found[0].root}",
        )
    return PrepareResult(datasets=prepared, sheet=None, sources=[], target=None, failed=failed)


def _prepare_raw(data: DataSettings, taken: Container[str], reporter: Reporter) -> tuple[PreparedDataset, Path]:
    """Prepare one raw data set whose name is not taken, and draw its samples."""
    reading = read_raw(data, reporter)
    if reading.name in taken:
        raise DataError(
            f"{reading.root} would be a second data set called {reading.name}.",
            "Prepare it on its own, with --name NAME.",
        )
    folder = data.out or data.folder / reading.name
    _refuse_other(folder, reading.reader, reading.options, force=data.force)
    compared: list[ComparedCount] = []

    def accept(records: Sequence[ImageRecord]) -> None:
        left_out = len(reading.records) - len(records)
        compared.extend(compare(reading.reader, reading.options, records, left_out=left_out))
        source = counted_by(reading.reader, reading.options)
        check_counts(reading.name, source, compared, reporter, strict=data.strict)

    dataset = prepare(
        reading,
        folder,
        reporter=reporter,
        workers=cpu_count(),
        max_pixels=pixels_in(data.max_megapixels),
        accept=accept,
    )
    dataset = replace(dataset, max_pixels=pixels_in(data.max_megapixels))
    sheet = _write_sheet(folder / SHEET_FILE, _identity_rows(dataset))
    return described(dataset, compared=compared), sheet


def refuse_options_of_readers(data: DataSettings) -> None:
    """Refuse what only raw data has, as readers refuse what they don't take."""
    if data.root is not None:
        raise UsageError("Generated data has no ROOT.", "Use --out DIR to say where it goes.")
    for option, flag in (OWN_OPTIONS | {"split": "--split", "strict": "--strict"}).items():
        if getattr(data, option) != type(data).model_fields[option].default:
            raise UsageError(f"Generated data takes no {flag}.", "Leave it out, or name a reader of raw data.")


def _prepare_generated(data: DataSettings, reporter: Reporter) -> PrepareResult:
    refuse_options_of_readers(data)
    folder = data.out or data.folder
    standing = _standing(folder, data.synthetic)
    if standing:
        reporter.note("These generated networks are here already; they are kept.")
        return _generated_result(folder, standing, unchanged=True)
    names = _generate(folder, data, reporter)
    write_protocol(folder, Protocol(sources=tuple(names[:-1] or names), targets=(names[-1],)))
    datasets = [load_dataset(folder / name) for name in names]
    _write_sheet(folder / SHEET_FILE, [(dataset.name, dataset, _spread(dataset)) for dataset in datasets])
    return _generated_result(folder, datasets, unchanged=False)


def _standing(folder: Path, synthetic: SyntheticSettings) -> list[Dataset]:
    """The generated data sets in `folder` if they are complete and were drawn by these settings."""
    protocol = read_protocol(folder)
    if protocol is None:
        return []
    names = list(dict.fromkeys([*protocol.sources, *protocol.targets]))
    if len(names) != synthetic.domains or not all(is_dataset(folder / name) for name in names):
        return []
    datasets = [load_dataset(folder / name) for name in names]
    drawn_by = (synthetic.model_dump(mode="json"), READER_VERSION)
    same = all((all_options(each.info.options), each.info.reader_version) == drawn_by for each in datasets)
    return datasets if same else []


def _generate(folder: Path, data: DataSettings, reporter: Reporter) -> list[str]:
    """Draw all networks aside, then move them into place; returns their names."""
    names = domain_names(data.synthetic.domains)
    for name in names:
        _refuse_other(folder / name, SYNTHETIC, data.synthetic.model_dump(mode="json"), force=data.force)
    with staging_folder(folder) as staging:
        for reading in generate_domains(staging, data.synthetic, reporter, workers=cpu_count()):
            prepare(reading, staging / reading.name, reporter=reporter, workers=cpu_count())
        for name in names:
            if (folder / name).exists():
                shutil.rmtree(folder / name)
            (staging / name).rename(folder / name)
    return names


def _refuse_other(folder: Path, reader: str, options: dict[str, Any], *, force: bool) -> None:
    """Never replace anything but a data set, nor, unless asked to, one prepared with other options."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not is_dataset(folder):
        raise SilError(f"{folder} is in the way: it holds something else.", "Choose another place with --out DIR.")
    if force:
        return
    info = load_dataset(folder).info
    standing = all_options(info.options) if info.reader == SYNTHETIC else info.options
    if info.reader != reader or standing != options:
        raise SilError(
            f"{folder} holds data prepared with other options (reader {info.reader}).",
            "Choose another place with --out DIR, or replace it with --force.",
        )


def _generated_result(folder: Path, datasets: list[Dataset], *, unchanged: bool) -> PrepareResult:
    sheet = folder / SHEET_FILE
    return PrepareResult(
        datasets=[described(dataset, unchanged=unchanged) for dataset in datasets],
        sheet=sheet if sheet.exists() else None,
        sources=[dataset.folder for dataset in datasets[:-1] or datasets],
        target=datasets[-1].folder,
    )


def described(dataset: Dataset, *, unchanged: bool = False, compared: Sequence[ComparedCount] = ()) -> PreparedDataset:
    """A prepared data set as results tell of it."""
    return PreparedDataset(
        name=dataset.name,
        reader=dataset.info.reader,
        folder=dataset.folder,
        manifest=dataset.folder / MANIFEST_FILE,
        splits=dataset.info.splits,
        skipped=dataset.info.skipped,
        unchanged=unchanged,
        published=counted_by(dataset.info.reader, dataset.info.options),
        compared=list(compared),
    )


def _spread(dataset: Dataset) -> list[ImageRecord]:
    """Records of different identities, evenly over the data set."""
    firsts = {record.identity: record for record in dataset.records}
    return list(firsts.values())[:: max(1, len(firsts) // SHEET_COLUMNS)][:SHEET_COLUMNS]


def _identity_rows(dataset: Dataset) -> list[SheetRow]:
    """A row an identity, for the identities with most images."""
    images: dict[str, list[ImageRecord]] = {}
    for record in dataset.records:
        if not record.distractor:
            images.setdefault(record.identity, []).append(record)
    most = sorted(images.items(), key=lambda item: -len(item[1]))[:SHEET_ROWS]
    return [(identity, dataset, records[:SHEET_COLUMNS]) for identity, records in most]


def _write_sheet(path: Path, rows: list[SheetRow]) -> Path:
    images = [(label, [dataset.load_image(record) for record in records]) for label, dataset, records in rows]
    with replacing(path) as stream:
        image_rows(images).save(stream, format="JPEG", quality=90, exif=drawn_tags())
    return path
