"""Whether the model that a gallery keeps is the one that made its embeddings. Needs no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sil_cli.errors import SilError
from sil_cli.files import one_line
from sil_cli.models.export_record import RECORD_FILES, read_export, read_graph
from sil_cli.models.record import RECORD_FILE, WEIGHTS_FILE, ModelRecord, fingerprint_of, read_record

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


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
    if fingerprint_of(record.architecture, weights.read_bytes()) != record.fingerprint:
        raise _WrongError(f"{weights} is not the file whose fingerprint {RECORD_FILE} names")
    return record


def _checked_export(path: Path, source: ModelRecord | None, engine: str | None) -> set[str]:
    """The fingerprint of an export whose file is right; none of one made from other weights than those here."""
    export = read_export(path)
    if source is not None and export.model.fingerprint != source.fingerprint:
        return set()  # of other weights: it is never used, and told whenever the model is loaded
    read_graph(path, export)
    return {export.fingerprint_with(engine) if engine is not None else export.model.fingerprint}
