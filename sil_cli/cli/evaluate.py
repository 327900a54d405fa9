"""`sil evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from sil_cli.cli.options import ConfigOption, DebugOption, DeviceOption, JsonOption, SetOption, common
from sil_cli.cli.session import session

EXAMPLES = """
[bold]Examples[/]

sil evaluate

sil evaluate --model runs/001-ubs --target data/market1501

sil evaluate --flip --rerank

sil evaluate --model runs/001-ubs --model runs/002-dbs

sil evaluate --json | jq .mAP
"""
OPTIONS = "Test-time options, always named in the result"


def command(
    model: Annotated[
        list[Path] | None,
        typer.Option(
            "--model", metavar="RUN", help="A run folder; default: the newest finished one. Several are fused."
        ),
    ] = None,
    target: Annotated[
        Path | None, typer.Option("--target", metavar="DIR", help="A prepared data set; default: the one left out.")
    ] = None,
    flip: Annotated[
        bool, typer.Option("--flip", help="Mean of each image and its mirror.", rich_help_panel=OPTIONS)
    ] = False,
    height: Annotated[
        int | None, typer.Option("--height", help="Input height; default: as trained.", rich_help_panel=OPTIONS)
    ] = None,
    width: Annotated[
        int | None, typer.Option("--width", help="Input width; default: as trained.", rich_help_panel=OPTIONS)
    ] = None,
    tracklets: Annotated[
        bool,
        typer.Option(
            "--tracklets", help="One query for each identity and camera: its images' mean.", rich_help_panel=OPTIONS
        ),
    ] = False,
    expand_queries: Annotated[
        int | None,
        typer.Option(
            "--expand-queries", metavar="N", help="Draw queries to N gallery images.", rich_help_panel=OPTIONS
        ),
    ] = None,
    augment_gallery: Annotated[
        int | None,
        typer.Option(
            "--augment-gallery", metavar="N", help="Draw gallery images to N others.", rich_help_panel=OPTIONS
        ),
    ] = None,
    rerank: Annotated[
        bool, typer.Option("--rerank", help="Re-rank by k-reciprocal encoding.", rich_help_panel=OPTIONS)
    ] = False,
    config: ConfigOption = None,
    device: DeviceOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Score a model on a camera network: mAP, CMC and mINP."""
    with session(common(config, device, assignments, as_json, debug)) as current:
        options = {
            "model": model[0] if model else None,
            "fused": tuple(model[1:]) if model else None,
            "target": target,
            "flip": flip or None,
            "height": height,
            "width": width,
            "tracklets": tracklets or None,
            "expand_queries": expand_queries,
            "augment_gallery": augment_gallery,
            "rerank": rerank or None,
        }
        settings = current.settings({"evaluate": options})
        from sil_cli.workflows.evaluate import evaluate

        result = evaluate(settings, current.reporter)
        table = Table(title=f"{result.model} on {result.target}", title_justify="left")
        for column in ("mAP", *(f"Rank-{rank}" for rank in result.cmc), "mINP", "queries", "gallery"):
            table.add_column(column, justify="right")
        rates = [result.mAP, *result.cmc.values(), result.mINP]
        table.add_row(*(f"{100 * rate:.1f}" for rate in rates), f"{result.queries:,}", f"{result.gallery:,}")
        current.out.print(table)
        conditions = "; ".join(f"{name}: {value}" for name, value in result.conditions.items())
        current.out.print(f"In percent. Conditions: {conditions}.", highlight=False, soft_wrap=True)
        current.next_command(f"Results in {result.results}.", "sil index-gallery")
        current.finish(result)
