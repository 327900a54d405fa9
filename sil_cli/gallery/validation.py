"""What a gallery's writer refuses before anything is written."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from sil_cli.errors import GalleryError
from sil_cli.files import one_line
from sil_cli.gallery.local.set_aside import knows_none
from sil_cli.gallery.local.tables import DATABASE_FILE
from sil_cli.gallery.paths import VECTOR_FOLDER
from sil_cli.locks import LOCK_FILE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from sil_cli.gallery.entry import GalleryEntry, Member


def require_batch(
    entries: Sequence[GalleryEntry],
    embeddings: NDArray[np.floating],
    members: Sequence[Sequence[Member]],
    dimension: int,
) -> None:
    """Refuse a batch that doesn't fit together or to the gallery; its arguments are those of `GalleryWriter.add`.

    Raises:
        GalleryError: It doesn't.
    """
    if embeddings.shape != (len(entries), dimension):
        raise GalleryError(
            f"{len(entries)} images came with embeddings of shape {embeddings.shape}.",
            f"This gallery needs one row of {dimension} values an image.",
        )
    (key, times), *_ = Counter(entry.key for entry in entries).most_common(1)
    if times > 1:
        raise GalleryError(f"'{key[1]}' came {times} times in one batch.", "Give each image once.")
    images = [(entry.source, entry.path, entry.box) for entry in entries] + [one for some in members for one in some]
    for source, path, _ in images:
        if not _is_text(source) or not _is_text(path):
            raise GalleryError(f"The file name {path!r} is not UTF-8.", "Rename the file.")


def require_gallery_or_nothing(folder: Path) -> None:
    """Make the folder, and refuse one that holds other things.

    Raises:
        GalleryError: It holds them, or can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise GalleryError(
            f"{folder} can't be used as a gallery: {one_line(error)}.", "Choose another --gallery DIR."
        ) from error
    if DATABASE_FILE not in names and names - {LOCK_FILE, VECTOR_FOLDER}:
        raise GalleryError(
            f"{folder} is not a gallery, and not empty.", "Choose a new or empty folder with --gallery DIR."
        )
    if DATABASE_FILE not in names and knows_none(folder, []):
        raise GalleryError(
            f"{folder} has files of vectors, but {DATABASE_FILE} is missing.",
            "Put it back, or choose a new or empty folder with --gallery DIR.",
        )


def _is_text(name: str) -> bool:
    """Whether a file name can be stored: the OS may hand over bytes that are no text."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)
