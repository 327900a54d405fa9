"""Where the gallery is that the settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.gallery.stores import open_store

if TYPE_CHECKING:
    from sil_cli.gallery.interface import GalleryStore, GalleryWriter
    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings


def gallery_store(settings: Settings) -> GalleryStore:
    """The store of `gallery.store`, or the folder where none is named.

    Raises:
        UsageError: The address is none, or the packages for it are not installed.
    """
    wanted = settings.gallery
    return open_store(wanted.folder, wanted.store, patience=wanted.patience)


def tell_set_aside(writer: GalleryWriter, reporter: Reporter) -> None:
    """Say which files a writer found among a gallery's vectors that its database knows nothing of."""
    moved = writer.set_aside
    if moved:
        more = f" and {len(moved) - 1:,} more" if len(moved) > 1 else ""
        reporter.warn(
            f"Files of vectors that the gallery's database doesn't know were set aside: {moved[0]}{more}. If it is an "
            "older copy, put the right one back, and them too; `sil gallery compact` deletes what is set aside."
        )
