"""`sil report`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.cli.command import Option
from sil_cli.cli.terminal import escape
from sil_cli.errors import UsageError, visible

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.report.report import ReportResult
    from sil_cli.report.run_exports import TrackingResult
    from sil_cli.settings import Settings

EXAMPLES = """
sil report
sil report runs/001-none runs/002-ubs --out comparison
sil report runs/001-dbs --target viaduct --out viaduct.html --no-similarity-maps
sil report runs/001-none runs/002-ubs --to mlflow
"""
OPTIONS = (
    Option("runs", "report.runs", "[RUN...]", "Run folders, side by side; default: the latest finished run."),
    Option(
        "--target",
        "report.target",
        "NAME",
        "The data set that they were evaluated on, or one of its splits or variants: viaduct/flip.",
    ),
    Option("--out", "report.out", "DIR|FILE.html"),
    Option("--queries", "report.queries", "N", "Best, typical and worst queries to show, N of each."),
    Option("--projection", "report.projection", help="How embeddings are laid out in two dimensions."),
    Option(
        "--similarity-maps/--no-similarity-maps",
        "report.similarity_maps",
        help="Show where images agree; runs the model.",
    ),
    Option(
        "--to",
        metavar="mlflow",
        help="Instead, write settings, metrics and results into MLflow's folder of runs, --out or mlruns.",
        kind=str,
    ),
)


def run(current: Session) -> ReportResult | TrackingResult:
    """Show an evaluation in pictures: one self-contained HTML page, and PNG files beside it."""
    settings = current.settings()
    if current.given["to"] is not None:
        return _track(current, settings)
    from sil_cli.report.report import report

    result = report(settings, current.reporter)
    size = f"{result.page_bytes / 1e6:.1f} MB"
    current.next_command(f"{result.page} ({size}) and {len(result.pictures)} pictures beside it.")
    return result


def _track(current: Session, settings: Settings) -> TrackingResult:
    from sil_cli.report.run_exports import track_in_mlflow

    given = current.given
    if given["to"] != "mlflow":
        raise UsageError(
            f"A run can't be written for '{visible(given['to'])}'.",
            "Use --to mlflow; for others, metrics.jsonl in the run has a line of JSON an epoch.",
        )
    for option in OPTIONS:
        if option.flag not in ("runs", "--out", "--to") and given[option.name] is not None:
            raise UsageError(f"--to mlflow takes no {option.flag.partition('/')[0]}.", "Leave it out.")
    result = track_in_mlflow(settings)
    values = sum(each.metrics for each in result.runs)
    current.next_command(f"{values:,} values of metrics are in MLflow's folder {escape(result.store)}.")
    return result
