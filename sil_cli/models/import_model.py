"""`sil import-model`: a published checkpoint becomes a model folder, which every other command takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sil_cli.errors import UsageError
from sil_cli.models.embedder import Embedder, architecture, save_model
from sil_cli.models.weights import IMAGENET, NONE, load_pretrained
from sil_cli.results import Result

if TYPE_CHECKING:
    from sil_cli.settings import Settings


class ImportResult(Result):
    """The outcome of `sil import-model`.

    Attributes:
        model: The folder that other commands take as the model.
        weights: Where they came from.
        dimension: Numbers in an embedding.
        fingerprint: A hash of weights and preprocessing: equal ones embed alike.
    """

    model: Path
    weights: str
    backbone: str
    dimension: int
    fingerprint: str


def import_model(settings: Settings, folder: Path) -> ImportResult:
    """Load the weights file that the settings name, strictly, and write `model.safetensors` and `model.json`.

    Args:
        settings: `model` says what the network is and where its weights lie.
        folder: Where the model goes.

    Raises:
        UsageError: No file is named, or `folder` holds something already.
        ModelError: The file can't be read or does not fit; says which parameters.
    """
    if settings.model.weights in (IMAGENET, NONE):
        raise UsageError("No weights file was given.", "Run `sil import-model FILE --out DIR`.")
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder} is not empty.", "Choose another folder with --out DIR.")
    embedder = Embedder(architecture(settings.model))
    load_pretrained(embedder, settings.model.weights)
    folder.mkdir(parents=True, exist_ok=True)
    record = save_model(folder, embedder.eval())
    return ImportResult(
        model=folder,
        weights=settings.model.weights,
        backbone=settings.model.backbone,
        dimension=record.dimension,
        fingerprint=record.fingerprint,
    )
