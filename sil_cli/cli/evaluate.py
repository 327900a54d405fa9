"""`sil evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from sil_cli.cli.options import (
    ConfigOption,
    DebugOption,
    DeviceOption,
    EngineOption,
    JsonOption,
    SetOption,
    common,
)
from sil_cli.cli.session import session

EXAMPLES = """
[bold]Examples[/]

sil evaluate

sil evaluate --model runs/001-ubs --target data/market1501

sil evaluate --json | jq .mAP
"""


def command(
    model: Annotated[
        Path | None, typer.Option("--model", metavar="RUN", help="A run folder; default: the newest finished one.")
    ] = None,
    target: Annotated[
        Path | None, typer.Option("--target", metavar="DIR", help="A prepared data set; default: the one left out.")
    ] = None,
    engine: EngineOption = None,
    config: ConfigOption = None,
    device: DeviceOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Score a model on a camera network: mAP, CMC and mINP."""
    with session(common(config, device, assignments, as_json, debug)) as current:
        settings = current.settings({"evaluate": {"model": model, "target": target}, "inference": {"engine": engine}})
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
