"""The models of a test: loading them, and under which conditions and in which folder their results stand.

`conditions` names every inference option, on or off: a number without them can't be compared with another.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from sil_cli.data.images import pixels_in
from sil_cli.defaults import SPLIT_NAME
from sil_cli.errors import UsageError
from sil_cli.files import refuse_links
from sil_cli.models.load import load
from sil_cli.runs.checkpoint import NAME as CHECKPOINT_NAME
from sil_cli.runs.run_folder import FACTS_FILE, RunFacts, read_facts
from sil_cli.runtime import resolve_device

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from sil_cli.data.manifest import Dataset
    from sil_cli.models.engines.engine import Engine
    from sil_cli.models.record import ModelRecord
    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings

TEST_SET = "test set"
"""The condition that says which of a target's test sets it is."""


@dataclass(frozen=True)
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

    @cached_property
    def facts(self) -> RunFacts | None:
        """What its run says of itself, where it comes from one."""
        return read_facts(self.folder) if (self.folder / FACTS_FILE).is_file() else None

    @property
    def is_checkpoint(self) -> bool:
        """Whether it is the state of a training that may still be under way."""
        return CHECKPOINT_NAME.fullmatch(self.path.name) is not None

    @property
    def is_original(self) -> bool:
        """Whether it computes what its weights say, and is no quantised model of its own."""
        return self.engine.fingerprint == self.record.fingerprint

    @property
    def size(self) -> str:
        """The input size of the test, and the trained one where that is another."""
        trained = self.record.architecture
        size = f"{self.engine.height}×{self.engine.width}"
        same = (self.engine.height, self.engine.width) == (trained.height, trained.width)
        return size if same else f"{size} (trained at {trained.height}×{trained.width})"


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
            reporter.warn(
                f"{path} is tested at {models[-1].size}: its numbers are not those at the size it was trained at."
            )
        else:
            loaded = load(path, settings, reporter, images=images, exact=True)
            models.append(TestedModel(path, loaded.engine, loaded.record))
    fingerprints = [model.engine.fingerprint for model in models]
    twice = next((model for model in models if fingerprints.count(model.engine.fingerprint) > 1), None)
    if twice is not None:
        raise UsageError(f"The model of {twice.path} is named twice.", "Name each model once.")
    return models


def _at_another_size(path: Path, settings: Settings) -> TestedModel:
    """A model computed by torch at another size than its own: exports have theirs fixed."""
    from sil_cli.models.backbones.names import TIMM, VIT
    from sil_cli.models.embedder import load_embedder
    from sil_cli.models.engines.torch_engine import TorchEngine

    embedder, record = load_embedder(path)
    trained = record.architecture
    if trained.backbone == VIT or trained.backbone.startswith(TIMM):
        raise UsageError(
            f"{trained.backbone} takes images of {trained.height}×{trained.width} only.",
            "Leave --height and --width out.",
        )
    size = {
        "height": settings.evaluate.height or trained.height,
        "width": settings.evaluate.width or trained.width,
    }
    embedder.architecture = trained.model_copy(update=size)
    engine = TorchEngine(embedder, record.fingerprint, device=resolve_device(settings.device))
    engine.max_pixels = pixels_in(settings.data.max_megapixels)
    return TestedModel(path, engine, record)


def conditions_of_training(models: Sequence[TestedModel], dataset: Dataset) -> dict[str, str]:
    """Which weights were tested, what they were trained on, and which of the target's test sets this is."""
    facts = [model.facts for model in models]
    chosen = {name: value for name, value in dataset.info.options.items() if value is not None}
    test_set = {TEST_SET: ", ".join(f"{name} {value}" for name, value in chosen.items())}
    return {
        "model": _each(_selection(model.path, one) for model, one in zip(models, facts, strict=True)),
        "protocol": _each((one.protocol if one else None) or "none" for one in facts),
        "sources": _each(_sources(one) for one in facts),
        # One partition is not the mean of ten.
        **({} if dataset.info.generated or not chosen else test_set),
    }


def conditions_of_inference(models: Sequence[TestedModel], settings: Settings) -> dict[str, str]:
    """Every inference option in words, for results and tables."""
    options, rerank = settings.evaluate, settings.rerank
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
        "re-ranking": f"k-reciprocal encoding of all queries and gallery images, k1 = {rerank.k1}, k2 = {rerank.k2}, "
        f"λ = {rerank.weight:g}"
        if options.rerank
        else "none",
    }


def variant(models: Sequence[TestedModel], settings: Settings) -> str:
    """The inference options that are on, as a folder's name; "" for plain evaluation, which others must not replace."""
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


def results_folder(models: Sequence[TestedModel], dataset: Dataset, settings: Settings) -> Path:
    """Where results go: by target, which may be one of several splits of a data set, and by what was done."""
    model = models[0]
    # The results of a quantised model must not replace its source's, nor those of a checkpoint the finished run's.
    own = model.path.stem if model.is_checkpoint else "" if model.is_original else model.engine.name.replace(" ", "-")
    name = f"{dataset.name}-{own}" if own else dataset.name
    folder = model.folder / "evaluation" / name
    if SPLIT_NAME.fullmatch(dataset.folder.name):
        folder /= dataset.folder.name
    folder /= variant(models, settings)
    refuse_links(folder, within=model.folder)
    return folder


def _each(values: Iterable[str]) -> str:
    """What holds for each of the models, said once where it is the same."""
    return "; ".join(dict.fromkeys(values))


def _sources(facts: RunFacts | None) -> str:
    """The sources' names, and what of them was used."""
    if facts is None:
        return "unknown"
    names = ", ".join(source.name for source in facts.sources)
    return f"{names} ({facts.source_splits.replace('+', ' + ')})"


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
