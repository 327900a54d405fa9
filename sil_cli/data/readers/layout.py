"""How a data set is recognised by what lies in its folder, and what to say when it lies elsewhere or in part."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sil_cli.data.image_formats import why_no_image
from sil_cli.data.walking import is_leftover
from sil_cli.errors import DataError
from sil_cli.files import require_reachable

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterator, Mapping

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")

SAMPLE = 64
"""So many images of a folder are looked at to learn how its images are named."""

NEARBY = 2
"""So many levels above and below ROOT are searched for what was meant."""

_MOST_FOLDERS = 5000


@dataclass(frozen=True)
class Sign:
    """Why a folder is taken for a data set.

    Attributes:
        why: What lies there, for people.
        options: The reader's options that follow from it.
    """

    why: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FolderLayout:
    """What the folder of a data set looks like.

    Attributes:
        title: The data set, as its authors write it.
        needs: What its folder holds, for people.
        entries: What must lie in its folder, folders with a slash at their end; empty where several layouts are in
            circulation.
        names: How the images in the first of the entries are named.
        look: Tells a folder of this data set where entries and names don't suffice; None for any other folder.
    """

    title: str
    needs: str
    entries: tuple[str, ...] = ()
    names: re.Pattern[str] | None = None
    look: Callable[[Path], Sign | None] | None = None

    def signs(self, folder: Path) -> Sign | None:
        """Why `folder` is this data set's; None when it isn't."""
        if self.look is not None:
            return self.look(folder)
        if self.names is None or not has(folder, *self.entries):
            return None
        name = image_named(folder / self.entries[0], self.names)
        return Sign(f"{self.needs}, with names such as {name}") if name else None

    def fits(self, folder: Path) -> bool:
        """Whether `folder` can be read by this layout: all entries are there, whatever the images are called."""
        return bool(self.entries and has(folder, *self.entries)) or self.signs(folder) is not None


def has(folder: Path, *entries: str) -> bool:
    """Whether all of `entries` lie in `folder`; folders are written with a slash at their end."""
    return not missing(folder, *entries)


def missing(folder: Path, *entries: str) -> list[str]:
    """Those of `entries` that don't lie in `folder`."""
    return [entry for entry in entries if not _is_there(folder / entry, folder_wanted=entry.endswith("/"))]


def _is_there(path: Path, *, folder_wanted: bool) -> bool:
    try:
        return path.is_dir() if folder_wanted else path.is_file()
    except OSError:
        return False


def image_named(folder: Path, pattern: re.Pattern[str]) -> str | None:
    """An image of `folder` whose name fits `pattern`, when at least half of a sample of its images do."""
    names = sample_names(folder)
    fitting = [name for name in names if pattern.match(name)]
    return fitting[0] if fitting and 2 * len(fitting) >= len(names) else None


def sample_names(folder: Path) -> list[str]:
    """The names of up to `SAMPLE` images that lie directly in `folder`, sorted; none when it can't be read."""
    names: list[str] = []
    try:
        with os.scandir(folder) as listing:
            for entry in listing:
                if not is_leftover(entry.name) and why_no_image(entry.path) is None:
                    names.append(entry.name)
                if len(names) == SAMPLE:
                    break
    except OSError:
        return []
    return sorted(names)


def folders_below(root: Path, *, depth: int, enter: Callable[[Path], bool] = lambda _: True) -> Iterator[Path]:
    """Yield `root` and the folders up to `depth` levels below it, nearest first, each level sorted by name.

    What programs leave and folders that can't be read are passed over, a folder that links reach twice comes once, and
    the walk ends after some thousands: where folders are that many, they are people.

    Args:
        root: Where to start.
        depth: How many levels to go down.
        enter: Asked for each folder after it was yielded: whether to go on below it.
    """
    pending = deque([(root, 0)])
    seen: set[str] = set()
    while pending and len(seen) < _MOST_FOLDERS:
        folder, level = pending.popleft()
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        yield folder
        if level < depth and enter(folder):
            pending.extend((child, level + 1) for child in child_folders(folder))


def child_folders(folder: Path) -> list[Path]:
    """The folders in `folder`, sorted, without what programs leave; none when it can't be read."""
    return [child for child in children_of(folder) if _is_there(child, folder_wanted=True)]


def children_of(folder: Path) -> list[Path]:
    """What lies directly in `folder`, sorted, without what programs leave; nothing when it can't be read."""
    try:
        return sorted(child for child in folder.iterdir() if not is_leftover(child.name))
    except OSError:
        return []


def locked_folder(root: Path, *, depth: int) -> Path | None:
    """The first folder, up to `depth` levels below `root`, that there is no permission to list."""
    for folder in folders_below(root, depth=depth):
        try:
            os.scandir(folder).close()
        except PermissionError:
            return folder
        except OSError:
            continue
    return None


def archives_in(folder: Path) -> list[Path]:
    """The archives that lie directly in `folder`, sorted."""
    return [child for child in children_of(folder) if child.name.lower().endswith(ARCHIVE_SUFFIXES) and child.is_file()]


def check_root(root: Path) -> None:
    """Check that ROOT is a folder.

    Raises:
        SilError: It is missing, locked, a file, or an archive that was not unpacked.
    """
    require_reachable(root)
    if root.is_dir():
        return
    if not root.exists():
        raise DataError(f"There is no {root}.", "Check the path.")
    if root.name.lower().endswith(ARCHIVE_SUFFIXES):
        raise DataError(f"{root} is an archive.", "Unpack it and give the folder that comes out of it.")
    raise DataError(f"{root} is a file, not a folder.", "Give the folder that holds the images.")


def check_layout(root: Path, layout: FolderLayout) -> None:
    """Check that `root` is the folder of this data set.

    Raises:
        DataError: It is not; the error guesses what happened when it was unpacked, and names the fix.
    """
    check_root(root)
    if layout.fits(root):
        return
    absent = [entry.rstrip("/") for entry in missing(root, *layout.entries)]
    lacks = f"it has no {', no '.join(absent)}" if absent else f"it holds no {layout.needs}"
    what = f"{root} is not {layout.title}: {lacks}."
    locked = locked_folder(root, depth=NEARBY)
    if locked:
        raise DataError(what, f"{locked} can't be listed: change its permissions.")
    inside = next((folder for folder in folders_below(root, depth=NEARBY) if layout.fits(folder)), None)
    around = next((parent for parent in root.resolve().parents[:NEARBY] if layout.fits(parent)), None)
    if inside or around:
        raise DataError(what, f"It is further {'down' if inside else 'up'}: give {inside or around}.")
    if 0 < len(absent) < len(layout.entries):
        raise DataError(what, "It was unpacked in part: unpack the whole archive again.")
    archives = archives_in(root)
    if archives:
        raise DataError(what, f"Unpack {archives[0].name} first.")
    raise DataError(what, f"Give the folder that holds {layout.needs}.")
