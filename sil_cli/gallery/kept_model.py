"""The copy of its model that a gallery keeps: made, loaded and checked. Needs no torch where there is an export."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sil_cli.defaults import RECORD_FILE
from sil_cli.errors import GalleryError, SilError, one_line
from sil_cli.files import LARGEST_FILE, copy_file, read_bytes, staging_folder, write_bytes
from sil_cli.gallery.interface import MODEL_FOLDER
from sil_cli.models.load import engine_request, load_engine
from sil_cli.models.model import Model
from sil_cli.models.record import (
    RECORD_FILES,
    WEIGHTS_FILE,
    ModelRecord,
    fingerprint_at,
    fingerprint_of,
    read_export,
    read_graph,
    read_record,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sil_cli.gallery.interface import Gallery
    from sil_cli.models.engines.engine import Engine
    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings


def load_for_gallery(
    path: Path, settings: Settings, gallery: Gallery, reporter: Reporter, *, images: int | None
) -> Engine:
    """Load the model of a gallery's queries, with the engine that the gallery is bound to where it is quantised.

    Raises:
        GalleryError: The gallery was made by another model.
        SilError: There is no such model, or it can't be used like that.
    """
    request = engine_request(settings, images)
    bound = gallery.model.get("engine")
    if bound is not None and request.engine == "auto":
        request = replace(request, engine=bound)
    loaded = load_engine(path, request, reporter)
    gallery.require_model(loaded.engine.fingerprint)
    return loaded.engine


def require_named_model(path: Path, gallery: Gallery) -> None:
    """Refuse a model that is named for a gallery of another one by its record, before anything else of it is looked at.

    Raises:
        GalleryError: The gallery was made by another model.
        SilError: There is no such model, or its record is damaged.
    """
    gallery.require_model(fingerprint_at(path, gallery.model.get("engine") or "auto"))


def gallery_record(loaded: Model) -> dict[str, Any]:
    """What a gallery remembers of its model; the engine too, where other engines compute something else."""
    record = loaded.record.document()
    if loaded.engine.fingerprint == loaded.record.fingerprint:
        return record
    return record | {"fingerprint": loaded.engine.fingerprint, "engine": loaded.engine.name.split()[0]}


def keep_model(loaded: Model, gallery: Path) -> None:
    """Copy the model into the gallery, so that it can be queried wherever it goes, and its export with it.

    A gallery that has its model already gets the export that it lacks.

    Raises:
        SilError: A file is damaged.
        OSError: The gallery can't be written.
    """
    kept = gallery / MODEL_FOLDER
    if not kept.is_dir() or not any((kept / name).is_file() for name in (RECORD_FILE, *RECORD_FILES.values())):
        if kept.is_dir() and any(kept.iterdir()):
            raise GalleryError(
                f"{kept} is in the way: a gallery keeps its model there, and this isn't one.",
                "See what is there, and move it elsewhere.",
            )
        with staging_folder(gallery) as staging:
            if loaded.files.folder is not None:
                for name in (WEIGHTS_FILE, RECORD_FILE):
                    copy_file(loaded.files.folder / name, staging / name)
            _copy_export(loaded, staging)
            staging.rename(kept)
    else:
        _copy_export(loaded, kept)


def _copy_export(loaded: Model, folder: Path) -> None:
    """Copy graph and record, the record last, so that it never names a file that is not there."""
    if loaded.files.export is None:
        return
    export = read_export(loaded.files.export)
    to = folder / RECORD_FILES[export.precision]
    if to.is_file() and read_export(to) == export:
        return
    for name, content in read_graph(loaded.files.export, export).items():
        write_bytes(folder / name, content)
    write_bytes(to, loaded.files.export.read_bytes())


def wrong_with_model(folder: Path, recorded: Mapping[str, Any]) -> str | None:
    """What is wrong with the files of a gallery's model, None where they are those that the gallery records.

    Args:
        folder: Holds weights with their record, an export with its record, or both.
        recorded: The gallery's record of its model.
    """
    try:
        record = _checked_weights(folder) if (folder / RECORD_FILE).is_file() else None
        known = {record.fingerprint} if record is not None else set()
        for name in RECORD_FILES.values():
            if (folder / name).is_file():
                known |= _checked_export(folder / name, record, recorded.get("engine"))
    except (_WrongError, SilError) as error:
        return f"its model can't be used: {error.what if isinstance(error, SilError) else error}"
    except OSError as error:
        return f"its model can't be read: {one_line(error)}"
    if not known:
        return f"its model can't be used: {folder} holds neither {RECORD_FILE} nor an export"
    if recorded["fingerprint"] not in known:
        return f"its embeddings are of model {recorded['fingerprint'][:12]}, but {folder} holds {min(known)[:12]}"
    return None


class _WrongError(Exception):
    """Files don't belong together."""


def _checked_weights(folder: Path) -> ModelRecord:
    """The record of weights, which are those that its fingerprint names."""
    record = read_record(folder)
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        raise _WrongError(f"{weights} is missing")
    if fingerprint_of(record.architecture, read_bytes(weights, most=LARGEST_FILE)) != record.fingerprint:
        raise _WrongError(f"{weights} is not the file whose fingerprint {RECORD_FILE} names")
    return record


def _checked_export(path: Path, source: ModelRecord | None, engine: str | None) -> set[str]:
    """The fingerprint of an export whose file is right; none of one made from other weights than those here."""
    export = read_export(path)
    if source is not None and export.model.fingerprint != source.fingerprint:
        return set()  # of other weights: never used, which is said whenever the model is loaded
    read_graph(path, export)
    return {export.fingerprint_with(engine) if engine is not None else export.model.fingerprint}
