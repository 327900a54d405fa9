"""From what a user calls a store to the store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sil_cli.gallery.local.store import LocalStore
from sil_cli.gallery.milvus.address import LITE_SUFFIX, parse_address

if TYPE_CHECKING:
    from sil_cli.gallery.interface import Gallery, GalleryStore


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


def open_gallery(folder: Path | str = "gallery", *, store: str | None = None, patience: float = 120.0) -> Gallery:
    """Open a gallery for searching; use it in a `with` statement. A writer may be at work in it meanwhile.

    Args:
        folder: The gallery's folder.
        store: Where its entries are when not in the folder: `milvus://HOST:PORT/COLLECTION`, or a Milvus Lite file.
        patience: Seconds to go on trying while a Milvus server doesn't answer.

    Raises:
        GalleryError: There is no gallery, it is damaged, of a newer version, or it can't be reached.
        UsageError: The store's address is none, or the packages for it are not installed.
    """
    return open_store(Path(folder), store, patience=patience).open()
