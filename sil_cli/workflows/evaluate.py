"""`sil evaluate`: from a model and a prepared data set to numbers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.data.manifest import Dataset, ImageRecord, load_dataset
from sil_cli.errors import DataError
from sil_cli.evaluation.details import write_details
from sil_cli.evaluation.examine import Subject, examine
from sil_cli.evaluation.metrics import EmbeddingSet, RetrievalScores, mean_scores, score_queries
from sil_cli.evaluation.ranking import rank_matches
from sil_cli.files import write_json
from sil_cli.models.embedder import ModelRecord, load_model
from sil_cli.runtime import resolve_device
from sil_cli.training.run_folder import FACTS_FILE, RunFacts, read_facts
from sil_cli.workflows.embed import embed_files
from sil_cli.workflows.locate import model_folder, target_folder
from sil_cli.workflows.results import EvaluateResult

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from sil_cli.models.embedder import Embedder
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
    embedder, record = load_model(folder)
    device = resolve_device(settings.device)
    embedder.to(device)
    sides = [
        _embed_side(dataset, records, label, embedder, device, settings.evaluate.batch, reporter)
        for label, records in (("Queries", query), ("Gallery", gallery))
    ]
    ranks = rank_matches(*sides, reporter=reporter)
    scores = mean_scores(score_queries(ranks))
    result = _result(folder, record, dataset, scores)
    details = examine(_subject(result, dataset), (sides[0], sides[1]), ranks, (query, gallery), reporter=reporter)
    write_details(result.results.parent, details)
    write_json(result.results, result.model_dump(mode="json"))
    if result.trained_on_target:
        reporter.warn(f"{folder} was trained on {dataset.name}: these numbers do not show generalisation.")
    if result.dropped_queries:
        reporter.warn(f"{result.dropped_queries} queries have no valid match in the gallery and are left out.")
    return result


def _embed_side(
    dataset: Dataset,
    records: list[ImageRecord],
    label: str,
    embedder: Embedder,
    device: torch.device,
    batch: int,
    reporter: Reporter,
) -> EmbeddingSet:
    embeddings = []
    files = [(dataset.image_path(record), record.box) for record in records]
    with reporter.task(label, len(files), "images") as task:
        for part in embed_files(embedder, files, device=device, batch=batch):
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


def _result(folder: Path, record: ModelRecord, dataset: Dataset, scores: RetrievalScores) -> EvaluateResult:
    facts = read_facts(folder) if (folder / FACTS_FILE).is_file() else None
    size = record.architecture
    conditions = {
        "model": _selection(facts),
        "sources": ", ".join(source.name for source in facts.sources) if facts else "unknown",
        "input": f"{size.height}×{size.width}",
        "distance": "cosine",
        "test-time augmentation": "none",
        "re-ranking": "none",
    }
    return EvaluateResult(
        model=folder,
        fingerprint=record.fingerprint,
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
        results=folder / "evaluation" / dataset.name / RESULTS_FILE,
    )


def _subject(result: EvaluateResult, dataset: Dataset) -> Subject:
    return Subject(
        fingerprint=result.fingerprint,
        target=result.target,
        dataset=str(dataset.folder),
        from_here=os.path.relpath(dataset.folder.resolve(), result.results.parent.resolve()),
        manifest_sha256=dataset.info.manifest_sha256,
        generated=dataset.info.generated,
    )


def _selection(facts: RunFacts | None) -> str:
    if facts is None or facts.selected is None:
        return "unknown"
    return "last epoch" if facts.selected == "last" else f"chosen on held-out source identities, {facts.selected}"
