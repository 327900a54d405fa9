"""`sil evaluate`: from a model and a prepared data set to numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sil_cli.data.manifest import Dataset, ImageRecord, load_dataset
from sil_cli.errors import DataError
from sil_cli.evaluation.metrics import EmbeddingSet, RetrievalScores, mean_scores, score_queries
from sil_cli.files import write_json
from sil_cli.runtime import resolve_device
from sil_cli.training.run_folder import FACTS_FILE, RunFacts, read_facts
from sil_cli.workflows.embed import embed_files
from sil_cli.workflows.locate import model_folder, target_folder
from sil_cli.workflows.results import EvaluateResult
from sil_cli.workflows.test_time import (
    LoadedModel,
    conditions,
    fuse,
    load_models,
    prepare_sides,
    rank,
    results_file,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch

    from sil_cli.runtime import Reporter
    from sil_cli.settings import EvaluateSettings, Settings


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
    device = resolve_device(settings.device)
    models = load_models([folder, *settings.evaluate.fused], settings.evaluate, device, reporter)
    queries, images = (
        _embed_side(dataset, records, label, models, device, settings.evaluate, reporter)
        for label, records in (("Queries", query), ("Gallery", gallery))
    )
    queries, images = prepare_sides(queries, images, settings.evaluate, reporter)
    scores = mean_scores(score_queries(rank(queries, images, settings, reporter)))
    result = _result(models, dataset, scores, settings)
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
    models: list[LoadedModel],
    device: torch.device,
    options: EvaluateSettings,
    reporter: Reporter,
) -> EmbeddingSet:
    files = [(dataset.image_path(record), record.box) for record in records]
    of_models = []
    for model in models:
        embeddings = []
        with reporter.task(label, len(files), "images") as task:
            for part in embed_files(model.embedder, files, device=device, batch=options.batch, flip=options.flip):
                if part.failed:
                    path, reason = part.failed[0]
                    raise DataError(f"{path}: {reason}.", "Prepare the data set again: its images have changed.")
                embeddings.append(part.embeddings)
                task.advance(len(part.embeddings))
        of_models.append(np.concatenate(embeddings))
    return EmbeddingSet(
        embeddings=fuse(of_models),
        identities=[record.identity for record in records],
        cameras=[record.camera for record in records],
        junk=[record.junk for record in records],
        keys=[record.path for record in records],
    )


def _result(models: list[LoadedModel], dataset: Dataset, scores: RetrievalScores, settings: Settings) -> EvaluateResult:
    folder = models[0].folder
    facts = [read_facts(model.folder) if (model.folder / FACTS_FILE).is_file() else None for model in models]
    return EvaluateResult(
        model=folder,
        fingerprint=models[0].record.fingerprint,
        fused=[model.folder for model in models[1:]],
        target=dataset.name,
        queries=scores.queries,
        gallery=scores.gallery,
        dropped_queries=len(scores.dropped_queries),
        mAP=scores.mAP,
        cmc=dict(scores.cmc),
        mINP=scores.mINP,
        trained_on_target=any(
            source.manifest_sha256 == dataset.info.manifest_sha256
            for each in facts
            for source in (each.sources if each else ())
        ),
        conditions={
            "model": _each(_selection(one) for one in facts),
            "sources": _each(_sources(one) for one in facts),
            "distance": "cosine",
            **conditions(models, settings),
        },
        results=folder / "evaluation" / dataset.name / results_file(models, settings),
    )


def _each(values: Iterable[str]) -> str:
    """What holds for each of the models, said once where it is the same."""
    return "; ".join(dict.fromkeys(values))


def _sources(facts: RunFacts | None) -> str:
    return ", ".join(source.name for source in facts.sources) if facts else "unknown"


def _selection(facts: RunFacts | None) -> str:
    if facts is None or facts.selected is None:
        return "unknown"
    return "last epoch" if facts.selected == "last" else f"chosen on held-out source identities, {facts.selected}"
