"""What can be done at test time with a trained model: how images are embedded, and how embeddings are compared.

Every function leaves plain evaluation alone when its option is off, and `conditions` names every option, on or off:
a number without them can't be compared with another.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.errors import UsageError
from sil_cli.evaluation.reranked import rank_reranked
from sil_cli.models.backbones.names import TIMM, VIT
from sil_cli.models.embedder import load_embedder
from sil_cli.models.engines.torch_engine import TorchEngine
from sil_cli.models.load import load
from sil_cli.runtime import resolve_device
from sil_cli.similarity.distance import unit_rows
from sil_cli.similarity.expansion import augment_gallery, expand_queries

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from sil_cli.evaluation.pairs import EmbeddingSet
    from sil_cli.evaluation.ranking import MatchRanks
    from sil_cli.models.engines.engine import Engine
    from sil_cli.models.record import ModelRecord
    from sil_cli.runtime import Reporter
    from sil_cli.settings import EvaluateSettings, RerankSettings, Settings


@dataclasses.dataclass(frozen=True)
class TestedModel:
    """A model that is being tested.

    Attributes:
        path: As the user named it.
        engine: Computes it; it has the input size of the test.
        record: What the model says of itself, with the input size that it was trained at.
    """

    __test__ = False  # not a test of pytest's

    path: Path
    engine: Engine
    record: ModelRecord

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.path if self.path.is_dir() else self.path.parent

    @property
    def is_original(self) -> bool:
        """Whether it computes what its weights say, and is no quantised model of its own."""
        return self.engine.fingerprint == self.record.fingerprint

    @property
    def size(self) -> str:
        """The input size of the test, and the trained one where that is another."""
        trained = self.record.architecture
        told = f"{self.engine.height}×{self.engine.width}"
        same = (self.engine.height, self.engine.width) == (trained.height, trained.width)
        return told if same else f"{told} (trained at {trained.height}×{trained.width})"


def load_models(paths: Sequence[Path], settings: Settings, reporter: Reporter, *, images: int) -> list[TestedModel]:
    """Load all models of a test, at the input size that is asked for.

    Raises:
        UsageError: One model is named twice, or can't take images of that size.
        ModelError: One can't be used.
    """
    options = settings.evaluate
    models: list[TestedModel] = []
    for path in paths:
        if options.height or options.width:
            models.append(_at_another_size(path, settings))
            reporter.warn(f"{path} is tested at {models[-1].size}: its numbers are not those of its own size.")
        else:
            loaded = load(path, settings, reporter, images=images, exact=True)
            models.append(TestedModel(path, loaded.engine, loaded.record))
    fingerprints = [model.engine.fingerprint for model in models]
    twice = next((model for model in models if fingerprints.count(model.engine.fingerprint) > 1), None)
    if twice is not None:
        raise UsageError(f"The model of {twice.path} is named twice.", "Name every model once.")
    return models


def _at_another_size(path: Path, settings: Settings) -> TestedModel:
    """A model computed by torch at another size than its own: exports have theirs fixed."""
    embedder, record = load_embedder(path)
    trained = record.architecture
    if trained.backbone == VIT or trained.backbone.startswith(TIMM):
        raise UsageError(
            f"{trained.backbone} takes images of {trained.height}×{trained.width} alone.",
            "Leave --height and --width out.",
        )
    size = {
        "height": settings.evaluate.height or trained.height,
        "width": settings.evaluate.width or trained.width,
    }
    embedder.architecture = trained.model_copy(update=size)
    engine = TorchEngine(embedder, record.fingerprint, device=resolve_device(settings.device))
    return TestedModel(path, engine, record)


def fuse(embeddings: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Put the embeddings of several models side by side, each scaled so that the whole has length 1.

    The cosine of two such rows is the mean of the models' cosines.

    Args:
        embeddings: One array (N, D_m) of unit rows for each model.

    Returns:
        Shape (N, ΣD_m); the array itself where there is one model.
    """
    if len(embeddings) == 1:
        return embeddings[0]
    fused = np.concatenate(embeddings, axis=1)
    fused *= np.float32(len(embeddings) ** -0.5)
    return fused


def prepare_sides(
    query: EmbeddingSet, gallery: EmbeddingSet, options: EvaluateSettings, reporter: Reporter
) -> tuple[EmbeddingSet, EmbeddingSet]:
    """Fuse tracklets, augment the gallery, expand the queries, in this order, whichever of it is asked for."""
    if options.tracklets:
        images = len(query)
        query = average_tracklets(query)
        if len(query) == images:
            reporter.warn("No two queries are of one person and one camera: every tracklet is a single image.")
    if options.augment_gallery:
        gallery = _augmented(gallery, options, reporter)
    if options.expand_queries:
        query = _expanded(query, gallery, options, reporter)
    return query, gallery


def refuse_contradictions(options: EvaluateSettings) -> None:
    """Refuse what compares unit embeddings by their angle together with another metric.

    Raises:
        UsageError: The metric is not the cosine, and such an option is on.
    """
    if options.metric != "cosine" and (options.rerank or options.expand_queries or options.augment_gallery):
        raise UsageError(
            "Re-ranking, query expansion and gallery augmentation compare embeddings by their cosine.",
            "Leave --metric out, or leave these options out.",
        )


def reranked(query: EmbeddingSet, gallery: EmbeddingSet, settings: Settings, reporter: Reporter) -> MatchRanks | None:
    """The ranks of all true matches after re-ranking; None where it is not asked for."""
    if not settings.evaluate.rerank:
        return None
    options = settings.rerank
    return rank_reranked(query, gallery, k1=options.k1, k2=options.k2, weight=options.weight, reporter=reporter)


def average_tracklets(query: EmbeddingSet) -> EmbeddingSet:
    """Multi-image queries: those of one identity and camera become one, the mean of their unit embeddings.

    Only test queries are grouped by identity, as a user does who puts several pictures of one person into a query. The
    queries of an unknown camera, and junk, stay single. A tracklet stands where its first image stood.
    """
    members: dict[tuple[Hashable, ...], list[int]] = {}
    junk = query.junk_flags()
    for index, (identity, camera) in enumerate(zip(query.identities, query.cameras, strict=True)):
        alone = camera is None or junk[index]
        members.setdefault((index,) if alone else (identity, camera), []).append(index)
    units = unit_rows(query.embeddings, what="query")
    first = [indices[0] for indices in members.values()]
    means = np.stack([units[indices].mean(axis=0, dtype=np.float64) for indices in members.values()])
    return dataclasses.replace(
        query,
        embeddings=unit_rows(means, what="tracklet").astype(units.dtype),
        identities=[query.identities[index] for index in first],
        cameras=[query.cameras[index] for index in first],
        junk=None if query.junk is None else [bool(junk[index]) for index in first],
        keys=None if query.keys is None else [query.keys[index] for index in first],
    )


def _augmented(gallery: EmbeddingSet, options: EvaluateSettings, reporter: Reporter) -> EmbeddingSet:
    kept = np.flatnonzero(~gallery.junk_flags())
    units = unit_rows(gallery.embeddings, what="gallery")
    if len(kept):
        units[kept] = augment_gallery(
            units[kept], options.augment_gallery, alpha=options.expansion_alpha, reporter=reporter
        )
    return dataclasses.replace(gallery, embeddings=units)


def _expanded(
    query: EmbeddingSet, gallery: EmbeddingSet, options: EvaluateSettings, reporter: Reporter
) -> EmbeddingSet:
    expanded = expand_queries(
        unit_rows(query.embeddings, what="query"),
        unit_rows(gallery.embeddings, what="gallery"),
        options.expand_queries,
        alpha=options.expansion_alpha,
        unusable=unusable_for_expansion(query, gallery),
        reporter=reporter,
    )
    return dataclasses.replace(query, embeddings=expanded)


def unusable_for_expansion(query: EmbeddingSet, gallery: EmbeddingSet) -> Callable[[int], NDArray[np.int64]]:
    """For each query what it may not be expanded with: junk, its own camera's images, and itself; no identity is read.

    Evaluation ignores the images that a query's own camera took of the same person, which are the easiest to find.
    Without identities they can't be told from the camera's other images, so that camera is left out whole.
    """
    junk = np.flatnonzero(gallery.junk_flags())
    cameras = np.array([str(camera) for camera in gallery.cameras], dtype=object)
    of_camera = {camera: np.flatnonzero(cameras == camera) for camera in set(cameras)}
    of_key: dict[str, list[int]] = {}
    for row, key in enumerate(gallery.keys if gallery.keys is not None else ()):
        of_key.setdefault(key, []).append(row)
    nowhere = np.empty(0, dtype=np.int64)

    def unusable(index: int) -> NDArray[np.int64]:
        camera = query.cameras[index]
        same_camera = nowhere if camera is None else of_camera.get(str(camera), nowhere)
        itself = of_key.get(query.keys[index], []) if query.keys is not None else []
        return np.concatenate([junk, same_camera, np.array(itself, dtype=np.int64)])

    return unusable


def conditions(models: Sequence[TestedModel], settings: Settings) -> dict[str, str]:
    """Every test-time option in words, for results and tables."""
    options = settings.evaluate
    each = [f"{model.path} ({model.engine.fingerprint[:12]})" for model in models]
    alpha = f"α = {options.expansion_alpha:g}"
    return {
        **({"input": ", ".join(dict.fromkeys(model.size for model in models))} if models else {}),
        **({"engine": ", ".join(dict.fromkeys(model.engine.name for model in models))} if models else {}),
        "fusion": "none" if len(models) < 2 else f"mean similarity of {len(models)} models: {', '.join(each)}",
        "test-time augmentation": "mean of each image and its mirror" if options.flip else "none",
        "queries": "tracklets, mean of the images of one identity and camera" if options.tracklets else "single images",
        "query expansion": f"{options.expand_queries} gallery images of other cameras, {alpha}"
        if options.expand_queries
        else "none",
        "gallery augmentation": f"{options.augment_gallery} gallery images of any camera, {alpha}"
        if options.augment_gallery
        else "none",
        "re-ranking": _reranking(settings.rerank) if options.rerank else "none",
    }


def _reranking(options: RerankSettings) -> str:
    return (
        f"k-reciprocal encoding of all queries and gallery images, "
        f"k1 = {options.k1}, k2 = {options.k2}, λ = {options.weight:g}"
    )


def variant(models: Sequence[TestedModel], settings: Settings) -> str:
    """What was done at test time, as the name of a folder; "" for plain evaluation, which it must not replace."""
    options, rerank = settings.evaluate, settings.rerank
    others = "".join(model.engine.fingerprint for model in models[1:])
    size = f"size-{models[0].engine.height}x{models[0].engine.width}" if models else ""
    alpha = f"{options.expansion_alpha:g}"
    parts = {
        f"fused-{hashlib.sha256(others.encode()).hexdigest()[:8]}": bool(others),
        size: bool(options.height or options.width),
        options.metric: options.metric != "cosine",
        "flip": options.flip,
        "tracklets": options.tracklets,
        f"expand-{options.expand_queries}-{alpha}": bool(options.expand_queries),
        f"augment-{options.augment_gallery}-{alpha}": bool(options.augment_gallery),
        f"rerank-{rerank.k1}-{rerank.k2}-{rerank.weight:g}": options.rerank,
    }
    return "-".join(part for part, on in parts.items() if on)
