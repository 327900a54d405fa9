"""`sil calibrate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.cli.command import Option
from sil_cli.cli.terminal import escape, print_table

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.evaluation.calibrate import CalibrateResult

EXAMPLES = """
[bold]Examples[/]

sil calibrate

sil calibrate --model runs/001-dbs --on data/office

sil calibrate --set calibrate.match=1e-4
"""
OPTIONS = (Option("--model", "calibrate.model", "RUN"), Option("--on", "calibrate.on", "DIR"))


def run(current: Session) -> CalibrateResult:
    """Measure the score above which two images count as one person, on people the model was not trained on."""
    settings = current.settings()
    from sil_cli.evaluation.calibrate import calibrate

    result = calibrate(settings, current.reporter)
    meanings = {result.match: "match", result.possible: "possible"}
    print_table(
        current.out,
        f"Thresholds of {escape(result.model)}",
        {
            "false accept rate": list(result.thresholds),
            "score from": [f"{each:.4f}" for each in result.thresholds.values()],
            "true accept rate": [f"{result.true_accept_rates[name]:.3f}" for name in result.thresholds],
            "": [meanings.get(each, "") for each in result.thresholds.values()],
        },
    )
    current.say(
        f"From {result.same_pairs:,} pairs of one person and {result.different_pairs:,} of different people: "
        f"{escape(result.made_on)}."
    )
    current.next_command(f"Thresholds in {result.calibration}.")
    return result
