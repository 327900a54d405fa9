"""Embedding a gallery on Milvus anew in a second collection, which then takes the alias of the first in one step."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np

from sil_cli.errors import GalleryError
from sil_cli.files import write_text
from sil_cli.gallery.paths import rebuilding_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from sil_cli.gallery.entry import GalleryEntry, Member
    from sil_cli.gallery.milvus.generation import Generation
    from sil_cli.gallery.milvus.reader import MilvusGallery
    from sil_cli.gallery.milvus.writer import MilvusWriter

_MODEL = "model"
_WAITS_FOR = "collection"


def beside(folder: Path) -> Path:
    """Where the new model waits until its collection takes over."""
    return rebuilding_folder(folder)


class MilvusRebuild:
    """A gallery and the collection of another model that grows beside it; a `Rebuilding`.

    Attributes:
        old: The gallery as it is.
        new: What is embedded anew so far.
        folder: Where the new model waits.
    """

    def __init__(self, old: MilvusGallery, new: MilvusWriter, folder: Path) -> None:
        self.old = old
        self.new = new
        self.folder = folder
        gone = np.setdiff1d(new.ids(), old.ids())  # removed since an earlier attempt
        if len(gone):
            new.remove(gone.tolist(), "gone before the rebuild")

    def to_do(self) -> NDArray[np.int64]:
        """The ids of the old gallery that the new one lacks, ascending."""
        return np.setdiff1d(self.old.ids(), self.new.ids())

    def add(
        self,
        ids: Sequence[int],
        entries: Sequence[GalleryEntry],
        embeddings: NDArray[np.floating],
        members: Sequence[Sequence[Member]],
    ) -> None:
        """Add one batch to the new collection; ids follow from the entries."""
        del ids
        self.new.add(entries, embeddings, members=members)

    def swap(self) -> None:
        """Let the new collection take over; then its model takes the old one's place in the folder.

        A kill between the two leaves a gallery whose folder has the wrong model, so queries refuse it; the same
        command sets that right.

        Raises:
            GalleryError: Somebody on another machine has added to the old collection meanwhile.
        """
        self.new.finish()
        late = len(self.to_do())
        if late:
            raise GalleryError(
                f"{late:,} entries came into {self.old.name} while it was rebuilt.", "Run the same command again."
            )
        self.new.adopt_removals(self.old.removals())
        old = self.old.generation
        write_text(self.folder / _WAITS_FOR, self.new.generation.collection.name)
        self.new.generation.take_alias()
        finish_swap(self.old.folder, self.new.generation)
        old.drop()


def finish_swap(folder: Path, present: Generation) -> None:
    """Put the model that waits for the present collection, if one does, into the gallery's folder."""
    waiting = beside(folder)
    note = waiting / _WAITS_FOR
    if not note.is_file() or note.read_text(encoding="utf-8") != present.collection.name:
        return
    if (waiting / _MODEL).is_dir():
        shutil.rmtree(folder / _MODEL, ignore_errors=True)
        (waiting / _MODEL).rename(folder / _MODEL)
    shutil.rmtree(waiting, ignore_errors=True)
