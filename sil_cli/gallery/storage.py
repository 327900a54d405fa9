"""Where the gallery is that the settings name."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from sil_cli.errors import UsageError
from sil_cli.gallery.milvus.address import TOKEN_VARIABLE
from sil_cli.gallery.stores import address_file, open_store
from sil_cli.settings import refuse_outside

if TYPE_CHECKING:
    from sil_cli.gallery.interface import GalleryStore, GalleryWriter
    from sil_cli.runtime import Reporter
    from sil_cli.settings import Settings


def gallery_store(settings: Settings) -> GalleryStore:
    """The store of `gallery.store`, or the folder where none is named.

    Raises:
        UsageError: The address is none, or the packages for it are not installed; or a file that was merely found names
            it, and it would be sent a credential, or is a file outside of the working folder.
    """
    wanted = settings.gallery
    if wanted.store is not None and not settings.is_users_own("gallery.store"):
        _refuse_trusting(wanted.store, settings)
    return open_store(wanted.folder, wanted.store, patience=wanted.patience)


def gallery_store_to_write(settings: Settings) -> GalleryStore:
    """The same, to be changed: a file that was merely found names no gallery outside of the working folder for that.

    Raises:
        UsageError: As of `gallery_store`, or the folder is outside.
    """
    refuse_outside(settings, "gallery.folder")
    return gallery_store(settings)


def _refuse_trusting(address: str, settings: Settings) -> None:
    """Keep credentials, and files elsewhere, from a store that the user didn't name."""
    if address_file(address) is not None:
        refuse_outside(settings, "gallery.store")
    elif os.environ.get(TOKEN_VARIABLE):
        raise UsageError(
            f"The store {address} was named by a sil.toml found in the working folder: {TOKEN_VARIABLE} is not sent "
            "where only such a file says.",
            f"If you trust it, name it yourself: --store {shlex.quote(address)}, SIL_GALLERY__STORE, or --config "
            "sil.toml where that file is your own.",
        )


def tell_set_aside(writer: GalleryWriter, reporter: Reporter) -> None:
    """Say which files a writer found among a gallery's vectors that its database knows nothing of."""
    moved = writer.set_aside
    if moved:
        more = f" and {len(moved) - 1:,} more" if len(moved) > 1 else ""
        reporter.warn(
            f"Files of vectors that the gallery's database doesn't know were set aside: {moved[0]}{more}. If it is an "
            "older copy, put the right one back, and them too; `sil gallery compact` deletes what is set aside."
        )
