"""Where an image stands in a gallery, so that it stands there once, however it was named.

Entries are named by a source, which is a folder, and a path below it. The same file may come by its folder today, by
a folder above it tomorrow, and by a stream of paths in between. So a file that lies below a source that the gallery
knows is always named by that source, by the innermost where they are nested.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sil_cli.gallery.ingest.ingested_image import SeenImage


def settled(images: Sequence[SeenImage]) -> list[SeenImage]:
    """The images by the real folders in which they lie; their files, which may be links, keep their own names.

    What a link shows that leads out of an image's root is below a root of its own: the folder that the link leads to.
    """
    real = cache(os.path.realpath)  # for these images alone: a link may lead elsewhere while a stream goes on

    def one(image: SeenImage) -> SeenImage:
        folder, name = os.path.split(os.path.join(image.root, image.path))  # noqa: PTH118 -- several times faster
        there = real(folder)
        if there == folder:
            return image
        root = there
        if Path(there).is_relative_to(image.root):
            root = str(image.root)
        else:
            while real(os.path.dirname(folder)) == os.path.dirname(root):  # noqa: PTH120
                folder, root = os.path.dirname(folder), os.path.dirname(root)  # noqa: PTH120
        return replace(image, root=Path(root), path=Path(there, name).relative_to(root).as_posix())

    return [one(image) for image in images]


class Placing:
    """Finds the names of images in one gallery.

    Args:
        gallery: The gallery's folder; sources are named relative to it.
        sources: Those that it knows.
    """

    def __init__(self, gallery: Path, sources: Iterable[str]) -> None:
        self._gallery = gallery.resolve()
        self._roots = {os.path.realpath(self._gallery / source): source for source in sources}
        self._of_folder: dict[str, str] = {}

    def place(self, image: SeenImage) -> tuple[str, str]:
        """Source and path of an image, one of `settled`; its root becomes a source where no known one holds it."""
        whole = str(image.file)
        folder = os.path.dirname(whole)  # noqa: PTH120 -- called for every image: text is several times faster
        root = self._of_folder.get(folder)
        if root is None:
            root = self._of_folder[folder] = self._innermost(folder) or self._new(image.root)
        return self._roots[root], os.path.relpath(whole, root) if root != folder else whole[len(folder) + 1 :]

    def root_of(self, source: str) -> Path:
        """The folder that a source's paths are relative to, with links followed."""
        return Path(os.path.realpath(self._gallery / source))

    def lost_sources(self) -> list[str]:
        """The sources whose folder is not there."""
        return [source for root, source in self._roots.items() if not os.path.isdir(root)]  # noqa: PTH112

    def sources_around(self, folder: Path) -> list[str]:
        """The sources that may name images in `folder`: those above it and those below."""
        return [
            source
            for root, source in self._roots.items()
            if Path(root).is_relative_to(folder) or folder.is_relative_to(root)
        ]

    def _innermost(self, folder: str) -> str | None:
        above = folder
        while above not in self._roots:
            parent = os.path.dirname(above)  # noqa: PTH120
            if parent == above:
                return None
            above = parent
        return above

    def _new(self, root: Path) -> str:
        name = os.path.normpath(root)
        self._roots[name] = Path(os.path.relpath(name, self._gallery)).as_posix()
        return name
