"""`sil evaluate`: from a model and a prepared data set, or from anyone's embeddings, to numbers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from sil_cli.data.manifest import Dataset, ImageRecord, load_dataset
from sil_cli.defaults import RECORD_FILE, SPLIT_NAME, model_folder, target_folder
from sil_cli.errors import DataError, UsageError
from sil_cli.evaluation.calibration import Calibration, read_calibration
from sil_cli.evaluation.embed_sides import embed_by_all
from sil_cli.evaluation.embeddings_file import read_embeddings, write_embeddings
from sil_cli.evaluation.evaluation_results import EvaluateResult
from sil_cli.evaluation.inference_options import (
    TestedModel,
    conditions,
    load_models,
    prepare_sides,
    refuse_contradictions,
    reranked,
    variant,
)
from sil_cli.evaluation.report_data import Subject, examine
from sil_cli.evaluation.report_files import write_details
from sil_cli.evaluation.scoring import (
    QUERIES_FILE,
    RESULTS_FILE,
    check_calibration,
    fingerprint_of_test,
    score_sides,
    write_per_query,
)
from sil_cli.files import read_bytes, refuse_links, write_json
from sil_cli.models.record import WEIGHTS_FILE
from sil_cli.output_checks import refuse_overwriting
from sil_cli.runs.checkpoint import NAME as CHECKPOINT_NAME
from sil_cli.runs.run_folder import FACTS_FILE, RunFacts, read_facts
from sil_cli.settings import refuse_outside

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from sil_cli.evaluation.embed_sides import SharedImages
    from sil_cli.evaluation.pairs import EmbeddingSet
    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings

TEST_SET = "test set"
"""The condition that says which of a target's test sets it is."""


def evaluate(settings: Settings, reporter: Reporter, *, shared: SharedImages | None = None) -> EvaluateResult:
    """Score a model on a target, or a file of embeddings; `results.json` and what belongs to it are written.

    Args:
        settings: Of the command.
        reporter: Shows progress.
        shared: The target's images, where they are embedded already by the models that the settings name.

    Raises:
        SilError: There is no model or target, or they can't be used.
    """
    if settings.evaluate.embeddings is not None:
        return _evaluate_file(settings, settings.evaluate.embeddings, reporter)
    if settings.evaluate.out is None:
        refuse_outside(settings, "evaluate.model")
    folder = model_folder(settings.evaluate.model, settings.train.runs)
    dataset = load_dataset(target_folder(settings.evaluate.target, settings.data.folder))
    query, gallery = both_splits(dataset)
    refuse_contradictions(settings.evaluate)
    weights = [each / name for each in (folder, *settings.evaluate.fused) for name in (WEIGHTS_FILE, RECORD_FILE)]
    refuse_overwriting(settings.evaluate.save_embeddings, [*weights, *dataset.files()], option="--save-embeddings")
    if shared is None:
        models = load_models([folder, *settings.evaluate.fused], settings, reporter, images=len(query) + len(gallery))
        query_side, gallery_side = (
            embed_by_all(models, dataset, records, label, settings.evaluate, reporter)
            for label, records in (("Queries", query), ("Gallery", gallery))
        )
    else:
        models = shared.models
        query_side, gallery_side = (shared.side(dataset, records) for records in (query, gallery))
    if settings.evaluate.save_embeddings is not None:
        users_own = settings.is_users_own("evaluate.save_embeddings")
        write_embeddings(settings.evaluate.save_embeddings, query_side, gallery_side, users_own=users_own)
        reporter.note(f"Embeddings in {settings.evaluate.save_embeddings}.")
    result = _score(
        query_side,
        gallery_side,
        settings,
        reporter,
        about=_about(models, dataset, settings),
        folder=settings.evaluate.out or results_folder(models, dataset, settings),
        calibration=_calibration(models, settings, reporter),
        manifest=dataset.info.manifest_sha256,
        pictures=(dataset, query, gallery),
    )
    if result.trained_on_target:
        reporter.warn(f"{folder} was trained on {dataset.name}: these numbers do not show generalisation.")
    return result


def both_splits(dataset: Dataset) -> tuple[list[ImageRecord], list[ImageRecord]]:
    """The queries and the gallery of a data set.

    Raises:
        DataError: It lacks either.
    """
    query, gallery = dataset.of_split("query"), dataset.of_split("gallery")
    if not query or not gallery:
        raise DataError(
            f"{dataset.folder} has no test images: {len(query)} queries and {len(gallery)} in the gallery.",
            "Name another --target, or prepare it with --split test or --split half.",
        )
    return query, gallery


def _evaluate_file(settings: Settings, path: Path, reporter: Reporter) -> EvaluateResult:
    for name in ("model", "target", "save_embeddings"):
        if getattr(settings.evaluate, name) is not None:
            flag = name.replace("_", "-")
            raise UsageError(f"--embeddings is a test of its own, without --{flag}.", "Give one or the other.")
    if settings.evaluate.flip or settings.evaluate.height or settings.evaluate.width:
        raise UsageError(
            "Embeddings in a file can't be mirrored or resized any more.", "Leave --flip, --height and --width out."
        )
    refuse_contradictions(settings.evaluate)
    folder = settings.evaluate.out
    if folder is None:
        refuse_outside(settings, "evaluate.embeddings")
        folder = path.with_name(f"{path.stem}-evaluation") / variant([], settings)
        refuse_links(folder, within=path.parent)
    query, gallery = read_embeddings(path)
    for name, side in (("queries", query), ("gallery images", gallery)):
        if side.junk_flags().any():
            reporter.note(f"{side.junk_flags().sum():,} {name} are junk, and ignored.")
    cameras_known = any(camera is not None for camera in query.cameras)
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
            | {"cameras": "as in the file" if cameras_known else "unknown: no image is ignored for its camera"}
            | conditions([], settings),
        },
        folder=folder,
        calibration=None,
        manifest=None,
    )


def _score(
    query: EmbeddingSet,
    gallery: EmbeddingSet,
    settings: Settings,
    reporter: Reporter,
    *,
    about: dict[str, Any],
    folder: Path,
    calibration: Calibration | None,
    manifest: str | None,
    pictures: tuple[Dataset, list[ImageRecord], list[ImageRecord]] | None = None,
) -> EvaluateResult:
    metric = settings.evaluate.metric
    query, gallery = prepare_sides(query, gallery, settings.evaluate, reporter)
    ranks = reranked(query, gallery, settings, reporter)
    scored = score_sides(query, gallery, metric=metric, reporter=reporter, ranks=ranks)
    means = scored.means
    about["conditions"] |= {"distance": metric}
    result = EvaluateResult(
        **about,
        manifest_sha256=manifest,
        test_set=fingerprint_of_test(query, gallery),
        queries=means.queries,
        gallery=means.gallery,
        dropped_queries=len(means.dropped_queries),
        mAP=means.mAP,
        cmc=dict(means.cmc),
        mINP=means.mINP,
        intervals=scored.intervals,
        open_set=scored.open_set,
        calibration=check_calibration(calibration, scored.pairs, manifest=manifest),
        results=folder / RESULTS_FILE,
        per_query=folder / QUERIES_FILE,
    )
    if manifest is not None:
        _warn_of_replacing(result, reporter)
    write_per_query(folder, scored, query)
    if pictures is not None and len(query) == len(pictures[1]):  # a tracklet has no picture of its own
        dataset, *records = pictures
        subject = _subject(result, dataset)
        write_details(
            folder, examine(subject, (query, gallery), scored.ranks, (records[0], records[1]), reporter=reporter)
        )
    write_json(result.results, result.model_dump(mode="json"))
    if result.dropped_queries:
        first = scored.queries.dropped[0]
        name = f"query {first}" if query.keys is None else query.keys[first]
        reporter.warn(
            f"{result.dropped_queries} queries have no valid match in the gallery and are left out: {name}"
            f"{' and others, see ' + str(result.per_query) if result.dropped_queries > 1 else ''}."
        )
    return result


def _warn_of_replacing(result: EvaluateResult, reporter: Reporter) -> None:
    """Say that results of another test set by the same name are replaced, as of another random split."""
    try:
        earlier = EvaluateResult.model_validate_json(read_bytes(result.results))
    except (OSError, ValueError):  # none, or what no version of this program can use
        return
    if earlier.test_set != result.test_set:
        of = f" ({earlier.conditions[TEST_SET]})" if TEST_SET in earlier.conditions else ""
        reporter.warn(
            f"{result.results} was of another test set called {result.target}{of} and is replaced: prepare each under "
            "a --name of its own to keep both."
        )


def results_folder(models: Sequence[TestedModel], dataset: Dataset, settings: Settings) -> Path:
    """Where results go: by target, which may be one of several splits of a data set, and by what was done."""
    model = models[0]
    # The results of a quantised model must not replace its source's, nor those of a checkpoint the finished run's.
    own = model.path.stem if _is_checkpoint(model) else "" if model.is_original else model.engine.name.replace(" ", "-")
    name = f"{dataset.name}-{own}" if own else dataset.name
    folder = model.folder / "evaluation" / name
    if SPLIT_NAME.fullmatch(dataset.folder.name):
        folder /= dataset.folder.name
    folder /= variant(models, settings)
    refuse_links(folder, within=model.folder)
    return folder


def _is_checkpoint(model: TestedModel) -> bool:
    return CHECKPOINT_NAME.fullmatch(model.path.name) is not None


def _calibration(models: Sequence[TestedModel], settings: Settings, reporter: Reporter) -> Calibration | None:
    model = models[0]
    calibration = read_calibration(model.folder)
    if calibration is None or variant(models, settings) or _is_checkpoint(model):
        return None  # thresholds hold for the scores that they were measured on
    if calibration.fingerprint != model.record.fingerprint:
        reporter.warn(
            f"The calibration in {model.folder} is of another model; run `sil calibrate --model {model.folder}`."
        )
        return None
    return calibration


def _about(models: Sequence[TestedModel], dataset: Dataset, settings: Settings) -> dict[str, Any]:
    facts = [read_facts(model.folder) if (model.folder / FACTS_FILE).is_file() else None for model in models]
    return {
        "model": models[0].path,
        "fused": tuple(model.path for model in models[1:]),
        "fingerprint": models[0].engine.fingerprint,
        "target": dataset.name,
        "trained_on_target": any(
            source.manifest_sha256 == dataset.info.manifest_sha256
            for each in facts
            for source in (each.sources if each else ())
        ),
        "conditions": {
            "model": _each(_selection(model.path, one) for model, one in zip(models, facts, strict=True)),
            "protocol": _each((one.protocol if one else None) or "none" for one in facts),
            "sources": _each(_sources(one) for one in facts),
            **_test_set(dataset),
            **conditions(models, settings),
        },
    }


def _test_set(dataset: Dataset) -> dict[str, str]:
    """Which of the test sets it is that can be made of the target: one partition is not the mean of ten."""
    chosen = {name: value for name, value in dataset.info.options.items() if value is not None}
    if dataset.info.generated or not chosen:
        return {}
    return {TEST_SET: ", ".join(f"{name} {value}" for name, value in chosen.items())}


def _each(values: Iterable[str]) -> str:
    """What holds for each of the models, said once where it is the same."""
    return "; ".join(dict.fromkeys(values))


def _sources(facts: RunFacts | None) -> str:
    """The sources' names, and what of them was learnt from."""
    if facts is None:
        return "unknown"
    names = ", ".join(source.name for source in facts.sources)
    return f"{names} ({facts.source_splits.replace('+', ' + ')})"


def _subject(result: EvaluateResult, dataset: Dataset) -> Subject:
    return Subject(
        fingerprint=result.fingerprint or "",
        target=result.target,
        dataset=str(dataset.folder),
        from_here=os.path.relpath(dataset.folder.resolve(), result.results.parent.resolve()),
        manifest_sha256=dataset.info.manifest_sha256,
        generated=dataset.info.generated,
    )


def _selection(path: Path, facts: RunFacts | None) -> str:
    """Which of a run's weights the model at `path` has."""
    checkpoint = CHECKPOINT_NAME.fullmatch(path.name)
    if facts is None or (checkpoint is None and facts.selected is None):
        return "unknown"
    if checkpoint is not None:  # whatever the run chose, once finished, is in its model and not here
        chosen = f"checkpoint after iteration {int(checkpoint[1])}"
    elif facts.selected == "last":
        chosen = "last epoch"
    else:
        chosen = f"chosen on held-out source identities, {facts.selected}"
    return f"{chosen}, averaged weights" if facts.weights == "averaged" else chosen
