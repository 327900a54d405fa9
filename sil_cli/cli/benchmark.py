"""`sil benchmark`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from sil_cli.cli.options import ConfigOption, DebugOption, DeviceOption, JsonOption, SetOption, common
from sil_cli.cli.session import Session, session
from sil_cli.cli.terminal import escape

if TYPE_CHECKING:
    from sil_cli.benchmark.results import BenchmarkResult
    from sil_cli.evaluation.evaluate_targets import Spread

EXAMPLES = """
[bold]Examples[/]

sil benchmark generated

sil benchmark generated --method fbf --method ubs --method dbs --seeds 5

sil benchmark p3 ~/reid

sil benchmark p1 ~/reid --seeds 3 --out tables
"""


def command(
    protocol: Annotated[
        str,
        typer.Argument(
            metavar="PROTOCOL", help="p1, p2, p3, sil-4, generated, one case such as p3-market1501, or a .toml file."
        ),
    ],
    root: Annotated[
        Path | None, typer.Argument(metavar="[ROOT]", help="The folder that holds the raw data sets.")
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            metavar="NAME",
            help="What to compare, the baseline first; may be repeated. Default: the recipe.",
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option("--seeds", metavar="N", min=1, help="Train with the seeds 1 to N; default: 1.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where runs and tables go; default: benchmarks.")
    ] = None,
    config: ConfigOption = None,
    device: DeviceOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Run a whole protocol: every case prepared, trained and tested, in one table beside the published numbers."""
    with session(common(config, device, assignments, as_json, debug)) as current:
        flags = current.flags(
            {
                "data": {"protocol": protocol, "root": root},
                "benchmark": {
                    "methods": tuple(method) if method else None,
                    "seeds": tuple(range(1, seeds + 1)) if seeds else None,
                    "out": out,
                },
            }
        )
        current.settings(flags)  # wrong settings are told at once, before torch is loaded
        from sil_cli.benchmark.run import benchmark

        result = benchmark(flags, config, current.reporter)
        _show(current, result)
        current.finish(result)


def _show(current: Session, result: BenchmarkResult) -> None:
    table = Table(title=f"{escape(result.protocol)}: mAP over Rank-1", title_justify="left", show_lines=True)
    table.add_column("method")
    for column in (*result.targets, "mean"):
        table.add_column(escape(column), justify="right", no_wrap=True)
    for method in result.methods:
        cells = [_pair(method.mAP[target], method.rank1[target]) for target in result.targets if target in method.mAP]
        table.add_row(escape(method.method), *cells, _pair(method.mean_mAP, method.mean_rank1))
    current.out.print(table)
    for difference in result.differences:
        metric = "mAP" if difference.metric == "mAP" else "Rank-1"
        interval = f"{100 * difference.low:+.1f} to {100 * difference.high:+.1f}"
        current.out.print(
            f"{escape(difference.method)} − {escape(difference.baseline)}, {metric}: {100 * difference.mean:+.1f} "
            f"(95% interval {interval}, {difference.pairs} pairs)",
            highlight=False,
            soft_wrap=True,
        )
    current.next_command(f"Tables, with the published numbers: {', '.join(map(str, result.tables))}.", None)


def _pair(first: Spread, second: Spread) -> str:
    return f"{_percent(first)}\n{_percent(second)}"


def _percent(rate: Spread) -> str:
    deviation = "" if rate.deviation is None else f"±{100 * rate.deviation:.1f}"
    return f"{100 * rate.mean:.1f}{deviation}"
