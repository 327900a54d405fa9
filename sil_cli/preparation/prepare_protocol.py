"""`sil prepare-data --protocol`: every data set that a protocol needs, prepared just as it pins them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sil_cli.data.archives import is_archive, unpacked
from sil_cli.data.manifest import is_dataset, load_dataset
from sil_cli.data.plan import DatasetPlan, ProtocolPlan, read_plan
from sil_cli.data.protocol import Protocol, read_protocol, write_protocol
from sil_cli.data.readers import READERS
from sil_cli.data.readers.layout import check_root, children_of
from sil_cli.data.readers.recognise import recognise_all
from sil_cli.data.reading import SYNTHETIC
from sil_cli.defaults import split_folder
from sil_cli.errors import DataError, UsageError, did_you_mean
from sil_cli.preparation.prepare import PreparedDataset, PrepareResult, described, prepare_data
from sil_cli.preparation.published import check_counts, compare
from sil_cli.preparation.read_raw import OWN_OPTIONS, RAW_FOLDER
from sil_cli.settings import refuse_outside
from sil_cli.synthetic.generate import domain_names

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sil_cli.runtime import Reporter
    from sil_cli.settings import DataSettings, Settings


def plan_of(name: str, data: DataSettings) -> tuple[ProtocolPlan, list[str]]:
    """A protocol by its name or file, and the names of the cases that are meant.

    Raises:
        UsageError: There is no such protocol or case, or the file is not one.
    """
    return read_plan(name, domain_names(data.synthetic.domains))


def prepare_protocol(settings: Settings, reporter: Reporter) -> PrepareResult:
    """Prepare what the protocol `data.protocol` needs and no more; what stands as it pins it is kept.

    Where one case is meant, `protocol.toml` is written too, and `sil train` and `sil evaluate` follow it.

    Raises:
        UsageError: The protocol or its ROOT is not usable, or an option is given that it pins.
        DataError: A data set is missing below ROOT, or is not the one that is pinned.
    """
    refuse_outside(settings, "data.folder")
    name = settings.data.protocol
    if name is None:
        raise UsageError("No protocol is named.", "Run `sil prepare-data --protocol p3-market1501 ROOT`.")
    plan, cases = plan_of(name, settings.data)
    _refuse_what_it_pins(settings.data)
    if plan.generated:
        data = settings.data.model_copy(update={"reader": SYNTHETIC})
        prepared = prepare_data(settings.model_copy(update={"data": data}), reporter).datasets
    else:
        prepared = _prepare_all(settings, plan, cases, reporter)
    if len(cases) > 1:
        return PrepareResult(datasets=prepared, sheet=None, sources=[], target=None)
    protocol = plan.protocol(cases[0])
    if read_protocol(settings.data.folder) != protocol:
        write_protocol(settings.data.folder, protocol)
    return _result(settings.data.folder, protocol, prepared)


def _refuse_what_it_pins(data: DataSettings) -> None:
    for option, flag in (OWN_OPTIONS | {"out": "--out", "split": "--split"}).items():
        if getattr(data, option) != type(data).model_fields[option].default:
            raise UsageError(
                f"A protocol decides how its data sets are prepared, and takes no {flag}.",
                "Choose where they go with --set data.folder=DIR." if option == "out" else "Leave it out.",
            )


def _result(folder: Path, protocol: Protocol, prepared: list[PreparedDataset]) -> PrepareResult:
    return PrepareResult(
        datasets=prepared,
        sheet=None,
        sources=[folder / source for source in protocol.sources],
        target=folder / protocol.targets[0],
        targets=[folder / target for target in protocol.targets],
        protocol=protocol.name,
    )


def _prepare_all(
    settings: Settings, plan: ProtocolPlan, cases: Sequence[str], reporter: Reporter
) -> list[PreparedDataset]:
    """Prepare the data sets of some cases, sources first, in the order in which the cases name them."""
    if settings.data.root is None:
        raise UsageError(
            f"The protocol {plan.name} needs the folder that holds its raw data sets.",
            f"Run `sil prepare-data --protocol {settings.data.protocol} ROOT`.",
        )
    chosen = [plan.all_cases[case] for case in cases]
    sources = [name for case in chosen for name in case.sources]
    targets = [name for case in chosen for name in case.targets]
    needed = {name: plan.datasets[name] for name in dict.fromkeys([*sources, *targets])}
    _check(needed, sources)
    raw = _find(needed, settings.data.root, settings.data.folder / RAW_FOLDER, plan.name, reporter)
    return [
        _prepare(settings, name, dataset, raw[name], number, reporter)
        for name, dataset in needed.items()
        for number in range(1, dataset.splits + 1)
    ]


def _check(needed: Mapping[str, DatasetPlan], sources: Sequence[str]) -> None:
    """Refuse what no reader can do before anything is prepared."""
    for name, dataset in needed.items():
        reader = READERS.get(dataset.reader)
        if reader is None:
            raise UsageError(
                f"The protocol's {name} asks for a reader '{dataset.reader}'.", did_you_mean(dataset.reader, READERS)
            )
        if dataset.splits == 1:
            continue
        if name in sources:
            raise UsageError(
                f"The protocol learns from {name}, which has {dataset.splits} splits.", "Give a source one split."
            )
        if "partition" not in reader.takes and dataset.split != "half":
            raise UsageError(
                f"The protocol's {name} has {dataset.splits} splits, but its reader does not draw any.",
                'Give it splits = 1, or split = "half".',
            )


def _find(
    needed: Mapping[str, DatasetPlan], root: Path, unpack_to: Path, protocol: str, reporter: Reporter
) -> dict[str, Path]:
    """Where each raw data set lies below ROOT; archives that lie there are unpacked where something is missing."""
    check_root(root)
    found = {name: root / dataset.root for name, dataset in needed.items() if dataset.root is not None}
    absent = [str(path) for path in found.values() if not path.exists()]
    by_layout = {name: dataset for name, dataset in needed.items() if dataset.root is None}
    found |= _recognised(by_layout, root)
    for archive in filter(is_archive, children_of(root)):
        if len(found) == len(needed):
            break
        missing = {name: dataset for name, dataset in by_layout.items() if name not in found}
        found |= _recognised(missing, unpacked(archive, unpack_to, reporter))
    absent += [_wanted(name, dataset) for name, dataset in by_layout.items() if name not in found]
    if absent:
        raise DataError(
            f"{root} lacks {', '.join(absent)}, which {protocol} needs.",
            f"Put {'it' if len(absent) == 1 else 'them'} below {root}, as a folder or an archive, under any name.",
        )
    return found


def _wanted(name: str, dataset: DatasetPlan) -> str:
    return f"{name} (version {dataset.version})" if dataset.version is not None else name


def _recognised(needed: Mapping[str, DatasetPlan], root: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for each in recognise_all(root) if needed else []:
        for name, dataset in needed.items():
            if name not in found and each.reader == dataset.reader and _is_version(dataset, each.root):
                found[name] = each.root
    return found


def _is_version(dataset: DatasetPlan, root: Path) -> bool:
    """Whether a folder holds the version that is pinned; a reader that knows versions says so in its options."""
    if dataset.version is None:
        return True
    return READERS[dataset.reader].read(root).options.get("version") == dataset.version


def _prepare(
    settings: Settings, name: str, dataset: DatasetPlan, raw: Path, number: int, reporter: Reporter
) -> PreparedDataset:
    """Prepare one data set, or one of its splits, unless it stands already."""
    folder = settings.data.folder / name
    if dataset.splits > 1:
        folder = split_folder(folder, number)
    pinned = _pinned(dataset, number)
    if not settings.data.force and is_dataset(folder):
        info = load_dataset(folder).info
        if info.reader == dataset.reader and all(info.options.get(key) == value for key, value in pinned.items()):
            return _standing(folder, settings, reporter)
    changes: dict[str, Any] = {"reader": dataset.reader, "root": raw, "out": folder, "name": name} | pinned
    changes = {"partition": None, "labelled": None, "pattern": dataset.pattern} | changes
    data = settings.data.model_copy(update=changes)
    (prepared,) = prepare_data(settings.model_copy(update={"data": data}), reporter).datasets
    return prepared


def _standing(folder: Path, settings: Settings, reporter: Reporter) -> PreparedDataset:
    """A data set that is kept; its counts are checked all the same."""
    dataset = load_dataset(folder)
    info = dataset.info
    compared = compare(info.reader, info.options, dataset.records, left_out=len(info.skipped))
    result = described(dataset, unchanged=True, compared=compared)
    check_counts(dataset.name, result.published, compared, reporter, strict=settings.data.strict)
    return result


def _pinned(dataset: DatasetPlan, number: int) -> dict[str, Any]:
    """The reader's options that the protocol fixes, for one of the splits."""
    takes = READERS[dataset.reader].takes
    drawn_by_seed = dataset.splits > 1 and "partition" not in takes
    values = {
        "labelled": dataset.labelled,
        "partition": number if dataset.splits > 1 and "partition" in takes else dataset.partition,
        "seed": dataset.seed + number - 1 if drawn_by_seed else dataset.seed,
        "split": dataset.split,
    }
    return {key: value for key, value in values.items() if key in takes and value is not None}
