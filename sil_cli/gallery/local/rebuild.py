"""Putting a gallery that was embedded again in the old one's place.

The new gallery grows in a folder beside, `.NAME.rebuilding`, by whole batches, so a kill costs at most one batch; the
old gallery stays as it is and can be searched. When everything is there, the old one is renamed to `.NAME.superseded`
and the new one to `NAME`; then the old one is deleted. Whoever finds no folder `NAME` between the two renames, after a
kill or in that very moment, does the second one.
"""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING

from sil_cli.errors import GalleryError
from sil_cli.files import STAGING_MARK, TEMPORARY_MARK, one_line, sync_folder
from sil_cli.gallery.interface import GalleryRebuild, rebuilding_folder
from sil_cli.gallery.local.records import DATABASE_FILE, VECTOR_FOLDER
from sil_cli.locks import LOCK_FILE

if TYPE_CHECKING:
    from pathlib import Path

    from sil_cli.gallery.local.gallery import LocalGallery
    from sil_cli.gallery.local.writer import LocalWriter

_OF_A_GALLERY = (DATABASE_FILE, VECTOR_FOLDER, LOCK_FILE, STAGING_MARK, TEMPORARY_MARK)


class LocalRebuild(GalleryRebuild):
    """A gallery and the new one beside it; nobody else can write to either meanwhile."""

    def __init__(self, old: LocalGallery, new: LocalWriter) -> None:
        super().__init__(old, new, new.folder)
        self._old, self._new = old, new

    def swap(self) -> None:
        """Put the new gallery in the old one's place; other people's files in it stay where they are.

        Raises:
            GalleryError: The file system can't do that.
        """
        self._new.adopt_removals(self.old.removals())
        self._new.use_up_ids(self._old.last_id())
        self._new.finish()
        self._new.close()
        target = self.old.folder.resolve()
        old = superseded_folder(target)
        shutil.rmtree(old, ignore_errors=True)
        try:
            target.rename(old)
        except OSError as error:
            raise GalleryError(
                f"{target} can't be replaced: {one_line(error)}.",
                f"The new gallery is whole in {self.folder}: move it by hand while nobody searches.",
            ) from error
        rename_back(target)
        sync_folder(target.parent)


def superseded_folder(folder: Path) -> Path:
    """Where the gallery is whose place a rebuilt one took, until it is deleted."""
    whole = folder.resolve()
    return whole.with_name(f".{whole.name}.superseded")


def rename_back(folder: Path) -> None:
    """Where there is no gallery because a rebuilt one is about to take its place, let it; anybody may do that."""
    target = folder.resolve()
    if not target.exists() and (superseded_folder(target) / DATABASE_FILE).exists():
        with contextlib.suppress(OSError):  # somebody else was quicker
            rebuilding_folder(target).rename(target)


def finish_swap(folder: Path) -> None:
    """Delete the gallery whose place a rebuilt one took; for the only writer. What else lay in its folder is moved."""
    old = superseded_folder(folder)
    if not old.is_dir():
        return
    for path in old.iterdir():
        if not path.name.startswith(_OF_A_GALLERY) and not (folder / path.name).exists():
            path.rename(folder / path.name)
    shutil.rmtree(old, ignore_errors=True)
