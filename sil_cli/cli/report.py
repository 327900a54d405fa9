"""`sil report`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.cli.command import Option

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.report.report import ReportResult

EXAMPLES = """
sil report
sil report runs/001-none runs/002-ubs --out comparison
sil report runs/001-dbs --target viaduct --out viaduct.html --no-similarity-maps
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
)


def run(current: Session) -> ReportResult:
    """Show an evaluation in pictures: one self-contained HTML page, and PNG files beside it."""
    settings = current.settings()
    from sil_cli.report.report import report

    result = report(settings, current.reporter)
    size = f"{result.page_bytes / 1e6:.1f} MB"
    current.next_command(f"{result.page} ({size}) and {len(result.pictures)} pictures beside it.")
    return result
