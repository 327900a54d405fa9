"""`sil index-gallery`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from sil_cli.cli.options import ConfigOption, DebugOption, DeviceOption, JsonOption, SetOption, common
from sil_cli.cli.session import session

EXAMPLES = """
[bold]Examples[/]

sil index-gallery

sil index-gallery crops/2024-05-01 --gallery station

sil index-gallery data/market1501 --model runs/001-ubs --gallery market

sil index-gallery crops --index IVF1024,SQ8
"""
SHOWN_FAILED = 10


def command(
    images: Annotated[
        Path | None,
        typer.Argument(
            metavar="[IMAGES|DATASET]", help="A folder of crops or a prepared data set; default: the one left out."
        ),
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", metavar="RUN", help="A run folder; default: the newest finished one.")
    ] = None,
    gallery: Annotated[
        Path | None, typer.Option("--gallery", metavar="DIR", help="The gallery; default: gallery.")
    ] = None,
    index: Annotated[
        str | None,
        typer.Option(
            "--index",
            metavar="auto|exact|FACTORY",
            help="How to search: by size, exactly, or FAISS's name of an index.",
        ),
    ] = None,
    config: ConfigOption = None,
    device: DeviceOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Embed crops and store them where they can be searched; what is there already is skipped."""
    with session(common(config, device, assignments, as_json, debug)) as current:
        settings = current.settings({"gallery": {"images": images, "model": model, "folder": gallery, "index": index}})
        from sil_cli.workflows.index import index_gallery

        result = index_gallery(settings, current.reporter)
        table = Table(title=f"Gallery {result.gallery}", title_justify="left", show_header=False)
        table.add_row("added, replaced, unchanged", f"{result.added:,}, {result.replaced:,}, {result.unchanged:,}")
        table.add_row("failed", f"{len(result.failed):,}")
        table.add_row("entries in all", f"{result.total:,}")
        table.add_row("index", f"{result.index}, {result.dimension} dimensions")
        table.add_row("model", result.model[:12])
        current.out.print(table)
        for failed in result.failed[:SHOWN_FAILED]:
            current.reporter.warn(f"Not indexed: {failed.path} ({failed.reason})")
        if len(result.failed) > SHOWN_FAILED:
            current.reporter.warn(f"… and {len(result.failed) - SHOWN_FAILED} more; --json names all.")
        option = "" if str(result.gallery) == "gallery" else f" --gallery {result.gallery}"
        current.next_command(
            f"{result.total:,} crops can be searched in {result.gallery}.",
            f"sil query {result.example or 'IMAGE'}{option}",
        )
        current.finish(result)
