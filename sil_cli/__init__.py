"""Person re-identification in camera networks the model has never seen, by style interleaved learning.

    model = sil_cli.load_model("runs/001-dbs")
    vectors = model.embed(["a.jpg", "b.jpg"])
    with sil_cli.open_gallery("gallery") as gallery:
        matches = gallery.search(vectors, k=10)

Importing this brings nothing else; each name is loaded when it is first used (docs/python.md).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sil_cli.api import crop, evaluate, find_people, index, make_style, prepare, query, train
    from sil_cli.data.manifest import Dataset, load_dataset
    from sil_cli.errors import SilError
    from sil_cli.evaluation.pairs import EmbeddingSet
    from sil_cli.evaluation.score import score
    from sil_cli.gallery.entry import Match
    from sil_cli.gallery.filters import Filter
    from sil_cli.gallery.interface import Gallery
    from sil_cli.gallery.stores import open_gallery
    from sil_cli.models.load import load_model
    from sil_cli.models.model import Model
    from sil_cli.similarity.rerank import rerank

    __version__: str

__all__ = [
    "Dataset",
    "EmbeddingSet",
    "Filter",
    "Gallery",
    "Match",
    "Model",
    "SilError",
    "crop",
    "evaluate",
    "find_people",
    "index",
    "load_dataset",
    "load_model",
    "make_style",
    "open_gallery",
    "prepare",
    "query",
    "rerank",
    "score",
    "train",
]

_HOMES = {
    "Dataset": "data.manifest",
    "EmbeddingSet": "evaluation.pairs",
    "Filter": "gallery.filters",
    "Gallery": "gallery.interface",
    "Match": "gallery.entry",
    "Model": "models.model",
    "SilError": "errors",
    "crop": "api",
    "evaluate": "api",
    "find_people": "api",
    "index": "api",
    "load_dataset": "data.manifest",
    "load_model": "models.load",
    "make_style": "api",
    "open_gallery": "gallery.stores",
    "prepare": "api",
    "query": "api",
    "rerank": "similarity.rerank",
    "score": "evaluation.score",
    "train": "api",
}
"""The module that each public name comes from."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module(f"{__name__}.version").VERSION
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
