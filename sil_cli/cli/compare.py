"""`sil compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from sil_cli.cli.options import ConfigOption, DebugOption, DeviceOption, JsonOption, SetOption, common
from sil_cli.cli.session import session
from sil_cli.cli.terminal import escape

if TYPE_CHECKING:
    from sil_cli.evaluation.evaluation_results import CompareResult

EXAMPLES = """
[bold]Examples[/]

sil compare runs/001-ubs runs/002-dbs

sil compare runs/001-ubs runs/002-dbs --target market1501 --changed 10

sil compare runs/001-ubs theirs-evaluation --json
"""


def command(
    first: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, a folder of results or a results file.")],
    second: Annotated[Path, typer.Argument(metavar="RUN", help="Another one, evaluated on the same target.")],
    target: Annotated[
        str | None, typer.Option("--target", metavar="NAME", help="The target; default: the one that both have.")
    ] = None,
    changed: Annotated[
        int | None, typer.Option("--changed", metavar="N", help="Queries to name that gained and that lost most.")
    ] = None,
    config: ConfigOption = None,
    device: DeviceOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Compare two models on the same test, query by query."""
    with session(common(config, device, assignments, as_json, debug)) as current:
        settings = current.settings({"compare": {"target": target, "changed": changed}})
        from sil_cli.evaluation.compare import compare

        result = compare(settings, first, second)
        current.out.print(_scores(result))
        current.out.print(
            f"In percent; 95 % intervals by paired bootstrap, p by permutation. Of {result.queries:,} queries "
            f"{result.better:,} are better, {result.worse:,} worse, {result.equal:,} equal in the second.",
            highlight=False,
            soft_wrap=True,
        )
        known = {name: both for name, both in result.different_conditions.items() if None not in both}
        for name, (one, other) in known.items():
            current.out.print(escape(f"They differ in {name}: {one} / {other}."), highlight=False, soft_wrap=True)
        if len(known) < len(result.different_conditions):
            unknown = ", ".join(name for name in result.different_conditions if name not in known)
            current.out.print(escape(f"Known of one of them only: {unknown}."), highlight=False, soft_wrap=True)
        if result.changed_most:
            current.out.print(_changed(result))
        current.finish(result)


def _scores(result: CompareResult) -> Table:
    table = Table(title=escape(f"{result.second} against {result.first} on {result.target}"), title_justify="left")
    table.add_column("")
    for column in ("first", "second", "difference", "95 % interval", "p"):
        table.add_column(column, justify="right")
    for name, metric in result.metrics.items():
        table.add_row(
            name,
            f"{100 * metric.first:.1f}",
            f"{100 * metric.second:.1f}",
            f"{100 * metric.difference:+.1f}",
            f"{100 * metric.interval.low:+.1f} to {100 * metric.interval.high:+.1f}",
            f"{metric.p:.4f}",
        )
    return table


def _changed(result: CompareResult) -> Table:
    table = Table(title="Changed most (average precision in percent)", title_justify="left")
    for column in ("query", "identity", "camera"):
        table.add_column(column)
    for column in ("first", "second"):
        table.add_column(column, justify="right")
    for each in result.changed_most:
        names = (each.path or f"number {each.query}", each.identity, each.camera or "unknown")
        table.add_row(*map(escape, names), f"{100 * each.first:.1f}", f"{100 * each.second:.1f}")
    return table
