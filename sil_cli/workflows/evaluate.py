"""`sil evaluate`: from a model and a prepared data set to numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sil_cli.data.manifest import Dataset, ImageRecord, load_dataset
from sil_cli.errors import DataError
from sil_cli.evaluation.metrics import EmbeddingSet, RetrievalScores, mean_scores, score_queries
from sil_cli.evaluation.ranking import rank_matches
from sil_cli.files import write_json
from sil_cli.training.run_folder import FACTS_FILE, RunFacts, read_facts
from sil_cli.workflows.embed import embed_files
from sil_cli.workflows.engine import load
from sil_cli.workflows.locate import SPLIT_NAME, model_folder, target_folder
from sil_cli.workflows.results import EvaluateResult

if TYPE_CHECKING:
    from pathlib import Path

    from sil_cli.models.choose import LoadedModel
    from sil_cli.models.engine import Engine
    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings

RESULTS_FILE = "results.json"


def evaluate(settings: Settings, reporter: Reporter) -> EvaluateResult:
    """Score a model on a target and write `results.json` into the model's folder.

    Raises:
        SilError: There is no model or target, or they can't be used.
    """
    folder = model_folder(settings.evaluate.model, settings.train.runs)
    dataset = load_dataset(target_folder(settings.evaluate.target, settings.data.folder))
    query, gallery = dataset.of_split("query"), dataset.of_split("gallery")
    if not query or not gallery:
        raise DataError(
            f"{dataset.folder} has no test images: {len(query)} queries and {len(gallery)} in the gallery.",
            "Name another --target, or prepare it with --split test or --split half.",
        )
    loaded = load(folder, settings, reporter, images=len(query) + len(gallery), exact=True)
    sides = [
        _embed_side(dataset, records, label, loaded.engine, settings.evaluate.batch, reporter)
        for label, records in (("Queries", query), ("Gallery", gallery))
    ]
    scores = mean_scores(score_queries(rank_matches(*sides, reporter=reporter)))
    result = _result(folder, loaded, dataset, scores)
    write_json(result.results, result.model_dump(mode="json"))
    if result.trained_on_target:
        reporter.warn(f"{folder} was trained on {dataset.name}: these numbers do not show generalisation.")
    if result.dropped_queries:
        reporter.warn(f"{result.dropped_queries} queries have no valid match in the gallery and are left out.")
    return result


def results_folder(model: Path, dataset: Dataset, name: str) -> Path:
    """Where the results of a model on a target go, which may be one of several splits of a data set."""
    folder = model / "evaluation" / name
    return folder / dataset.folder.name if SPLIT_NAME.fullmatch(dataset.folder.name) else folder


def _embed_side(
    dataset: Dataset,
    records: list[ImageRecord],
    label: str,
    engine: Engine,
    batch: int,
    reporter: Reporter,
) -> EmbeddingSet:
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
        keys=[record.path for record in records],
    )


def _result(model: Path, loaded: LoadedModel, dataset: Dataset, scores: RetrievalScores) -> EvaluateResult:
    folder = model if model.is_dir() else model.parent
    facts = read_facts(folder) if (folder / FACTS_FILE).is_file() else None
    engine = loaded.engine
    own = engine.fingerprint == loaded.record.fingerprint  # a quantised model's results must not replace its source's
    name = dataset.name if own else f"{dataset.name}-{engine.name.replace(' ', '-')}"
    conditions = {
        "model": _selection(facts),
        "protocol": (facts.protocol if facts else None) or "none",
        "sources": _sources(facts),
        "input": f"{engine.height}×{engine.width}",
        "distance": "cosine",
        "engine": engine.name,
        "test-time augmentation": "none",
        "re-ranking": "none",
    }
    return EvaluateResult(
        model=model,
        fingerprint=engine.fingerprint,
        target=dataset.name,
        queries=scores.queries,
        gallery=scores.gallery,
        dropped_queries=len(scores.dropped_queries),
        mAP=scores.mAP,
        cmc=dict(scores.cmc),
        mINP=scores.mINP,
        trained_on_target=facts is not None
        and any(source.manifest_sha256 == dataset.info.manifest_sha256 for source in facts.sources),
        conditions=conditions,
        results=results_folder(folder, dataset, name) / RESULTS_FILE,
    )


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
