"""`sil evaluate`."""

from __future__ import annotations

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
    common,
)
from sil_cli.cli.session import Session, session

if TYPE_CHECKING:
    from sil_cli.workflows.evaluate_targets import Spread, TargetsResult
    from sil_cli.workflows.results import EvaluateResult

EXAMPLES = """
[bold]Examples[/]

sil evaluate

sil evaluate --model runs/001-ubs --target data/market1501

sil evaluate --json | jq .mAP
"""
SHOWN_RANK = 5
"""The last rank in the table of several targets, whose deviations take room."""


def command(
    model: Annotated[
        Path | None, typer.Option("--model", metavar="RUN", help="A run folder; default: the newest finished one.")
    ] = None,
    target: Annotated[
        Path | None,
        typer.Option(
            "--target",
            metavar="DIR",
            help="A prepared data set, or the folder of its splits; default: what is left out.",
        ),
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
        from sil_cli.workflows.evaluate_targets import TargetsResult, evaluate_targets

        result = evaluate_targets(settings, current.reporter)
        if isinstance(result, TargetsResult):
            _show_targets(current, result)
        else:
            _show(current, result)
        current.finish(result)


def _show(current: Session, result: EvaluateResult) -> None:
    table = Table(title=f"{result.model} on {result.target}", title_justify="left")
    for column in ("mAP", *(f"Rank-{rank}" for rank in result.cmc), "mINP", "queries", "gallery"):
        table.add_column(column, justify="right")
    rates = [result.mAP, *result.cmc.values(), result.mINP]
    table.add_row(*(f"{100 * rate:.1f}" for rate in rates), f"{result.queries:,}", f"{result.gallery:,}")
    current.out.print(table)
    _show_conditions(current, result.conditions)
    current.next_command(f"Results in {result.results}.", "sil index-gallery")


def _show_targets(current: Session, result: TargetsResult) -> None:
    table = Table(title=str(result.model), title_justify="left")
    table.add_column("target")
    ranks = [rank for rank in result.targets[0].cmc if rank <= SHOWN_RANK]
    for column in ("splits", "mAP", *(f"Rank-{rank}" for rank in ranks), "mINP"):
        table.add_column(column, justify="right", no_wrap=True)
    for target in result.targets:
        rates = [target.mAP, *(target.cmc[rank] for rank in ranks), target.mINP]
        table.add_row(target.target, str(len(target.splits)), *(_percent(rate) for rate in rates))
    current.out.print(table)
    _show_conditions(current, result.conditions)
    current.out.print("± is the standard deviation over the splits (n − 1).", highlight=False, soft_wrap=True)
    files = ", ".join(str(target.results) for target in result.targets)
    current.next_command(f"Results in {files}.", "sil index-gallery")


def _percent(rate: Spread) -> str:
    deviation = "" if rate.deviation is None else f" ± {100 * rate.deviation:.1f}"
    return f"{100 * rate.mean:.1f}{deviation}"


def _show_conditions(current: Session, conditions: dict[str, str]) -> None:
    listed = "; ".join(f"{name}: {value}" for name, value in conditions.items())
    current.out.print(f"In percent. Conditions: {listed}.", highlight=False, soft_wrap=True)
