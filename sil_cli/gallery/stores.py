"""From what a user calls a store to the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.gallery.local import LocalStore
from sil_cli.gallery.milvus.address import LITE_SUFFIX, parse_address

if TYPE_CHECKING:
    from pathlib import Path

    from sil_cli.gallery.interface import GalleryStore


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
