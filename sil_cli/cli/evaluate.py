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
from sil_cli.cli.terminal import escape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sil_cli.evaluation.evaluate_targets import Spread, TargetsResult
    from sil_cli.evaluation.evaluation_results import EvaluateResult

EXAMPLES = """
[bold]Examples[/]

sil evaluate

sil evaluate --model runs/001-ubs --target data/market1501

sil evaluate --embeddings theirs.npz --metric euclidean

sil evaluate --save-embeddings mine.npz

sil evaluate --flip --rerank

sil evaluate --model runs/001-ubs --model runs/002-dbs

sil evaluate --json | jq .mAP

A file of embeddings holds the arrays query_embeddings, query_identities, gallery_embeddings, gallery_identities; also
query_cameras and gallery_cameras, and optionally *_junk and *_paths. Write it with numpy.savez.
"""
SHOWN_RANK = 5
"""The last rank in the table of several targets, whose deviations take room."""
OPTIONS = "Test-time options, always named in the result"


def command(
    model: Annotated[
        list[Path] | None,
        typer.Option(
            "--model", metavar="RUN", help="A run folder; default: the newest finished one. Several are fused."
        ),
    ] = None,
    target: Annotated[
        Path | None,
        typer.Option(
            "--target",
            metavar="DIR",
            help="A prepared data set, or the folder of its splits; default: what is left out.",
        ),
    ] = None,
    embeddings: Annotated[
        Path | None,
        typer.Option("--embeddings", metavar="FILE.npz", help="Score these embeddings instead of a model."),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option("--metric", metavar="cosine|euclidean", help="How embeddings are compared; default: cosine."),
    ] = None,
    save_embeddings: Annotated[
        Path | None,
        typer.Option("--save-embeddings", metavar="FILE.npz", help="Write the model's embeddings and their labels."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where results go; default: into the run.")
    ] = None,
    engine: EngineOption = None,
    flip: Annotated[
        bool, typer.Option("--flip", help="Mean of each image and its mirror.", rich_help_panel=OPTIONS)
    ] = False,
    height: Annotated[
        int | None,
        typer.Option("--height", metavar="PIXELS", help="Input height; default: as trained.", rich_help_panel=OPTIONS),
    ] = None,
    width: Annotated[
        int | None,
        typer.Option("--width", metavar="PIXELS", help="Input width; default: as trained.", rich_help_panel=OPTIONS),
    ] = None,
    tracklets: Annotated[
        bool,
        typer.Option(
            "--tracklets", help="One query for each identity and camera: its images' mean.", rich_help_panel=OPTIONS
        ),
    ] = False,
    expand_queries: Annotated[
        int | None,
        typer.Option(
            "--expand-queries",
            metavar="N",
            help="Query expansion with the N nearest gallery images.",
            rich_help_panel=OPTIONS,
        ),
    ] = None,
    augment_gallery: Annotated[
        int | None,
        typer.Option(
            "--augment-gallery",
            metavar="N",
            help="Augment each gallery image with its N nearest others.",
            rich_help_panel=OPTIONS,
        ),
    ] = None,
    rerank: Annotated[
        bool, typer.Option("--rerank", help="Re-rank by k-reciprocal encoding.", rich_help_panel=OPTIONS)
    ] = False,
    config: ConfigOption = None,
    device: DeviceOption = None,
    assignments: SetOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Score a model on a camera network: mAP, CMC and mINP."""
    with session(common(config, device, assignments, as_json, debug)) as current:
        flags = {
            "model": model[0] if model else None,
            "fused": tuple(model[1:]) if model else None,
            "target": target,
            "embeddings": embeddings,
            "metric": metric,
            "save_embeddings": save_embeddings,
            "out": out,
            "flip": flip or None,
            "height": height,
            "width": width,
            "tracklets": tracklets or None,
            "expand_queries": expand_queries,
            "augment_gallery": augment_gallery,
            "rerank": rerank or None,
        }
        settings = current.settings({"evaluate": flags, "inference": {"engine": engine}})
        from sil_cli.evaluation.evaluate_targets import TargetsResult, evaluate_targets

        result = evaluate_targets(settings, current.reporter)
        if isinstance(result, TargetsResult):
            _show_targets(current, result, settings.train.runs)
        else:
            _show(current, result, settings.train.runs)
        current.finish(result)


def _show(current: Session, result: EvaluateResult, runs: Path) -> None:
    current.out.print(_scores(result))
    for line in _lines(result):
        current.out.print(line, highlight=False, soft_wrap=True)
    following = _index_with(result.model, runs) if result.fingerprint else None
    current.next_command(f"Results in {result.results}.", following)


def _index_with(model: Path, runs: Path) -> str | None:
    """The command that fills a gallery by this model; None for a checkpoint, which no gallery takes."""
    from sil_cli.defaults import model_option
    from sil_cli.models.load import CHECKPOINT_SUFFIX

    return None if model.suffix == CHECKPOINT_SUFFIX else f"sil index-gallery{model_option(model, runs)}"


def _show_targets(current: Session, result: TargetsResult, runs: Path) -> None:
    table = Table(title=escape(result.model), title_justify="left")
    table.add_column("target")
    ranks = [rank for rank in result.targets[0].cmc if rank <= SHOWN_RANK]
    for column in ("splits", "mAP", *(f"Rank-{rank}" for rank in ranks), "mINP"):
        table.add_column(column, justify="right", no_wrap=True)
    for target in result.targets:
        rates = [target.mAP, *(target.cmc[rank] for rank in ranks), target.mINP]
        table.add_row(escape(target.target), str(len(target.splits)), *(_spread(rate) for rate in rates))
    current.out.print(table)
    current.out.print(f"In percent. Conditions: {escape(_listed(result.conditions))}.", highlight=False, soft_wrap=True)
    current.out.print("± is the standard deviation over the splits (n − 1).", highlight=False, soft_wrap=True)
    files = ", ".join(str(target.results) for target in result.targets)
    current.next_command(f"Results in {files}.", _index_with(result.model, runs))


def _spread(rate: Spread) -> str:
    deviation = "" if rate.deviation is None else f" ± {100 * rate.deviation:.1f}"
    return f"{100 * rate.mean:.1f}{deviation}"


def _scores(result: EvaluateResult) -> Table:
    table = Table(title=escape(f"{result.model} on {result.target}"), title_justify="left")
    table.add_column("")
    for column in ("mAP", *(f"Rank-{rank}" for rank in result.cmc), "mINP", "queries", "gallery"):
        table.add_column(column, justify="right")
    rates = {"mAP": result.mAP, **{f"Rank-{rank}": rate for rank, rate in result.cmc.items()}, "mINP": result.mINP}
    table.add_row("", *(f"{100 * rate:.1f}" for rate in rates.values()), f"{result.queries:,}", f"{result.gallery:,}")
    for label, end in (("from", "low"), ("to", "high")):
        ends = (getattr(result.intervals.get(name), end, None) for name in rates)
        table.add_row(label, *("" if each is None else f"{100 * each:.1f}" for each in ends), "", "")
    return table


def _lines(result: EvaluateResult) -> Iterator[str]:
    found = result.open_set
    yield (
        "TAR at FAR "
        + "; ".join(f"{rate}: {_percent(each)}" for rate, each in found.tar_at_far.items())
        + (f" ({found.same_pairs:,} same and {found.different_pairs:,} different pairs)")
    )
    yield (
        "DIR at FAR "
        + "; ".join(f"{rate}: {_percent(each)}" for rate, each in found.dir_at_far.items())
        + (f" ({found.known:,} queries in the gallery, {found.strangers:,} not)")
    )
    if result.calibration:
        for name, each in (("match", result.calibration.match), ("possible", result.calibration.possible)):
            yield (
                f"Calibrated '{name}' from {each.threshold:.3f} on: here FAR {each.false_accept_rate:.1e}, "
                f"TAR {_percent(each.true_accept_rate)}"
                f"{' (measured on this very data set)' if result.calibration.made_on_target else ''}"
            )
    listed = escape(_listed(result.conditions))
    yield f"The table in percent; from, to: 95 % intervals, bootstrap over queries. Conditions: {listed}."


def _percent(rate: float | None) -> str:
    return "too few" if rate is None else f"{100 * rate:.1f} %"


def _listed(conditions: dict[str, str]) -> str:
    return "; ".join(f"{name}: {value}" for name, value in conditions.items())
