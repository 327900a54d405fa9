"""`sil compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sil_cli.cli.command import Option
from sil_cli.cli.terminal import escape, print_table

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.evaluation.compare import CompareResult

EXAMPLES = """
sil compare runs/001-dbs runs/002-ubs
sil compare runs/001-dbs runs/002-ubs --target market1501 --changed 10
sil compare runs/001-dbs theirs-evaluation --json
"""
OPTIONS = (
    Option(
        "first",
        metavar="RUN",
        help="A run folder, a folder of results or a results file.",
        kind=Path,
        required=True,
    ),
    Option("second", metavar="RUN", help="Another, evaluated on the same target.", kind=Path, required=True),
    Option("--target", "compare.target", "NAME"),
    Option(
        "--changed", "compare.changed", "N", "How many of the most improved queries to name, and of the most worsened."
    ),
)


def run(current: Session) -> CompareResult:
    """Compare two models on the same test, query by query."""
    settings = current.settings()
    from sil_cli.evaluation.compare import compare

    result = compare(settings, current.given["first"], current.given["second"])
    for text in result.warnings:
        current.reporter.warn(text)
    _show_scores(current, result)
    current.say(
        f"In percent; 95 % intervals by paired bootstrap, p by permutation. Of {result.queries:,} queries "
        f"{result.better:,} are better, {result.worse:,} worse, {result.equal:,} equal in the second."
    )
    known = {name: both for name, both in result.different_conditions.items() if None not in both}
    for name, (one, other) in known.items():
        current.say(escape(f"They differ in {name}: {one} / {other}."))
    if len(known) < len(result.different_conditions):
        unknown = ", ".join(name for name in result.different_conditions if name not in known)
        current.say(escape(f"Known of one of them only: {unknown}."))
    if result.changed_most:
        _show_changed(current, result)
    return result


def _show_scores(current: Session, result: CompareResult) -> None:
    metrics = result.metrics.values()
    print_table(
        current.out,
        escape(f"{result.second} against {result.first} on {result.target}"),
        {
            "metric": list(result.metrics),
            "first": [f"{100 * metric.first:.1f}" for metric in metrics],
            "second": [f"{100 * metric.second:.1f}" for metric in metrics],
            "difference": [f"{100 * metric.difference:+.1f}" for metric in metrics],
            "95 % interval": [
                f"{100 * metric.interval.low:+.1f} to {100 * metric.interval.high:+.1f}" for metric in metrics
            ],
            "p": [f"{metric.p:.4f}" for metric in metrics],
        },
        left=("metric",),
    )


def _show_changed(current: Session, result: CompareResult) -> None:
    changed = result.changed_most
    print_table(
        current.out,
        "Changed most (average precision in percent)",
        {
            "query": [escape(each.path or f"number {each.query}") for each in changed],
            "identity": [escape(each.identity) for each in changed],
            "camera": [escape(each.camera or "unknown") for each in changed],
            "first": [f"{100 * each.first:.1f}" for each in changed],
            "second": [f"{100 * each.second:.1f}" for each in changed],
        },
        left=("query", "identity", "camera"),
        optional=("camera", "identity"),
    )
