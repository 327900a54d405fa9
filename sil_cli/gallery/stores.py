"""From what a user calls a store to the store."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from sil_cli.errors import UsageError
from sil_cli.gallery.local.store import LocalStore
from sil_cli.gallery.milvus.address import LITE_SUFFIX, TOKEN_VARIABLE, parse_address
from sil_cli.settings import refuse_outside

if TYPE_CHECKING:
    from sil_cli.gallery.interface import Gallery, GalleryStore
    from sil_cli.settings import Settings


def is_address(text: str) -> bool:
    """Whether a text is meant as the address of a store, not as a folder."""
    return "://" in text or text.endswith(LITE_SUFFIX)


def address_file(text: str) -> Path | None:
    """The file of Milvus Lite that an address names; None where the store is a server.

    Raises:
        UsageError: It is no address.
    """
    return parse_address(text).file


def open_store(folder: Path, address: str | None, *, patience: float) -> GalleryStore:
    """The store at an address; nothing is read or connected to yet.

    Args:
        folder: The gallery's folder: the gallery itself, or what stands beside a store elsewhere.
        address: `milvus://HOST:PORT/COLLECTION`, a Milvus Lite file `NAME.db`, or None for the folder.
        patience: Seconds to go on trying while a server doesn't answer.

    Raises:
        UsageError: It is no such address, or the packages for it are not installed.
    """
    if address is None:
        return LocalStore(folder)
    from sil_cli.gallery.milvus.store import MilvusStore

    return MilvusStore(folder, parse_address(address), patience=patience)


def gallery_store(settings: Settings) -> GalleryStore:
    """The store of `gallery.store`, or the folder where none is named.

    Raises:
        UsageError: It is no such address, or the packages for it are not installed; or a file that was merely found
            names it, and it would be sent a credential, or is a file outside of the working folder.
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


def open_gallery(folder: Path | str = "gallery", *, store: str | None = None, patience: float = 120.0) -> Gallery:
    """Open a gallery for searching; use it in a `with` statement. A writer may be at work in it meanwhile.

    Args:
        folder: The gallery's folder.
        store: Where its entries are when not in the folder: `milvus://HOST:PORT/COLLECTION`, or a Milvus Lite file.
        patience: Seconds to go on trying while a Milvus server doesn't answer.

    Raises:
        GalleryError: There is no gallery, it is damaged, of a newer version, or it can't be reached.
        UsageError: `store` is no such address, or the packages for it are not installed.
    """
    return open_store(Path(folder), store, patience=patience).open()
