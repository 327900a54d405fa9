"""What a command writes must not be part of a gallery."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from sil_cli.errors import UsageError
from sil_cli.files import sha256_of_file
from sil_cli.gallery.stores import address_file
from sil_cli.output_checks import refuse_overwriting, state_of

if TYPE_CHECKING:
    from sil_cli.gallery.entry import GalleryEntry, Match
    from sil_cli.gallery.interface import Gallery
    from sil_cli.settings import Settings


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


def refuse_overwriting_entries(out: Path | None, gallery: Gallery, *, option: str) -> None:
    """Refuse an output that is an image of the gallery, whether or not a query finds it.

    Raises:
        UsageError: It is one.
    """
    written = state_of(out) if out is not None else None
    if out is None or written is None or not stat.S_ISREG(written.st_mode):
        return
    same = gallery.entries(sorted(gallery.ids_of_content(sha256_of_file(out))))
    refuse_overwriting(out, (entry_file(gallery.folder, entry) for entry in same.values()), option=option)


def entry_file(gallery: Path, entry: GalleryEntry | Match) -> Path:
    """Where the image of a gallery's entry lies."""
    return gallery / entry.source / entry.path
