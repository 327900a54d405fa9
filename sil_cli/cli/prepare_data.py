"""`sil prepare-data`."""

from __future__ import annotations

import shlex
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from sil_cli.cli.options import ConfigOption, DebugOption, DeviceOption, JsonOption, SetOption, common
from sil_cli.cli.session import Session, session
from sil_cli.cli.terminal import escape

if TYPE_CHECKING:
    from sil_cli.results import PreparedDataset, PrepareResult
    from sil_cli.settings import DataSettings

EXAMPLES = """
[bold]Examples[/]

sil prepare-data

sil prepare-data synthetic --set data.synthetic.domains=6 --out many

sil prepare-data auto ~/Market-1501-v15.09.15.zip

sil prepare-data cuhk03 ~/cuhk03 --labelled

sil prepare-data grid ~/underground_reid --partition 2 --out data/grid-2

sil prepare-data --protocol p3-market1501 ~/reid

sil prepare-data regex crops --pattern '(?P<identity>\\d+)_c(?P<camera>\\d+)' --split half
"""
SHOWN_SKIPPED = 10


class SplitMode(StrEnum):
    """What to do with images of no known split."""

    train = "train"
    test = "test"
    half = "half"


def command(
    reader: Annotated[
        str | None,
        typer.Argument(
            metavar="[READER]",
            help="synthetic (the default), auto, folders, regex, csv, or a data set: market1501, dukemtmc, msmt17, "
            "cuhk02, cuhk03, cuhk-sysu, prid2011, grid, viper, ilids, randperson, clonedperson.",
        ),
    ] = None,
    root: Annotated[
        Path | None, typer.Argument(metavar="[ROOT]", help="The raw data: a folder, an archive, or a CSV file.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Where it goes; default: data/NAME.")] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="The data set's name; default: its own, or else ROOT's."),
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option("--pattern", metavar="REGEX", help="For regex: groups identity, camera, split, frame."),
    ] = None,
    split: Annotated[
        SplitMode | None,
        typer.Option(
            "--split",
            metavar="train|test|half",
            help="Images of no known split: to train, to test, or half of the people each.",
        ),
    ] = None,
    partition: Annotated[
        int | None,
        typer.Option("--partition", metavar="N", help="Which split, from 1, where a data set has several."),
    ] = None,
    labelled: Annotated[
        bool | None,
        typer.Option("--labelled", help="For cuhk03: the crops cut by hand, not the detector's.", show_default=False),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            "--protocol",
            metavar="NAME|FILE",
            help="Prepare what a protocol needs of the raw data sets below ROOT: p1, p2, p3, sil-4, generated, one "
            "case of them such as p3-market1501, or a .toml file.",
        ),
    ] = None,
    strict: Annotated[
        bool | None,
        typer.Option("--strict", help="Stop when counts are not the published ones.", show_default=False),
    ] = None,
    force: Annotated[
        bool | None, typer.Option("--force", help="Replace data that was prepared otherwise.", show_default=False)
    ] = None,
    config: ConfigOption = None,
    device: DeviceOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Read a data set, or draw one: check every image and write a manifest."""
    with session(common(config, device, assignments, as_json, debug)) as current:
        if protocol is not None and root is None and reader is not None:
            root, reader = Path(reader), None  # with a protocol, the one argument is ROOT
        settings = current.settings(
            {
                "data": {
                    "protocol": protocol,
                    "reader": reader,
                    "root": root,
                    "out": out,
                    "name": name,
                    "pattern": pattern,
                    "split": split.value if split else None,
                    "partition": partition,
                    "labelled": labelled,
                    "strict": strict,
                    "force": force,
                }
            }
        )
        if settings.data.protocol is not None:
            from sil_cli.preparation.prepare_protocol import prepare_protocol as prepare_data
        else:
            from sil_cli.preparation.prepare import prepare_data

        result = prepare_data(settings, current.reporter)
        _show(current, result, settings.data)
        current.finish(result)


def _show(current: Session, result: PrepareResult, asked: DataSettings) -> None:
    table = Table(title="Prepared data sets", title_justify="left")
    table.add_column("data set")
    table.add_column("split")
    for column in ("images", "identities", "cameras"):
        table.add_column(column, justify="right")
    firsts = {dataset.name: dataset for dataset in reversed(result.datasets)}
    splits = Counter(dataset.name for dataset in result.datasets)
    for name in splits:
        for number, split in enumerate(_shown_splits(firsts[name])):
            cells = [_count_cell(firsts[name], split, what) for what in ("images", "identities", "cameras")]
            several = escape(f"{name}, first of {splits[name]} splits" if splits[name] > 1 else name)
            table.add_row(several if number == 0 else "", split, *cells)
        table.add_section()
    current.out.print(table)
    sources = "; ".join(dict.fromkeys(each.published for each in result.datasets if each.published))
    if sources:
        current.out.print(f"✓ as published, ≠ not: {sources}.", highlight=False, soft_wrap=True)
    for dataset in firsts.values():
        _show_skipped(current, dataset)
    if result.sheet:
        current.out.print(f"Samples: {escape(result.sheet)}", highlight=False, soft_wrap=True)
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
    if not dataset.skipped:
        return
    table = Table(title=f"Left out of {escape(dataset.name)}", title_justify="left")
    table.add_column("file", overflow="fold")
    table.add_column("why")
    for skipped in dataset.skipped[:SHOWN_SKIPPED]:
        table.add_row(escape(skipped.path), escape(skipped.reason))
    current.out.print(table)
    more = len(dataset.skipped) - SHOWN_SKIPPED
    if more > 0:
        current.out.print(
            escape(f"… and {more} more: all are named in {dataset.folder / 'dataset.json'}."), soft_wrap=True
        )


def _next(result: PrepareResult, asked: DataSettings) -> tuple[str, str]:
    if result.protocol is not None:
        names = ", ".join(source.name for source in result.sources)
        left_out = ", ".join(target.name for target in result.targets)
        return f"{result.protocol}: learn from {names}; {left_out} left out.", "sil train"
    if result.target is None:
        if len(result.datasets) > 1:
            words = [asked.protocol, asked.root] if asked.root else [asked.protocol]
            command = f"sil benchmark {shlex.join(map(str, words))}"
            return f"Prepared {len(result.datasets)} data sets for all cases of the protocol.", command
        (dataset,) = result.datasets
        made = f"Prepared {dataset.name} in {dataset.folder}."
        if dataset.splits["train"].images:
            return made, f"sil train --source {dataset.folder}"
        return made, f"sil evaluate --target {dataset.folder}"
    folder = result.target.parent
    names = ", ".join(source.name for source in result.sources)
    made = f"{len(result.datasets)} data sets in {folder}: learn from {names}; {result.target.name} is left out."
    if str(folder) == "data":
        return made, "sil train"
    return made, "sil train " + " ".join(f"--source {source}" for source in result.sources)
