"""`sil show`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from sil_cli.cli.options import ConfigOption, DebugOption, DeviceOption, JsonOption, SetOption, common
from sil_cli.cli.session import Session, session
from sil_cli.cli.terminal import escape

if TYPE_CHECKING:
    from sil_cli.report.dataset_numbers import DuplicateReport, Quantiles, ShownDataset, StyleGap

EXAMPLES = """
[bold]Examples[/]

sil show

sil show data/market1501 --identities 12 --out market.jpg

sil show data/market1501 data/msmt17 data/cuhk03 --split train

sil show data/msmt17 --sample 20000 --json
"""
SHOWN_UNREADABLE = 10
SHOWN_DUPLICATES = 10
WARNINGS = {
    "train-test": "in training and in the test: results will flatter",
    "data-sets": "in two data sets: a model trained on one has seen the other",
    "identities": "one picture under two identities: a wrong label, or twins by their looks",
    "cameras": "one picture under two cameras: a camera label is wrong",
    "query-gallery": "a query and in the gallery too: it finds itself",
}


class SplitName(StrEnum):
    """A data set's parts."""

    train = "train"
    query = "query"
    gallery = "gallery"


def command(
    datasets: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[DATASET]...",
            help="Prepared data sets; several are compared side by side; default: all in the data folder.",
        ),
    ] = None,
    split: Annotated[
        SplitName | None,
        typer.Option("--split", metavar="train|query|gallery", help="Only this split's pictures; default: all."),
    ] = None,
    identities: Annotated[
        int | None,
        typer.Option("--identities", metavar="N", help="People on the sheet, of each data set; default: 8."),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option("--sample", metavar="N", help="Pictures to open of each data set; default: 200,000 at most."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="N", help="Draws the people and the sample; default: 0.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="The sheet; the chart goes to FILE-style.png; default: show.jpg."),
    ] = None,
    config: ConfigOption = None,
    device: DeviceOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Look at prepared data: people × cameras, sizes, colours, the style gap, suspected duplicates."""
    with session(common(config, device, assignments, as_json, debug)) as current:
        settings = current.settings(
            {
                "show": {
                    "datasets": tuple(datasets) if datasets else None,
                    "split": split.value if split else None,
                    "identities": identities,
                    "sample": sample,
                    "seed": seed,
                    "sheet": out,
                }
            }
        )
        from sil_cli.report.show import show

        result = show(settings, current.reporter)
        for dataset in result.datasets:
            _show_dataset(current, dataset)
        if result.domain_gap is not None:
            _show_gap(current, "data sets", result.domain_gap)
        _show_duplicates(current, result.duplicates)
        current.out.print(f"\nPeople × cameras: {escape(result.sheet)}", highlight=False, soft_wrap=True)
        current.out.print(f"Styles: {escape(result.chart)}", highlight=False, soft_wrap=True)
        current.finish(result)


def _show_dataset(current: Session, dataset: ShownDataset) -> None:
    current.out.print(f"\n[bold]{escape(dataset.name)}[/] ({escape(dataset.folder)})", soft_wrap=True)
    current.out.print(_counts(dataset))
    current.out.print(_spreads(dataset))
    current.out.print(_cameras(dataset))
    _show_gap(current, f"cameras of {dataset.name}", dataset.camera_gap, matrix=False)
    for skipped in dataset.unreadable[:SHOWN_UNREADABLE]:
        current.reporter.warn(f"Unreadable: {dataset.name}/{skipped.path} ({skipped.reason})")
    more = len(dataset.unreadable) - SHOWN_UNREADABLE
    if more > 0:
        current.reporter.warn(f"… and {more:,} more unreadable pictures; --json names all.")


def _counts(dataset: ShownDataset) -> Table:
    table = Table()
    table.add_column("split")
    for column in ("images", "identities", "cameras"):
        table.add_column(column, justify="right")
    for split, counts in dataset.splits.items():
        cameras = f"{counts.cameras:,}" if counts.cameras or not counts.images else "unknown"
        table.add_row(split, f"{counts.images:,}", f"{counts.identities:,}", cameras)
    return table


def _spreads(dataset: ShownDataset) -> Table:
    of = f"{dataset.opened:,} pictures opened" + (f", a sample of {dataset.images:,}" if dataset.sampled else "")
    table = Table(title=f"Sizes and counts ({of})", title_justify="left")
    table.add_column("")
    for column in ("least", "5 %", "median", "95 %", "most", "mean"):
        table.add_column(column, justify="right")
    rows: list[tuple[str, Quantiles | None]] = [
        ("width, pixels", dataset.width),
        ("height, pixels", dataset.height),
        ("height ÷ width", dataset.aspect),
    ]
    rows += [(f"images per identity, {split}", each) for split, each in dataset.images_per_identity.items()]
    rows += [(f"cameras per identity, {split}", each) for split, each in dataset.cameras_per_identity.items()]
    for label, spread in rows:
        if spread is not None:
            values = (spread.min, spread.q05, spread.median, spread.q95, spread.max)
            table.add_row(label, *[f"{value:.4g}" for value in values], f"{spread.mean:.4g}")
    return table


def _cameras(dataset: ShownDataset) -> Table:
    table = Table(title="Cameras (levels 0 to 255)", title_justify="left")
    table.add_column("camera")
    for column in ("images", "people", "brightness", "contrast", "red, green, blue"):
        table.add_column(column, justify="right")
    table.add_column("colour")
    for camera in dataset.cameras:
        cells = [escape(camera.camera or "unknown"), f"{camera.images:,}", f"{camera.identities:,}"]
        if camera.colour is None or camera.brightness is None or camera.brightness_spread is None:
            table.add_row(*cells)
            continue
        red, green, blue = (round(level) for level in camera.colour)
        cells += [f"{camera.brightness:.0f} ± {camera.brightness_spread:.0f}", f"{camera.contrast:.0f}"]
        table.add_row(*cells, f"{red:3} {green:3} {blue:3}", _swatch(red, green, blue))
    return table


def _swatch(red: int, green: int, blue: int) -> Text:
    return Text("    ", style=f"on rgb({red},{green},{blue})")


def _show_gap(current: Session, what: str, gap: StyleGap, *, matrix: bool = True) -> None:
    if gap.mean_distance is None:
        return
    if matrix:
        current.out.print("\nStyle distance between data sets, grey levels:")
        table = Table()
        table.add_column("")
        for name in gap.names:
            table.add_column(escape(name), justify="right")
        for name, row in zip(gap.names, gap.distances, strict=True):
            table.add_row(escape(name), *[f"{value:.1f}" if value else "" for value in row])
        current.out.print(table)
    share = f" and explain {gap.explained:.0%} of the variance of style" if gap.explained is not None else ""
    current.out.print(
        escape(f"Style gap: the {what} lie {gap.mean_distance:.1f} grey levels apart in the mean{share}."),
        highlight=False,
        soft_wrap=True,
    )


def _show_duplicates(current: Session, report: DuplicateReport) -> None:
    current.out.print(
        f"\nDuplicates: {report.exact:,} groups of equal pictures, {report.near:,} pairs of similar ones; "
        f"{report.harmless:,} of both are one person by one camera.",
        highlight=False,
        soft_wrap=True,
    )
    if not report.complete:
        current.reporter.warn("So many pictures are similar that the search ended early.")
    for doubt, count in report.by_doubt.items():
        if count:
            current.reporter.warn(f"Suspected duplicates, {count:,} × {WARNINGS[doubt]}.")
    if not report.doubtful:
        return
    table = Table(title="Suspected duplicates", title_justify="left")
    for column in ("kind", "doubt", "pictures"):
        table.add_column(column, overflow="fold")
    for duplicate in report.doubtful[:SHOWN_DUPLICATES]:
        shown = [escape(f"{each.dataset}/{each.path} ({each.identity}, {each.split})") for each in duplicate.images]
        table.add_row(duplicate.kind, "\n".join(duplicate.doubts), "\n".join(shown))
    current.out.print(table)
    more = len(report.doubtful) - SHOWN_DUPLICATES
    if more > 0:
        current.out.print(f"… and {more:,} more: --json names all.", soft_wrap=True)
