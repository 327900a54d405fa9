"""What a command writes must not be what it reads: the only copy of a photograph may be at stake."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from sil_cli.data.manifest import INFO_FILE, MANIFEST_FILE
from sil_cli.errors import UsageError
from sil_cli.files import sha256_of_file
from sil_cli.retrieval.stores import address_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sil_cli.data.manifest import Dataset
    from sil_cli.retrieval.gallery import Match
    from sil_cli.retrieval.interface import GalleryReader
    from sil_cli.retrieval.store import GalleryEntry
    from sil_cli.settings import Settings


def refuse_overwriting(out: Path | None, inputs: Iterable[Path], *, option: str) -> None:
    """Refuse an output that is one of the files to be read, by whatever name or link; call it before any work.

    Args:
        out: Where is to be written; None, or what is no file yet, overwrites nothing.
        inputs: What is to be read; files that aren't there are told by whoever reads them.
        option: The one that names `out`.

    Raises:
        UsageError: It is one of them.
    """
    written = _state(out) if out is not None else None
    if written is None or not stat.S_ISREG(written.st_mode):
        return
    for path in inputs:
        read = _state(path)
        if read is not None and os.path.samestat(written, read):
            raise UsageError(
                f"{option} {out} would be written over {path}, which is to be read.",
                f"Name another file with {option} FILE.",
            )


def refuse_harming_gallery(out: Path | None, settings: Settings, *, option: str) -> None:
    """Refuse an output among the files that a gallery is made of: its folder, its model, its file of Milvus Lite.

    Links are followed, as they are when the output is written. It need not be one of the files that are there: the next
    command that writes might take a stranger's file for one of the gallery's own.

    Args:
        out: Where is to be written, if anywhere.
        settings: They name the gallery.
        option: The one that names `out`.

    Raises:
        UsageError: It lies there.
    """
    if out is None:
        return
    wanted = settings.gallery
    store = address_file(wanted.store) if wanted.store is not None else None
    kept = {"the gallery": wanted.folder, "the gallery's store": store, "the model": settings.query.model}
    whole = Path(os.path.realpath(out))
    for what, place in kept.items():
        if place is not None and whole.is_relative_to(os.path.realpath(place)):
            raise UsageError(
                f"{option} {out} would be written into {what}, {place}.", f"Name another file with {option} FILE."
            )


def refuse_overwriting_entries(out: Path | None, gallery: GalleryReader, *, option: str) -> None:
    """Refuse an output that is an image of the gallery, whether or not a query finds it.

    Raises:
        UsageError: It is one.
    """
    written = _state(out) if out is not None else None
    if out is None or written is None or not stat.S_ISREG(written.st_mode):
        return
    same = gallery.entries(sorted(gallery.ids_of_content(sha256_of_file(out))))
    refuse_overwriting(out, (entry_file(gallery.folder, entry) for entry in same.values()), option=option)


def entry_file(gallery: Path, entry: GalleryEntry | Match) -> Path:
    """Where the image of a gallery's entry lies."""
    return gallery / entry.source / entry.path


def files_of(dataset: Dataset) -> Iterator[Path]:
    """The files of a prepared data set, its images wherever they lie."""
    yield from (dataset.folder / name for name in (MANIFEST_FILE, INFO_FILE))
    yield from (dataset.image_path(record) for record in dataset.records)


def _state(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (OSError, ValueError):
        return None
