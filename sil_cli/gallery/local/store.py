"""The gallery of one machine: a folder with SQLite and FAISS files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sil_cli.gallery.local.gallery import open_local
from sil_cli.gallery.local.health import check_files
from sil_cli.gallery.local.rebuild import rebuilding
from sil_cli.gallery.local.tuning import require_factory
from sil_cli.gallery.local.writer import existing_writer, gallery_writer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from sil_cli.gallery.local.gallery import LocalGallery
    from sil_cli.gallery.local.health import Check
    from sil_cli.gallery.local.rebuild import LocalRebuild
    from sil_cli.gallery.local.writer import LocalWriter


class LocalStore:
    """A folder that holds a gallery, or may come to hold one; a `GalleryStore`.

    Attributes:
        folder: It.
        name: What messages call it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = str(folder)

    def open(self) -> LocalGallery:
        """As `open_local`."""
        return open_local(self.folder)

    def writer(self, model: Mapping[str, Any]) -> AbstractContextManager[LocalWriter]:
        """As `gallery_writer`."""
        return gallery_writer(self.folder, model)

    def existing_writer(self) -> AbstractContextManager[LocalWriter]:
        """As `existing_writer`."""
        return existing_writer(self.folder)

    def rebuilding(self, model: Mapping[str, Any]) -> AbstractContextManager[LocalRebuild]:
        """As `rebuilding`."""
        return rebuilding(self.folder, model)

    def require_index(self, wished: str, dimension: int) -> None:
        """As `require_factory`."""
        require_factory(wished, dimension)

    def check(self) -> list[Check]:
        """As `check_files`."""
        if not self.folder.exists():
            open_local(self.folder)  # says what is missing
        return check_files(self.folder)

    def size(self) -> int:
        """The size of all files in the folder and below."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    def option(self) -> str:
        """`--gallery FOLDER`, or nothing for the default folder."""
        return "" if self.name == "gallery" else f" --gallery {self.folder}"
