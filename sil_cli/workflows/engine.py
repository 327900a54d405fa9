"""From settings to a model that is ready to embed, and the copy of it that a gallery keeps."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sil_cli.files import copy_file, staging_folder, write_bytes
from sil_cli.models.choose import EngineWish, LoadedModel, find_model, load_engine
from sil_cli.models.export_record import RECORD_FILES, read_export, read_graph
from sil_cli.models.record import RECORD_FILE, WEIGHTS_FILE, read_record

if TYPE_CHECKING:
    from pathlib import Path

    from sil_cli.models.engine import Engine
    from sil_cli.retrieval.interface import GalleryReader
    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings

MODEL_FOLDER = "model"
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
    wish = _wish(settings, images)
    if exact and wish.precision == "auto":
        wish = replace(wish, precision="float32")
    if path.suffix == CHECKPOINT_SUFFIX:
        from sil_cli.workflows.checkpoint_model import load_checkpoint_model

        return load_checkpoint_model(path, wish, reporter)
    return load_engine(path, wish, reporter)


def load_for_gallery(
    path: Path, settings: Settings, gallery: GalleryReader, reporter: Reporter, *, images: int | None
) -> Engine:
    """Load the model of a gallery's queries, with the engine that the gallery is bound to where it is quantised.

    Raises:
        GalleryError: The gallery was made by another model.
        SilError: There is no such model, or it can't be used like that.
    """
    wish = _wish(settings, images)
    bound = gallery.model.get("engine")
    if bound is not None and wish.engine == "auto":
        wish = replace(wish, engine=bound)
    loaded = load_engine(path, wish, reporter)
    gallery.require_model(loaded.engine.fingerprint)
    return loaded.engine


def require_named_model(path: Path, gallery: GalleryReader) -> None:
    """Refuse a model that is named for a gallery of another one by its record, before anything else of it is looked at.

    Raises:
        GalleryError: The gallery was made by another model.
        SilError: There is no such model, or its record is damaged.
    """
    files = find_model(path)
    if files.folder is not None:
        gallery.require_model(read_record(files.folder).fingerprint)
    elif files.export is not None:
        gallery.require_model(read_export(files.export).fingerprint_with(gallery.model.get("engine") or "auto"))


def gallery_record(loaded: LoadedModel) -> dict[str, Any]:
    """What a gallery remembers of its model; the engine too, where other engines compute something else."""
    record = loaded.record.model_dump(mode="json")
    if loaded.engine.fingerprint == loaded.record.fingerprint:
        return record
    return record | {"fingerprint": loaded.engine.fingerprint, "engine": loaded.engine.name.split()[0]}


def keep_model(loaded: LoadedModel, gallery: Path) -> None:
    """Copy the model into the gallery, so that it can be queried wherever it goes, and its export with it.

    A gallery that has its model already gets the export that it lacks.

    Raises:
        SilError: A file is damaged.
        OSError: The gallery can't be written.
    """
    kept = gallery / MODEL_FOLDER
    if not kept.is_dir() or not any((kept / name).is_file() for name in (RECORD_FILE, *RECORD_FILES.values())):
        with staging_folder(gallery) as staging:
            if loaded.files.folder is not None:
                for name in (WEIGHTS_FILE, RECORD_FILE):
                    copy_file(loaded.files.folder / name, staging / name)
            _copy_export(loaded, staging)
            shutil.rmtree(kept, ignore_errors=True)
            staging.rename(kept)
    else:
        _copy_export(loaded, kept)


def _copy_export(loaded: LoadedModel, folder: Path) -> None:
    """Copy graph and record, the record last, so that it never names a file that is not there."""
    if loaded.files.export is None:
        return
    export = read_export(loaded.files.export)
    to = folder / RECORD_FILES[export.precision]
    if to.is_file() and read_export(to) == export:
        return
    write_bytes(folder / export.file, read_graph(loaded.files.export, export))
    write_bytes(to, loaded.files.export.read_bytes())


def _wish(settings: Settings, images: int | None) -> EngineWish:
    return EngineWish(
        engine=settings.inference.engine,
        precision=settings.inference.precision,
        device=settings.device,
        images=images,
    )
