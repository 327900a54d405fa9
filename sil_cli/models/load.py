"""From settings to a model that is ready to embed, and the copy of it that a gallery keeps."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from sil_cli.models.choose import EngineWish, LoadedModel, load_engine

if TYPE_CHECKING:
    from pathlib import Path

    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings

CHECKPOINT_SUFFIX = ".pt"


def load(
    path: Path, settings: Settings, reporter: Reporter, *, images: int | None = None, exact: bool = False
) -> LoadedModel:
    """Load a model with the engine that the settings ask for.

    Args:
        path: Whatever `load_engine` takes, or a checkpoint of an unfinished run.
        settings: Of the command.
        reporter: Is told which engine it is.
        images: How many there are to embed, None where unknown.
        exact: Not in bfloat16 unless it was asked for by name: numbers that are published should be float32's.

    Raises:
        SilError: There is no such model, or it can't be used like that.
    """
    wish = engine_request(settings, images)
    if exact and wish.precision == "auto":
        wish = replace(wish, precision="float32")
    if path.suffix == CHECKPOINT_SUFFIX:
        from sil_cli.models.checkpoint_model import load_checkpoint_model

        return load_checkpoint_model(path, wish, reporter)
    return load_engine(path, wish, reporter)


def engine_request(settings: Settings, images: int | None) -> EngineWish:
    """What the settings ask of an engine that is to embed so many images, None where unknown."""
    return EngineWish(
        engine=settings.inference.engine,
        precision=settings.inference.precision,
        device=settings.device,
        images=images,
    )
