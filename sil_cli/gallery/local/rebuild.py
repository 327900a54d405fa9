"""Embedding a gallery anew, beside the old one, and putting it in the old one's place in one step.

The new gallery grows in a folder beside, `.NAME.rebuilding`, by whole batches, so a kill costs at most one batch; the
old gallery stays as it is and can be searched. When everything is there, the two folders change places by one system
call (`renameat2` with RENAME_EXCHANGE on Linux, `renameatx_np` with RENAME_SWAP on macOS), and the old one is deleted.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from sil_cli.errors import GalleryError, SilError
from sil_cli.files import STAGING_MARK, TEMPORARY_MARK, sync_folder, write_text
from sil_cli.gallery.local.gallery import open_local
from sil_cli.gallery.local.tables import DATABASE_FILE
from sil_cli.gallery.local.writer import existing_writer, gallery_writer
from sil_cli.gallery.paths import SUPERSEDED_MARK, VECTOR_FOLDER, delete_superseded, rebuilding_folder
from sil_cli.locks import LOCK_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from sil_cli.gallery.entry import GalleryEntry, Member
    from sil_cli.gallery.local.gallery import LocalGallery
    from sil_cli.gallery.local.writer import LocalWriter

_AT_CWD = {"linux": -100, "darwin": -2}
_OURS = (DATABASE_FILE, VECTOR_FOLDER, LOCK_FILE, SUPERSEDED_MARK, STAGING_MARK, TEMPORARY_MARK)
_EXCHANGE = 2  # RENAME_EXCHANGE of Linux, RENAME_SWAP of macOS


class LocalRebuild:
    """An old gallery and the new one that grows beside it; use `rebuilding` to get one.

    Attributes:
        old: The gallery as it is; nobody else can write to it meanwhile.
        new: What is embedded anew so far.
        folder: Where the new one lies.
        swapped: Whether the new one has taken the old one's place.
    """

    def __init__(self, old: LocalGallery, new: LocalWriter, folder: Path) -> None:
        self.old = old
        self.new = new
        self.folder = folder
        self.swapped = False
        self._target = old.folder.resolve()

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
        """Add one batch to the new gallery, under the ids of the old one."""
        self.new.add(entries, embeddings, ids=np.array(ids, dtype=np.int64), members=members)

    def swap(self) -> None:
        """Put the new gallery in the old one's place, in one step; other people's files in it stay where they are.

        Raises:
            GalleryError: The file system can't do that.
        """
        self.new.adopt_history(self.old.removals(), self.old.last_id())
        self.new.finish()
        self.new.close()
        write_text(self._target / SUPERSEDED_MARK, "A rebuilt gallery took the place of this one.\n")
        _exchange(self.folder, self._target)
        self.swapped = True
        sync_folder(self._target.parent)
        for path in self.folder.iterdir():
            if not path.name.startswith(_OURS) and not (self._target / path.name).exists():
                path.rename(self._target / path.name)


@contextlib.contextmanager
def rebuilding(folder: Path, model: Mapping[str, Any]) -> Iterator[LocalRebuild]:
    """Open a gallery to embed it anew by another model; goes on with what an earlier attempt has done.

    Entries keep their ids. What an attempt with yet another model left is thrown away.

    Raises:
        SilError: There is no gallery, another process writes to it, or the folder beside can't be written.
    """
    beside = rebuilding_folder(folder)
    with existing_writer(folder):  # held throughout: what is indexed meanwhile would be lost
        if beside.exists() and not _is_of(beside, model["fingerprint"]):
            shutil.rmtree(beside, ignore_errors=True)
        with open_local(folder) as old, gallery_writer(beside, model) as new:
            rebuild = LocalRebuild(old, new, beside)
            gone = np.setdiff1d(new.ids(), old.ids())  # removed or replaced since the earlier attempt
            if len(gone):
                new.remove(gone.tolist(), "gone before the rebuild")
            yield rebuild
        if rebuild.swapped:
            delete_superseded(folder)


def _is_of(folder: Path, fingerprint: str) -> bool:
    try:
        with open_local(folder) as gallery:
            return bool(gallery.model["fingerprint"] == fingerprint)
    except SilError:
        return False


def _exchange(one: Path, other: Path) -> None:
    try:
        library = ctypes.CDLL(None, use_errno=True)
        here = _AT_CWD[sys.platform]
        call = library.renameat2 if sys.platform == "linux" else library.renameatx_np
    except (OSError, AttributeError, KeyError) as error:
        raise _cannot_swap(other, one, "this system has no call for it") from error
    if call(here, os.fsencode(one), here, os.fsencode(other), _EXCHANGE):
        raise _cannot_swap(other, one, os.strerror(ctypes.get_errno()))


def _cannot_swap(folder: Path, beside: Path, reason: str) -> GalleryError:
    return GalleryError(
        f"{folder} can't be replaced in one step: {reason}.",
        f"The new gallery is whole in {beside}: move it by hand while nobody searches.",
    )
