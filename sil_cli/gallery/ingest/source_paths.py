"""Where an image stands in a gallery, so that it stands there once, however it was named.

Entries are named by a source, which is a folder, and a path below it. The same file may come by its folder today, by
a folder above it tomorrow, and by a stream of paths in between. So a file that lies below a source that the gallery
knows is always named by that source, by the innermost where they are nested.
"""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sil_cli.gallery.entry import GalleryEntry


class SourcePaths:
    """Finds the names of images in one gallery.

    Args:
        gallery: The gallery's folder; sources are named relative to it.
        sources: Those that it knows.

    Attributes:
        gallery: The folder, with links followed.
        linked: By folder of which images were placed, the folders elsewhere that links in it lead to.
    """

    def __init__(self, gallery: Path, sources: Iterable[str]) -> None:
        self.gallery = gallery.resolve()
        self.linked: defaultdict[Path, set[Path]] = defaultdict(set)
        self._roots = {os.path.realpath(self.gallery / source): source for source in sources}

    def place(self, images: Sequence[GalleryEntry]) -> list[GalleryEntry]:
        """Images by their sources and paths in the gallery.

        They go by the real folders in which they lie; their files, which may be links, keep their own names. A folder
        becomes a source where no known one holds it. What a link shows that leads out of an image's folder is below a
        source of its own: the folder that the link leads to.

        Args:
            images: Their sources are resolved folders.
        """
        real = cache(os.path.realpath)  # for these images alone: a link may lead elsewhere while a stream goes on
        placed: dict[tuple[str, str], tuple[str, str]] = {}
        found: list[GalleryEntry] = []
        for image in images:
            folder, name = os.path.split(os.path.join(image.source, image.path))  # noqa: PTH118 -- text: several times faster
            if (image.source, folder) not in placed:
                placed[image.source, folder] = self._place_folder(image.source, folder, real)
            source, prefix = placed[image.source, folder]
            found.append(replace(image, source=source, path=prefix + name))
        return found

    def root_of(self, source: str) -> Path:
        """The folder that a source's paths are relative to, with links followed."""
        return Path(os.path.realpath(self.gallery / source))

    def missing_sources(self) -> list[str]:
        """The sources whose folder is not there."""
        return [source for root, source in self._roots.items() if is_missing(Path(root), stat.S_ISDIR)]

    def sources_around(self, folder: Path) -> list[str]:
        """The sources that may name images in `folder`: those above it and those below."""
        return [
            source
            for root, source in self._roots.items()
            if Path(root).is_relative_to(folder) or folder.is_relative_to(root)
        ]

    def _place_folder(self, root: str, folder: str, real: Callable[[str], str]) -> tuple[str, str]:
        """The source of the images in a folder, and what their paths begin with."""
        there = real(folder)
        if there != folder and not Path(there).is_relative_to(root):
            named, root = Path(root), there
            while real(os.path.dirname(folder)) == os.path.dirname(root):  # noqa: PTH120
                folder, root = os.path.dirname(folder), os.path.dirname(root)  # noqa: PTH120
            self.linked[named].add(Path(root))
        known = next((str(above) for above in (Path(there), *Path(there).parents) if str(above) in self._roots), None)
        if known is None:
            known = os.path.normpath(root)
            self._roots[known] = Path(os.path.relpath(known, self.gallery)).as_posix()
        below = Path(there).relative_to(known).as_posix()
        return self._roots[known], "" if below == "." else f"{below}/"


def is_missing(path: Path, is_kind: Callable[[int], bool] = stat.S_ISREG) -> bool:
    """Whether no file, or nothing of another kind, lies at a path.

    What can't be looked at, for want of permission or because a share doesn't answer, may well be there.
    """
    try:
        return not is_kind(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
