"""`sil prepare-data`."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from sil_cli.cli.command import Option
from sil_cli.cli.terminal import escape, print_table
from sil_cli.errors import quoted

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.preparation.prepare import PreparedDataset, PrepareResult
    from sil_cli.preparation.prepare_footage import FootageResult
    from sil_cli.settings import DataSettings, Settings

EXAMPLES = """
sil prepare-data
sil prepare-data synthetic --set data.synthetic.domains=6 --out many
sil prepare-data synthetic --footage
sil prepare-data auto ~/Market-1501-v15.09.15.zip
sil prepare-data cuhk03 ~/cuhk03 --labelled
sil prepare-data annotations labelled/annotations.xml --split half
sil prepare-data grid ~/underground_reid --partition 2 --out data/grid-2
sil prepare-data --protocol p3-market1501 ~/reid
sil prepare-data regex crops --pattern '(?P<identity>\\d+)_c(?P<camera>\\d+)' --split half
"""
SHOWN_SKIPPED = 10


OPTIONS = (
    Option(
        "reader",
        "data.reader",
        "[READER]",
        "synthetic (the default), auto, folders, regex, csv, annotations, or a data set: market1501, dukemtmc, msmt17, "
        "cuhk02, cuhk03, cuhk-sysu, prid2011, grid, viper, ilids, randperson, clonedperson, motchallenge.",
    ),
    Option("raw", "data.root", "[ROOT]", "The raw data: a folder, an archive, or a CSV file."),
    Option(
        "--footage",
        "data.footage.enabled",
        help="For synthetic: draw films of people walking past cameras, with their boxes, instead of crops.",
    ),
    Option("--out", "data.out", "DIR", "Where it goes; default: data/NAME."),
    Option("--name", "data.name", "NAME", "The data set's name; default: its own, or else ROOT's."),
    Option(
        "--root",
        "data.images",
        "DIR",
        "For csv and annotations: what paths in the file are relative to; default: its folder.",
    ),
    Option("--pattern", "data.pattern", "REGEX", "For regex: groups identity, camera, split, frame."),
    Option(
        "--split",
        "data.split",
        help="Images without a split: for training, for testing, or half of the people for each.",
    ),
    Option("--partition", "data.partition", "N", "Which split, from 1, where a data set has several."),
    Option("--labelled", "data.labelled", help="For cuhk03: the crops drawn by hand, not the detector's."),
    Option(
        "--protocol",
        "data.protocol",
        "NAME|FILE",
        "Prepare what a protocol needs of the raw data sets below ROOT: p1, p2, p3, sil-4, generated, one "
        "case of them such as p3-market1501, or a .toml file.",
    ),
    Option("--strict", "data.strict", help="Stop if counts differ from the published ones."),
    Option("--force", "data.force", help="Replace data prepared with other options."),
)


def run(current: Session) -> PrepareResult | FootageResult:
    """Read a data set, or draw one: check every image and write a manifest."""
    given = current.options.get("data", {})
    if "protocol" in given and "root" not in given and "reader" in given:
        given["root"] = Path(given.pop("reader"))  # with a protocol, the one argument is ROOT
    settings = current.settings()
    if settings.data.footage.enabled:
        return _prepare_footage(current, settings)
    if settings.data.protocol is not None:
        from sil_cli.preparation.prepare_protocol import prepare_protocol as prepare_data
    else:
        from sil_cli.preparation.prepare import prepare_data

    result = prepare_data(settings, current.reporter)
    _show(current, result, settings.data)
    return result


def _prepare_footage(current: Session, settings: Settings) -> FootageResult:
    from sil_cli.preparation.prepare_footage import prepare_footage

    result = prepare_footage(settings, current.reporter)
    cameras = result.cameras
    columns = {
        "camera": [escape(each.name) for each in cameras],
        "frames": [f"{each.frames:,}" for each in cameras],
        "people": [f"{each.people:,}" for each in cameras],
        "boxes": [f"{each.boxes:,}" for each in cameras],
        "footage": [escape(str(each.video or each.folder / "img1")) for each in cameras],
    }
    print_table(current.out, escape(f"{result.network}, filmed"), columns, left=("camera", "footage"))
    current.say(f"{result.people:,} people; who passes where and when: {escape(str(result.table))}.")
    return result


def _show(current: Session, result: PrepareResult, asked: DataSettings) -> None:
    columns: dict[str, list[str]] = {name: [] for name in ("data set", "split", "images", "identities", "cameras")}
    firsts = {dataset.name: dataset for dataset in reversed(result.datasets)}
    splits = Counter(dataset.name for dataset in result.datasets)
    for name in splits:
        for number, split in enumerate(_shown_splits(firsts[name])):
            several = escape(f"{name}, first of {splits[name]} splits" if splits[name] > 1 else name)
            columns["data set"].append(several if number == 0 else "")
            columns["split"].append(split)
            for what in ("images", "identities", "cameras"):
                columns[what].append(_count_cell(firsts[name], split, what))
    print_table(current.out, "Prepared data sets", columns, left=("data set", "split"))
    sources = "; ".join(dict.fromkeys(each.published for each in result.datasets if each.published))
    if sources:
        current.say(f"✓ as published, ≠ not: {sources}.")
    for dataset in firsts.values():
        _show_skipped(current, dataset)
    if result.failed:
        columns = {
            "folder": [escape(each.path) for each in result.failed],
            "why": [escape(each.reason) for each in result.failed],
        }
        print_table(current.out, "Data sets passed over", columns, left=("folder", "why"))
    if result.sheet:
        current.say(f"Samples: {escape(result.sheet)}")
    made, following = _next(result, asked)
    current.next_command(made, following)


def _shown_splits(dataset: PreparedDataset) -> list[str]:
    """The three splits, and all together where that was published."""
    return list(dict.fromkeys([*dataset.splits, *(count.split for count in dataset.compared)]))


def _count_cell(dataset: PreparedDataset, split: str, what: str) -> str:
    """A count, marked where it was published: as it should be, or with what it should be."""
    compared = next((each for each in dataset.compared if (each.split, each.what) == (split, what)), None)
    if compared is not None:
        agrees = compared.found == compared.expected
        return f"{compared.found:,} ✓" if agrees else f"[red]{compared.found:,} ≠ {compared.expected:,}[/]"
    counts = next((counts for name, counts in dataset.splits.items() if name == split), None)
    if counts is None:
        return ""
    if what == "cameras" and counts.images and not counts.cameras:
        return "unknown"
    return f"{getattr(counts, what):,}"


def _show_skipped(current: Session, dataset: PreparedDataset) -> None:
    shown = dataset.skipped[:SHOWN_SKIPPED]
    if not shown:
        return
    columns = {"file": [escape(each.path) for each in shown], "why": [escape(each.reason) for each in shown]}
    print_table(current.out, f"Left out of {escape(dataset.name)}", columns, left=("file", "why"))
    more = len(dataset.skipped) - SHOWN_SKIPPED
    if more > 0:
        current.say(escape(f"… and {more:,} more: all are named in {dataset.folder / 'dataset.json'}."))


def _next(result: PrepareResult, asked: DataSettings) -> tuple[str, str]:
    if result.protocol is not None:
        names = ", ".join(source.name for source in result.sources)
        left_out = ", ".join(target.name for target in result.targets)
        return f"{result.protocol}: learn from {names}; {left_out} left out.", "sil train"
    if result.target is None:
        if len(result.datasets) > 1 and asked.protocol is None:
            sources = [dataset for dataset in result.datasets if dataset.splits["train"].images] or result.datasets
            return f"Prepared {len(result.datasets)} data sets.", " ".join(
                ["sil train", *(f"--source {source.folder}" for source in sources)]
            )
        if len(result.datasets) > 1:
            words = [asked.protocol, asked.root] if asked.root else [asked.protocol]
            command = f"sil benchmark {shlex.join(map(str, words))}"
            return f"Prepared {len(result.datasets)} data sets for all cases of the protocol.", command
        (dataset,) = result.datasets
        made = f"Prepared {dataset.name} in {dataset.folder}."
        if dataset.splits["train"].images:
            return made, f"sil train --source {quoted(dataset.folder)}"
        is_test = dataset.splits["query"].images and dataset.splits["gallery"].images
        following = "evaluate --target" if is_test else "index-gallery"
        return made, f"sil {following} {quoted(dataset.folder)}"
    folder = result.target.parent
    names = ", ".join(source.name for source in result.sources)
    made = f"{len(result.datasets)} data sets in {folder}: learn from {names}; {result.target.name} is left out."
    if str(folder) == "data":
        return made, "sil train"
    return made, "sil train " + " ".join(f"--source {source}" for source in result.sources)
