"""`sil index-gallery`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from sil_cli.cli.options import (
    ConfigOption,
    DebugOption,
    DeviceOption,
    EngineOption,
    JsonOption,
    SetOption,
    StoreOption,
    common,
)
from sil_cli.cli.session import Session, session
from sil_cli.cli.terminal import escape

if TYPE_CHECKING:
    from sil_cli.results import IndexResult

EXAMPLES = """
[bold]Examples[/]

sil index-gallery

sil index-gallery crops/2024-05-01 --gallery station --pattern '(?P<camera>c\\d+)_(?P<time>\\d{8}T\\d{6})'

sil index-gallery crops.csv --tracklets named --timezone Europe/Berlin

find crops -newer last-run -name '*.jpg' | sil index-gallery -

sil index-gallery data/market1501 --model runs/001-ubs --gallery market

sil index-gallery crops --index IVF1024,SQ8

torchrun --nproc-per-node 4 -m sil_cli index-gallery crops

sil index-gallery crops --store milvus://db.example:19530/station
"""
SHOWN_FAILED = 10
READING = "What is known of images"


class Tracklets(StrEnum):
    """Which images are one sighting."""

    off = "off"
    named = "named"
    folder = "folder"


def command(
    images: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[SOURCE...]",
            help="Folders of crops, prepared data sets, .csv tables, lists of paths, images, or - for paths on stdin; "
            "default: the data set left out.",
        ),
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", metavar="RUN", help="A run folder; default: the newest finished one.")
    ] = None,
    gallery: Annotated[
        Path | None, typer.Option("--gallery", metavar="DIR", help="The gallery; default: gallery.")
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(
            "--pattern",
            metavar="REGEX",
            help="Searched in each path: groups identity, camera, time, tracklet, others as columns.",
            rich_help_panel=READING,
        ),
    ] = None,
    time_format: Annotated[
        str | None,
        typer.Option(
            "--time-format",
            metavar="FORMAT",
            help="auto (ISO 8601, EXIF, seconds), epoch, epoch-ms, or like %d.%m.%Y-%H%M%S.",
            rich_help_panel=READING,
        ),
    ] = None,
    timezone: Annotated[
        str | None,
        typer.Option(
            "--timezone",
            metavar="ZONE",
            help="Of times that don't say theirs: Europe/Berlin, local; default: UTC.",
            rich_help_panel=READING,
        ),
    ] = None,
    exif: Annotated[
        bool | None,
        typer.Option("--exif", help="Time and camera from EXIF where nothing else says.", rich_help_panel=READING),
    ] = None,
    tracklets: Annotated[
        Tracklets | None,
        typer.Option(
            "--tracklets",
            metavar="named|folder",
            help="One entry for all images of a tracklet: their mean.",
            rich_help_panel=READING,
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            "--root",
            metavar="DIR",
            help="Paths in tables and lists are relative to it; default: the table's folder.",
            rich_help_panel=READING,
        ),
    ] = None,
    prune: Annotated[bool | None, typer.Option("--prune", help="Remove entries whose files have gone.")] = None,
    engine: EngineOption = None,
    index: Annotated[
        str | None,
        typer.Option(
            "--index",
            metavar="auto|exact|FACTORY",
            help="How to search: by size, exactly, or FAISS's name of an index.",
        ),
    ] = None,
    store: StoreOption = None,
    config: ConfigOption = None,
    device: DeviceOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Embed crops and store them where they can be searched; what is there already is skipped."""
    flags = {
        "images": tuple(images) if images else None,
        "model": model,
        "folder": gallery,
        "store": store,
        "index": index,
        "pattern": pattern,
        "time_format": time_format,
        "timezone": timezone,
        "exif": exif,
        "tracklets": tracklets.value if tracklets else None,
        "root": root,
        "prune": prune,
    }
    with session(common(config, device, assignments, as_json, debug), spreads=True) as current:
        settings = current.settings({"gallery": flags, "inference": {"engine": engine}})
        from sil_cli.gallery.index import index_in_company

        result = index_in_company(settings, current.reporter, current.launch)
        if result is None:  # the first process tells
            return
        _show(current, result)
        current.next_command(
            f"{result.total:,} crops can be searched in {result.gallery}.",
            f"sil query {result.example or 'IMAGE'}{result.option}",
        )
        current.finish(result)


def _show(current: Session, result: IndexResult) -> None:
    table = Table(title=f"Gallery {escape(result.gallery)}", title_justify="left", show_header=False)
    table.add_row("added, replaced, unchanged", f"{result.added:,}, {result.replaced:,}, {result.unchanged:,}")
    for name, count in (
        ("described anew", result.described),
        ("became part of a tracklet", result.absorbed),
        ("files gone", len(result.gone)),
        ("of these removed", result.pruned),
    ):
        if count:
            table.add_row(name, f"{count:,}")
    table.add_row("failed", f"{len(result.failed):,}")
    table.add_row("entries in all", f"{result.total:,}")
    table.add_row("index", f"{result.index}, {result.dimension} dimensions")
    table.add_row("model", result.model[:12] + ("" if result.calibrated else ", not calibrated"))
    current.out.print(table)
    for failed in result.failed[:SHOWN_FAILED]:
        current.reporter.warn(f"Not indexed: {failed.path} ({failed.reason})")
    if len(result.failed) > SHOWN_FAILED:
        current.reporter.warn(f"… and {len(result.failed) - SHOWN_FAILED} more; --json names all.")
    if result.gone and not result.pruned:
        current.reporter.warn(
            f"{len(result.gone):,} entries have lost their files, such as {result.gone[0]}; --prune removes them."
        )
