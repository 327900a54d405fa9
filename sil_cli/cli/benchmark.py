"""`sil benchmark`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.cli.command import Option
from sil_cli.cli.terminal import escape, print_table
from sil_cli.errors import UsageError

if TYPE_CHECKING:
    from sil_cli.benchmark.results import BenchmarkResult
    from sil_cli.cli.session import Session
    from sil_cli.evaluation.results import MeanRate

EXAMPLES = """
sil benchmark generated
sil benchmark generated --method fbf --method ubs --method dbs --seeds 5
sil benchmark p3 ~/reid
sil benchmark p1 ~/reid --seeds 3 --out tables
"""
OPTIONS = (
    Option(
        "protocol",
        "data.protocol",
        "PROTOCOL",
        "p1, p2, p3, sil-4, generated, one case such as p3-market1501, or a .toml file.",
        required=True,
    ),
    Option("root", "data.root", "[ROOT]", "The folder that holds the raw data sets."),
    Option(
        "--method",
        "benchmark.methods",
        "NAME",
        "What to compare, the baseline first; may be repeated. Default: the recipe.",
    ),
    Option("--seeds", metavar="N", help="Train with the seeds 1 to N; default: 1.", kind=int),
    Option("--out", "benchmark.out", "DIR"),
)

CHOSEN_BY_THE_BENCHMARK = ("run", "sources", "seed", "resume")
"""Settings of a training that can't be given."""


def run(current: Session) -> BenchmarkResult:
    """Run a whole protocol: every case prepared, trained and tested, in one table beside the published numbers."""
    seeds = current.given["seeds"]
    more = {} if seeds is None else {"benchmark": {"seeds": tuple(range(1, seeds + 1))}}
    for key in CHOSEN_BY_THE_BENCHMARK:
        if key in current.flags(more).get("train", {}):
            raise UsageError(f"A benchmark sets train.{key} itself.", "Leave it out; use --seeds to choose seeds.")
    settings = current.settings(more)  # wrong settings are reported at once, before torch is loaded
    from sil_cli.benchmark.run import benchmark

    result = benchmark(settings, current.reporter)
    columns = {"method": [escape(method.method) for method in result.methods]}
    for target in result.targets:
        columns[escape(target)] = [
            _pair(method.mAP[target], method.rank1[target]) if target in method.mAP else "" for method in result.methods
        ]
    columns["mean"] = [_pair(method.mean_mAP, method.mean_rank1) for method in result.methods]
    print_table(current.out, f"{escape(result.protocol)}: mAP over Rank-1", columns, left=("method",))
    for difference in result.differences:
        metric = "mAP" if difference.metric == "mAP" else "Rank-1"
        interval = f"{100 * difference.low:+.1f} to {100 * difference.high:+.1f}"
        current.say(
            f"{escape(difference.method)} − {escape(difference.baseline)}, {metric}: {100 * difference.mean:+.1f} "
            f"(95% interval {interval}, {difference.pairs} pairs)"
        )
    current.next_command(f"Tables, with the published numbers: {', '.join(map(str, result.tables))}.")
    return result


def _pair(first: MeanRate, second: MeanRate) -> str:
    return f"{_percent(first)}\n{_percent(second)}"


def _percent(rate: MeanRate) -> str:
    deviation = "" if rate.deviation is None else f"±{100 * rate.deviation:.1f}"
    return f"{100 * rate.mean:.1f}{deviation}"
