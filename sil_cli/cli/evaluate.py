"""`sil evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sil_cli.cli.command import ENGINE, Option
from sil_cli.cli.terminal import escape, print_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sil_cli.cli.session import Session
    from sil_cli.evaluation.results import EvaluateResult, MeanRate, TargetsResult
    from sil_cli.footage.evaluate_tracks import TrackResult
    from sil_cli.settings import Settings

EXAMPLES = """
sil evaluate
sil evaluate --model runs/001-dbs --target data/market1501
sil evaluate --embeddings theirs.npz --metric euclidean
sil evaluate --save-embeddings mine.npz
sil evaluate --flip --rerank
sil evaluate --model runs/001-dbs --model runs/002-ubs
sil evaluate --json | jq .mAP
sil evaluate --tracks crops --truth data/footage
A file of embeddings holds the arrays query_embeddings, query_identities, gallery_embeddings, gallery_identities; also \
query_cameras and gallery_cameras, and optionally *_junk and *_paths. Write it with numpy.savez.
"""
SHOWN_RANK = 5
"""The last rank in the table of several targets, whose deviations take room."""
AT_TEST_TIME = "Inference options, always named in the result"
TRACKLETS = "Tracklets of footage instead of a model"


OPTIONS = (
    Option(
        "--model",
        metavar="RUN",
        help="A run folder; default: the latest finished run. Several are fused.",
        kind=list[Path],
    ),
    Option(
        "--target",
        "evaluate.target",
        "DIR",
        "A prepared data set, or the folder of its splits; default: what is left out.",
    ),
    Option("--embeddings", "evaluate.embeddings", "FILE.npz", "Score these embeddings instead of a model."),
    Option("--metric", "evaluate.metric", help="How embeddings are compared; default: cosine."),
    Option(
        "--save-embeddings", "evaluate.save_embeddings", "FILE.npz", "Write the model's embeddings and their labels."
    ),
    Option("--out", "evaluate.out", "DIR"),
    ENGINE,
    Option("--flip", "evaluate.flip", help="Mean of each image and its mirror.", panel=AT_TEST_TIME),
    Option("--height", "evaluate.height", "PIXELS", panel=AT_TEST_TIME),
    Option("--width", "evaluate.width", "PIXELS", panel=AT_TEST_TIME),
    Option(
        "--tracklets",
        "evaluate.tracklets",
        help="One query for each identity and camera: its images' mean.",
        panel=AT_TEST_TIME,
    ),
    Option(
        "--expand-queries",
        "evaluate.expand_queries",
        "N",
        "Query expansion with the N nearest gallery images.",
        panel=AT_TEST_TIME,
    ),
    Option(
        "--augment-gallery",
        "evaluate.augment_gallery",
        "N",
        "Augment each gallery image with its N nearest others.",
        panel=AT_TEST_TIME,
    ),
    Option("--rerank", "evaluate.rerank", panel=AT_TEST_TIME),
    Option("--tracks", "tracks.found", "DIR", panel=TRACKLETS),
    Option("--truth", "tracks.truth", "DIR", panel=TRACKLETS),
    Option("--groups", "tracks.groups", "FILE.csv", panel=TRACKLETS),
)


def run(current: Session) -> EvaluateResult | TargetsResult | TrackResult:
    """Score a model on a camera network: mAP, CMC and mINP; or the tracklets of footage: IDF1 and HOTA."""
    models = current.given["model"] or []
    settings = current.settings({"evaluate": {"model": models[0], "fused": tuple(models[1:])}} if models else None)
    if settings.tracks != type(settings.tracks)():
        return _run_tracks(current, settings)
    from sil_cli.evaluation.evaluate import run_evaluation
    from sil_cli.evaluation.results import TargetsResult

    result = run_evaluation(settings, current.reporter)
    if isinstance(result, TargetsResult):
        _show_targets(current, result, settings.train.runs)
    else:
        _show(current, result, settings.train.runs)
    scores = result.targets if isinstance(result, TargetsResult) else [result]
    current.is_complete = all(each.results is not None for each in scores)
    return result


def _run_tracks(current: Session, settings: Settings) -> TrackResult:
    from sil_cli.footage.evaluate_tracks import evaluate_tracks

    result = evaluate_tracks(settings, current.reporter)
    rows = [*result.cameras, *([result.all] if len(result.cameras) > 1 else [])]
    columns = {
        "camera": [escape(each.name) for each in rows],
        "people": [f"{each.people:,}" for each in rows],
        "tracklets": [f"{each.tracklets:,}" for each in rows],
        "recall": [_rate(each.recall) for each in rows],
        "precision": [_rate(each.precision) for each in rows],
        "IDF1": [_rate(each.idf1) for each in rows],
        "HOTA": [_rate(each.hota) for each in rows],
        "DetA": [_rate(each.detection_accuracy) for each in rows],
        "AssA": [_rate(each.association_accuracy) for each in rows],
    }
    print_table(current.out, escape(f"{result.tracks} against {result.truth}"), columns, left=("camera",))
    if result.across_cameras is not None:
        over = result.across_cameras
        current.say(
            f"Over all cameras {over.found:,} groups for {over.people:,} people: IDF1 {_rate(over.idf1)}; "
            f"each tracklet alone: {_rate(over.cameras_alone)}."
        )
    current.say("In percent; recall and precision at an intersection over union of 0.5.")
    if result.results is not None:
        current.say(f"Results in {escape(str(result.results))}.")
    current.is_complete = result.results is not None
    return result


def _rate(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _show(current: Session, result: EvaluateResult, runs: Path) -> None:
    rates = {"mAP": result.mAP, **{f"Rank-{rank}": rate for rank, rate in result.cmc.items()}, "mINP": result.mINP}
    columns = {"": ["", "from", "to"]}
    for name, rate in rates.items():
        interval = result.intervals.get(name)
        ends = [None, None] if interval is None else [interval.low, interval.high]
        columns[name] = ["" if each is None else f"{100 * each:.1f}" for each in (rate, *ends)]
    columns |= {"queries": [f"{result.queries:,}", "", ""], "gallery": [f"{result.gallery:,}", "", ""]}
    print_table(current.out, escape(f"{result.model} on {result.target}"), columns, left=("",))
    for line in _lines(result):
        current.say(line)
    following = _index_with(result.model, runs) if result.fingerprint else None
    if result.results is not None:
        current.next_command(f"Results in {result.results}.", following)


def _index_with(model: Path, runs: Path) -> str | None:
    """The command that fills a gallery by this model; None for a checkpoint, which no gallery takes."""
    from sil_cli.defaults import model_option
    from sil_cli.models.load import CHECKPOINT_SUFFIX

    return None if model.suffix == CHECKPOINT_SUFFIX else f"sil index-gallery{model_option(model, runs)}"


def _show_targets(current: Session, result: TargetsResult, runs: Path) -> None:
    targets = result.targets
    columns = {
        "target": [escape(target.target) for target in targets],
        "splits": [str(len(target.splits)) for target in targets],
        "mAP": [_spread(target.mAP) for target in targets],
    }
    for rank in (rank for rank in targets[0].cmc if rank <= SHOWN_RANK):
        columns[f"Rank-{rank}"] = [_spread(target.cmc[rank]) for target in targets]
    columns["mINP"] = [_spread(target.mINP) for target in targets]
    print_table(current.out, escape(result.model), columns, left=("target",))
    current.say(f"In percent. Conditions: {escape(_listed(result.conditions))}.")
    current.say("± is the standard deviation over the splits (n − 1).")
    files = ", ".join(str(target.results) for target in targets if target.results is not None)
    if files:
        current.next_command(f"Results in {files}.", _index_with(result.model, runs))


def _spread(rate: MeanRate) -> str:
    deviation = "" if rate.deviation is None else f" ± {100 * rate.deviation:.1f}"
    return f"{100 * rate.mean:.1f}{deviation}"


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
    if found.searched is not None:
        yield (
            "FNIR at FPIR "
            + "; ".join(f"{rate}: {_percent(each)}" for rate, each in found.fnir_at_fpir.items())
            + f" (a gallery of {found.searched:,})"
        )
    if result.expected_false_matches:
        held = "; ".join(f"{each.expected:g}: {each.found:.2g}" for each in result.expected_false_matches.at)
        yield f"Expected false matches, and found ones a query: {held}."
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
