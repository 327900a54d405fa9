"""`sil calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from sil_cli.cli.options import ConfigOption, DebugOption, DeviceOption, JsonOption, SetOption, common
from sil_cli.cli.session import session
from sil_cli.cli.terminal import escape

EXAMPLES = """
[bold]Examples[/]

sil calibrate

sil calibrate --model runs/001-ubs --on data/office

sil calibrate --set calibrate.match=1e-4
"""


def command(
    model: Annotated[
        Path | None, typer.Option("--model", metavar="RUN", help="A run folder; default: the newest finished one.")
    ] = None,
    on: Annotated[
        Path | None,
        typer.Option("--on", metavar="DIR", help="A labelled, prepared data set; default: the sources' other people."),
    ] = None,
    config: ConfigOption = None,
    device: DeviceOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Measure the score from which on two pictures count as one person, on people the model never learnt."""
    with session(common(config, device, assignments, as_json, debug)) as current:
        settings = current.settings({"calibrate": {"model": model, "on": on}})
        from sil_cli.evaluation.calibrate import calibrate

        result = calibrate(settings, current.reporter)
        table = Table(title=f"Thresholds of {escape(result.model)}", title_justify="left")
        for column in ("false accept rate", "score from", "true accept rate", ""):
            table.add_column(column, justify="right")
        for name, threshold in result.thresholds.items():
            meaning = {result.match: "match", result.possible: "possible"}.get(threshold, "")
            table.add_row(name, f"{threshold:.4f}", f"{result.true_accept_rates[name]:.3f}", meaning)
        current.out.print(table)
        current.out.print(
            f"From {result.same_pairs:,} pairs of one person and {result.different_pairs:,} of different people: "
            f"{escape(result.made_on)}.",
            highlight=False,
            soft_wrap=True,
        )
        current.next_command(f"Thresholds in {result.calibration}.", None)
        current.finish(result)
