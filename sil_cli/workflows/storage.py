"""Where the gallery is that the settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.retrieval.stores import open_store

if TYPE_CHECKING:
    from sil_cli.retrieval.interface import GalleryStore
    from sil_cli.settings import Settings


def gallery_store(settings: Settings) -> GalleryStore:
    """The store of `gallery.store`, or the folder where none is named.

    Raises:
        UsageError: The address is none, or the packages for it are not installed.
    """
    wanted = settings.gallery
    return open_store(wanted.folder, wanted.store, patience=wanted.patience)
