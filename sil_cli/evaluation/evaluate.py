"""`sil evaluate`: from a model and prepared data sets, or from anyone's embeddings, to numbers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sil_cli.data.labels import is_unknown
from sil_cli.data.manifest import Dataset, ImageRecord, load_dataset
from sil_cli.defaults import RECORD_FILE, model_folder, split_folders, target_folders
from sil_cli.errors import DataError, UsageError, one_line, quoted
from sil_cli.evaluation.calibration import Calibration, read_calibration
from sil_cli.evaluation.chance import check_chance
from sil_cli.evaluation.embeddings_file import read_embeddings, write_embeddings
from sil_cli.evaluation.inference_options import embed_images, prepare_sides, refuse_contradictions
from sil_cli.evaluation.report_data import make_report_data, write_report_data
from sil_cli.evaluation.results import (
    QUERIES_FILE,
    RESULTS_FILE,
    VERIFICATION_FILE,
    EvaluateResult,
    TargetScores,
    TargetsResult,
    write_queries,
    write_verification,
)
from sil_cli.evaluation.score import fingerprint_of_test, measure
from sil_cli.evaluation.tested_models import (
    TEST_SET,
    TestedModel,
    conditions_of_inference,
    conditions_of_training,
    load_models,
    results_folder,
    variant,
)
from sil_cli.files import read_bytes, refuse_links, write_json
from sil_cli.models.record import WEIGHTS_FILE
from sil_cli.output_checks import refuse_overwriting, require_writable
from sil_cli.settings import refuse_outside

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sil_cli.evaluation.inference_options import EmbeddedImages
    from sil_cli.evaluation.pairs import EmbeddingSet
    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings

Sides = tuple[list[ImageRecord], list[ImageRecord]]


def run_evaluation(settings: Settings, reporter: Reporter) -> EvaluateResult | TargetsResult:
    """Score a model on what is to be tested: one data set, the splits of one, or several of either.

    Raises:
        SilError: There is no model or target, or they can't be used.
    """
    if settings.evaluate.embeddings is not None:
        return _evaluate_file(settings, settings.evaluate.embeddings, reporter)
    model_folder(settings.evaluate.model, settings.train.runs)  # without a model there is nothing to look for
    targets = target_folders(settings.evaluate.target, settings.data.folder)
    if len(targets) == 1 and not split_folders(targets[0]):
        return evaluate_target(settings, targets[0], reporter, out=settings.evaluate.out).splits[0]
    if settings.evaluate.save_embeddings is not None:
        raise UsageError("--save-embeddings writes one file, and there are several tests.", "Name one with --target.")
    scored = [evaluate_target(settings, target, reporter) for target in targets]
    first = scored[0].splits[0]
    conditions = {name: value for name, value in first.conditions.items() if name != TEST_SET}  # each has its own
    return TargetsResult(model=first.model, fingerprint=first.fingerprint or "", targets=scored, conditions=conditions)


def evaluate_target(settings: Settings, target: Path, reporter: Reporter, *, out: Path | None = None) -> TargetScores:
    """Score the model that the settings name on a data set, or on each of its splits, embedding each image once.

    Args:
        settings: Of the command.
        target: The data set, or the folder of its splits.
        reporter: Shows progress.
        out: Where results go, those of splits into folders below; by default into a folder of the target's name where
            the settings say, or into the run.

    Raises:
        SilError: There is no model or target, or they can't be used.
    """
    options = settings.evaluate
    out = out or (options.out / target.name if options.out else None)
    if out is None:
        refuse_outside(settings, "evaluate.model")
    folders = split_folders(target) or [target]
    several = len(folders) > 1
    datasets = [load_dataset(folder) for folder in folders]
    sides = [_sides(dataset) for dataset in datasets]  # what can't be tested is refused before anything is embedded
    refuse_contradictions(options)
    paths = [model_folder(options.model, settings.train.runs), *options.fused]
    weights = [path / name for path in paths for name in (WEIGHTS_FILE, RECORD_FILE)]
    files = [file for dataset in datasets for file in dataset.files()]
    refuse_overwriting(options.save_embeddings, [*weights, *files], option="--save-embeddings")
    if options.save_embeddings is not None:
        require_writable(options.save_embeddings, option="--save-embeddings FILE")
    models = load_models(paths, settings, reporter, images=sum(len(each) for both in sides for each in both))
    outs = [
        out / dataset.folder.name if out and several else out or results_folder(models, dataset, settings)
        for dataset in datasets
    ]
    for folder in outs:
        require_writable(folder, option="--out DIR")
    embedded = embed_images(
        [model.engine for model in models],
        [(dataset, side) for dataset, both in zip(datasets, sides, strict=True) for side in both],
        "Images of all splits" if several else "Queries and gallery",
        reporter,
        batch=options.batch,
        flip=options.flip,
    )
    results = []
    for number, (dataset, both, folder) in enumerate(zip(datasets, sides, outs, strict=True), start=1):
        if several:
            reporter.note(f"{target.name}: split {number} of {len(folders)}.")
        results.append(_evaluate_dataset(models, dataset, both, embedded, folder, settings, reporter))
    scores = TargetScores.of(results)
    path = scores.results
    if several and path and not _is_kept(lambda: write_json(path, scores.model_dump(mode="json")), path, reporter):
        scores = scores.model_copy(update={"results": None})
    return scores


def _sides(dataset: Dataset) -> Sides:
    """The queries and the gallery of a data set, each of which must hold images."""
    query, gallery = dataset.of_split("query"), dataset.of_split("gallery")
    if not query or not gallery:
        raise DataError(
            f"{dataset.folder} has no test images: {len(query)} queries and {len(gallery)} in the gallery.",
            "Name another --target, or prepare it with `sil prepare-data --split test` or `--split half`.",
        )
    return query, gallery


def _evaluate_dataset(
    models: Sequence[TestedModel],
    dataset: Dataset,
    records: Sides,
    embedded: EmbeddedImages,
    folder: Path,
    settings: Settings,
    reporter: Reporter,
) -> EvaluateResult:
    query, gallery = (embedded.side(dataset, side) for side in records)
    if settings.evaluate.save_embeddings is not None:
        users_own = settings.is_users_own("evaluate.save_embeddings")
        saved = settings.evaluate.save_embeddings
        if _is_kept(lambda: write_embeddings(saved, query, gallery, users_own=users_own), saved, reporter):
            reporter.note(f"Embeddings in {saved}.")
    facts = [source for model in models if model.facts for source in model.facts.sources]
    result = _score(
        query,
        gallery,
        settings,
        reporter,
        about={
            "model": models[0].path,
            "fused": tuple(model.path for model in models[1:]),
            "fingerprint": models[0].engine.fingerprint,
            "target": dataset.name,
            "card": models[0].record.card,
            "trained_on_target": any(source.manifest_sha256 == dataset.info.manifest_sha256 for source in facts),
            "conditions": {
                **conditions_of_training(models, dataset),
                **conditions_of_inference(models, settings),
            },
        },
        folder=folder,
        calibration=_calibration(models, settings, reporter),
        images=(dataset, records),
    )
    if result.trained_on_target:
        reporter.warn(f"{models[0].path} was trained on {dataset.name}: these numbers do not show generalisation.")
    return result


def _evaluate_file(settings: Settings, path: Path, reporter: Reporter) -> EvaluateResult:
    for name in ("model", "target", "save_embeddings"):
        if getattr(settings.evaluate, name) is not None:
            flag = name.replace("_", "-")
            raise UsageError(f"--embeddings can't be combined with --{flag}.", "Leave one of them out.")
    if settings.evaluate.flip or settings.evaluate.height or settings.evaluate.width:
        raise UsageError(
            "Embeddings in a file can no longer be mirrored or resized.", "Leave --flip, --height and --width out."
        )
    refuse_contradictions(settings.evaluate)
    folder = settings.evaluate.out
    if folder is None:
        refuse_outside(settings, "evaluate.embeddings")
        folder = path.with_name(f"{path.stem}-evaluation") / variant([], settings)
        refuse_links(folder, within=path.parent)
    require_writable(folder, option="--out DIR")
    query, gallery = read_embeddings(path)
    for name, side in (("queries", query), ("gallery images", gallery)):
        if side.junk_flags().any():
            reporter.note(f"{side.junk_flags().sum():,} {name} are junk and are ignored.")
    return _score(
        query,
        gallery,
        settings,
        reporter,
        about={
            "model": path,
            "fingerprint": None,
            "target": path.stem,
            "trained_on_target": None,
            "conditions": {"embeddings": f"{path.name}, {query.embeddings.shape[1]} values, {query.embeddings.dtype}"}
            | conditions_of_inference([], settings),
        },
        folder=folder,
    )


def _score(
    query: EmbeddingSet,
    gallery: EmbeddingSet,
    settings: Settings,
    reporter: Reporter,
    *,
    about: dict[str, Any],
    folder: Path,
    calibration: Calibration | None = None,
    images: tuple[Dataset, Sides] | None = None,
) -> EvaluateResult:
    options = settings.evaluate
    query, gallery = prepare_sides(query, gallery, options, reporter)
    rerank = settings.rerank if options.rerank else None
    measured = measure(query, gallery, metric=options.metric, rerank=rerank, reporter=reporter)
    manifest = images[0].info.manifest_sha256 if images else None
    about["conditions"] |= {"distance": options.metric, **_of_cameras(query, gallery, in_file=images is None)}
    result = EvaluateResult(
        **about,
        **dict(measured.scores),
        manifest_sha256=manifest,
        test_set=fingerprint_of_test(query, gallery),
        calibration=calibration.check(measured.pairs, manifest=manifest) if calibration else None,
        expected_false_matches=check_chance(query, gallery) if options.metric == "cosine" else None,
        results=folder / RESULTS_FILE,
        per_query=folder / QUERIES_FILE,
    )
    if images is not None or options.out is not None:  # whoever wrote a file of embeddings anew knows
        _warn_of_replacing(result, folder, named=options.out is not None, reporter=reporter)
    writing: list[Callable[[], None]] = [
        lambda: write_queries(folder / QUERIES_FILE, measured.queries, query),
        lambda: write_verification(folder / VERIFICATION_FILE, measured.pairs, measured.identification),
    ]
    if images is not None and len(query) == len(images[1][0]):  # a tracklet has no image of its own
        dataset, records = images
        about_target = {
            "fingerprint": result.fingerprint,
            "target": result.target,
            "dataset": str(dataset.folder),
            "dataset_from_here": os.path.relpath(dataset.folder.resolve(), folder.resolve()),
            "manifest_sha256": manifest,
            "generated": dataset.info.generated,
            "searched": measured.identification.searched,
            "identification": measured.identification.curve(),
        }
        data = make_report_data(about_target, (query, gallery), measured.ranks, records, reporter=reporter)
        writing.append(lambda: write_report_data(folder, data))
    document = result.model_dump(mode="json")
    writing.append(lambda: write_json(folder / RESULTS_FILE, document))  # the last: where it is, everything is
    if not all(_is_kept(write, folder, reporter) for write in writing):
        result = result.model_copy(update={"results": None, "per_query": None})
    if result.dropped_queries:
        first = measured.queries.dropped[0]
        _warn_of_dropped(result, f"query {first}" if query.keys is None else query.keys[first], reporter)
    return result


def _warn_of_dropped(result: EvaluateResult, first: str, reporter: Reporter) -> None:
    several = result.dropped_queries > 1
    others = f" and others{f', see {result.per_query}' if result.per_query else ''}" if several else ""
    what, verb = (f"{result.dropped_queries} queries have", "are") if several else ("1 query has", "is")
    reporter.warn(f"{what} no valid match in the gallery and {verb} left out: {first}{others}.")


def _is_kept(write: Callable[[], None], path: Path, reporter: Reporter) -> bool:
    """Write something that is measured; where that fails, as on a full disk, the numbers are still to be shown."""
    try:
        write()
    except OSError as error:
        reporter.warn(
            f"{path} was not written: {one_line(error)}. To keep the numbers, free some space or name another place, "
            "and run the command again."
        )
        return False
    return True


def _of_cameras(query: EmbeddingSet, gallery: EmbeddingSet, *, in_file: bool) -> dict[str, str]:
    """Whether images are ignored for their camera, where that isn't what everyone expects."""
    here, there = ({at for _, at in side.labelled() if not is_unknown(at)} for side in (query, gallery))
    if not here & there:
        which = "none on both sides" if here and there else "unknown"
        return {"cameras": f"{which}: no image is ignored for its camera"}
    return {"cameras": "as in the file"} if in_file else {}


def _warn_of_replacing(result: EvaluateResult, folder: Path, *, named: bool, reporter: Reporter) -> None:
    """Say that other results are replaced: of another random split by the same name, or of anything in a named folder.

    Args:
        result: What is about to be written.
        folder: Where.
        named: The user chose the folder; else it is that of the model, the target and the options.
        reporter: Hears of it.
    """
    path = folder / RESULTS_FILE
    try:
        earlier = EvaluateResult.model_validate_json(read_bytes(path))
    except (OSError, ValueError):  # none, or what no version of this program can use
        return
    of = f" ({earlier.conditions[TEST_SET]})" if TEST_SET in earlier.conditions else ""
    if earlier.test_set != result.test_set and not named:
        reporter.warn(
            f"{path} came from another test set called {earlier.target}{of} and is replaced: name each "
            "with `sil prepare-data --name NAME` to keep both."
        )
    same = (earlier.model, earlier.fused, earlier.test_set, earlier.conditions)
    if named and same != (result.model, result.fused, result.test_set, result.conditions):
        reporter.warn(
            f"{path} held the results of {earlier.model} on {earlier.target}{of}"
            f"{'' if same[:3] != (result.model, result.fused, result.test_set) else ' under other conditions'} and is "
            "replaced: name another folder with --out to keep both."
        )


def _calibration(models: Sequence[TestedModel], settings: Settings, reporter: Reporter) -> Calibration | None:
    model = models[0]
    calibration = read_calibration(model.folder)
    if calibration is None or variant(models, settings) or model.is_checkpoint:
        return None  # thresholds hold for the scores that they were measured on
    if calibration.fingerprint != model.record.fingerprint:
        reporter.warn(
            f"The calibration in {model.folder} belongs to another model; "
            f"run `sil calibrate --model {quoted(model.folder)}`."
        )
        return None
    return calibration
