"""`sil evaluate`: from a model and a prepared data set, or from anyone's embeddings, to numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sil_cli.data.manifest import Dataset, ImageRecord, load_dataset
from sil_cli.errors import DataError, UsageError
from sil_cli.evaluation.calibration import Calibration, read_calibration
from sil_cli.evaluation.embeddings_file import read_embeddings, write_embeddings
from sil_cli.evaluation.pairs import EmbeddingSet
from sil_cli.files import write_json
from sil_cli.training.run_folder import FACTS_FILE, RunFacts, read_facts
from sil_cli.workflows.embed import embed_files
from sil_cli.workflows.engine import load
from sil_cli.workflows.evaluation_results import EvaluateResult
from sil_cli.workflows.locate import SPLIT_NAME, model_folder, target_folder
from sil_cli.workflows.scoring import (
    QUERIES_FILE,
    RESULTS_FILE,
    check_calibration,
    fingerprint_of_test,
    score_sides,
    write_details,
)

if TYPE_CHECKING:
    from pathlib import Path

    from sil_cli.models.choose import LoadedModel
    from sil_cli.models.engine import Engine
    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings


def evaluate(settings: Settings, reporter: Reporter) -> EvaluateResult:
    """Score a model on a target, or a file of embeddings; `results.json` and what belongs to it are written.

    Raises:
        SilError: There is no model or target, or they can't be used.
    """
    if settings.evaluate.embeddings is not None:
        return _evaluate_file(settings, settings.evaluate.embeddings, reporter)
    folder = model_folder(settings.evaluate.model, settings.train.runs)
    dataset = load_dataset(target_folder(settings.evaluate.target, settings.data.folder))
    query, gallery = dataset.of_split("query"), dataset.of_split("gallery")
    if not query or not gallery:
        raise DataError(
            f"{dataset.folder} has no test images: {len(query)} queries and {len(gallery)} in the gallery.",
            "Name another --target, or prepare it with --split test or --split half.",
        )
    loaded = load(folder, settings, reporter, images=len(query) + len(gallery), exact=True)
    query_side, gallery_side = (
        embed_side(dataset, records, label, loaded.engine, settings.evaluate.batch, reporter)
        for label, records in (("Queries", query), ("Gallery", gallery))
    )
    if settings.evaluate.save_embeddings is not None:
        write_embeddings(settings.evaluate.save_embeddings, query_side, gallery_side)
        reporter.note(f"Embeddings in {settings.evaluate.save_embeddings}.")
    result = _score(
        query_side,
        gallery_side,
        settings,
        reporter,
        about=_about(folder, loaded, dataset),
        folder=settings.evaluate.out or results_folder(folder, loaded, dataset),
        calibration=_calibration(folder, loaded, settings, reporter),
        manifest=dataset.info.manifest_sha256,
    )
    if result.trained_on_target:
        reporter.warn(f"{folder} was trained on {dataset.name}: these numbers do not show generalisation.")
    return result


def _evaluate_file(settings: Settings, path: Path, reporter: Reporter) -> EvaluateResult:
    for name in ("model", "target", "save_embeddings"):
        if getattr(settings.evaluate, name) is not None:
            flag = name.replace("_", "-")
            raise UsageError(f"--embeddings is a test of its own, without --{flag}.", "Give one or the other.")
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
            | {"cameras": "as in the file" if cameras_known else "unknown: no image is ignored for its camera"},
        },
        folder=settings.evaluate.out or path.with_name(f"{path.stem}-evaluation"),
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
) -> EvaluateResult:
    metric = settings.evaluate.metric
    scored = score_sides(query, gallery, metric=metric, reporter=reporter)
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
    write_details(folder, scored, query)
    write_json(result.results, result.model_dump(mode="json"))
    if result.dropped_queries:
        first = scored.queries.dropped[0]
        name = f"query {first}" if query.keys is None else query.keys[first]
        reporter.warn(
            f"{result.dropped_queries} queries have no valid match in the gallery and are left out: {name}"
            f"{' and others, see ' + str(result.per_query) if result.dropped_queries > 1 else ''}."
        )
    return result


def embed_side(
    dataset: Dataset,
    records: list[ImageRecord],
    label: str,
    engine: Engine,
    batch: int,
    reporter: Reporter,
) -> EmbeddingSet:
    """Embed some of a data set's images, in order.

    Raises:
        DataError: An image can't be read any more.
    """
    embeddings = []
    files = [(dataset.image_path(record), record.box) for record in records]
    with reporter.task(label, len(files), "images") as task:
        for part in embed_files(engine, files, batch=batch):
            if part.failed:
                path, reason = part.failed[0]
                raise DataError(f"{path}: {reason}.", "Prepare the data set again: its images have changed.")
            embeddings.append(part.embeddings)
            task.advance(len(part.embeddings))
    return EmbeddingSet(
        embeddings=np.concatenate(embeddings),
        identities=[record.identity for record in records],
        cameras=[record.camera for record in records],
        junk=[record.junk for record in records],
        keys=[record.path if record.box is None else f"{record.path}#{record.box}" for record in records],
    )


def results_folder(model: Path, loaded: LoadedModel, dataset: Dataset) -> Path:
    """Where the results of a model on a target go, which may be one of several splits of a data set."""
    engine = loaded.engine
    own = engine.fingerprint == loaded.record.fingerprint  # a quantised model's results must not replace its source's
    name = dataset.name if own else f"{dataset.name}-{engine.name.replace(' ', '-')}"
    folder = (model if model.is_dir() else model.parent) / "evaluation" / name
    return folder / dataset.folder.name if SPLIT_NAME.fullmatch(dataset.folder.name) else folder


def _calibration(model: Path, loaded: LoadedModel, settings: Settings, reporter: Reporter) -> Calibration | None:
    folder = model if model.is_dir() else model.parent
    calibration = read_calibration(folder)
    if calibration is None or settings.evaluate.metric != "cosine":
        return None
    if calibration.fingerprint != loaded.record.fingerprint:
        reporter.warn(f"The calibration in {folder} is of another model; run `sil calibrate --model {folder}`.")
        return None
    return calibration


def _about(model: Path, loaded: LoadedModel, dataset: Dataset) -> dict[str, Any]:
    folder = model if model.is_dir() else model.parent
    facts = read_facts(folder) if (folder / FACTS_FILE).is_file() else None
    engine = loaded.engine
    return {
        "model": model,
        "fingerprint": engine.fingerprint,
        "target": dataset.name,
        "trained_on_target": facts is not None
        and any(source.manifest_sha256 == dataset.info.manifest_sha256 for source in facts.sources),
        "conditions": {
            "model": _selection(facts),
            "protocol": (facts.protocol if facts else None) or "none",
            "sources": _sources(facts),
            "input": f"{engine.height}×{engine.width}",
            "engine": engine.name,
            "test-time augmentation": "none",
            "re-ranking": "none",
        },
    }


def _sources(facts: RunFacts | None) -> str:
    """The sources' names, and what of them was learnt from."""
    if facts is None:
        return "unknown"
    names = ", ".join(source.name for source in facts.sources)
    return f"{names} ({facts.source_splits.replace('+', ' + ')})"


def _selection(facts: RunFacts | None) -> str:
    if facts is None or facts.selected is None:
        return "unknown"
    chosen = "last epoch" if facts.selected == "last" else f"chosen on held-out source identities, {facts.selected}"
    return f"{chosen}, averaged weights" if facts.weights == "averaged" else chosen
