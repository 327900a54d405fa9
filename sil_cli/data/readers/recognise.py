"""`auto`: which data set a folder is, recognised by what lies there, whatever the folder is called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sil_cli.data.readers import READERS
from sil_cli.data.readers.folder_tree import split_of
from sil_cli.data.readers.layout import (
    NEARBY,
    archives_in,
    check_root,
    child_folders,
    children_of,
    folders_below,
    missing,
    sample_names,
)
from sil_cli.data.readers.own_images import NEEDED, tables_in
from sil_cli.data.tables import TABLE_SUFFIXES, read_rows
from sil_cli.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sil_cli.data.readers.layout import FolderLayout

DEPTH = 4
"""So many levels below ROOT are walked."""

_LAYOUTS: dict[str, FolderLayout] = {name: reader.layout for name, reader in READERS.items() if reader.layout}
_MOST_CHILDREN = 500
_OWN = (
    "If they are images of your own: `folders` reads a folder per identity, `regex` any names, `csv` a table "
    "(`sil prepare-data folders ROOT`)."
)


@dataclass(frozen=True)
class Recognised:
    """A data set that was recognised.

    Attributes:
        reader: The reader's name, a key of `READERS`.
        root: The folder to give it.
        options: Its options that follow from what lies there.
        why: What that was, for people.
    """

    reader: str
    root: Path
    options: Mapping[str, Any]
    why: str


def recognise(root: Path) -> Recognised:
    """The one data set that lies in or below a folder.

    Raises:
        DataError: There is none, or there are several; the error says what was found and what to do.
    """
    found = recognise_here(root)
    if len(found) > 1:
        listed = "; ".join(f"{each.reader} in {each.root}" for each in found)
        first = found[0]
        raise DataError(
            f"{root} holds {len(found)} data sets: {listed}.",
            f"Prepare them one by one, for example: sil prepare-data {first.reader} {first.root}",
        )
    return found[0]


def recognise_here(root: Path) -> list[Recognised]:
    """The data sets that lie in or below a folder, published ones or images of one's own; or the table that it is.

    Raises:
        DataError: There is none; the error says what was found and what to do.
    """
    if root.suffix.lower() in TABLE_SUFFIXES and root.is_file():
        return [Recognised("csv", root, {}, "a table by its name")]
    check_root(root)
    found = recognise_all(root) or _own_images(root)
    if not found and not (_part_of(root) or _in_part(root)):
        inner = (child for child in child_folders(root) if split_of(child.name) is None)
        found = [each for child in inner for each in _own_images(child)]
    if not found:
        raise _unknown(root)
    return found


def recognise_all(root: Path) -> list[Recognised]:
    """All published data sets in and below a folder, nearest first.

    A set that lies within the folder of the same set (extracted images beside the original file) comes once.
    """
    found: list[Recognised] = []
    for folder in folders_below(root, depth=DEPTH, enter=lambda folder: len(child_folders(folder)) <= _MOST_CHILDREN):
        for name, layout in _LAYOUTS.items():
            sign = layout.signs(folder)
            known = any(each.reader == name and folder.is_relative_to(each.root) for each in found)
            if sign is not None and not known:
                found.append(Recognised(name, folder, sign.options, sign.why))
    return found


def locate(reader: str, root: Path) -> Path:
    """The folder to give a reader when an archive was unpacked into `root`, since archives often hold one folder.

    Returns:
        The nearest folder that looks like the reader's data set; for a generic reader, or when there is none, the
        folder below which everything lies.
    """
    layout = READERS[reader].layout
    if layout is not None:
        folders = list(folders_below(root, depth=DEPTH))
        certain = (folder for folder in folders if layout.signs(folder) is not None)
        likely = (folder for folder in folders if layout.fits(folder))
        found = next(certain, None) or next(likely, None)
        if found is not None:
            return found
    return _lone_folder(root)


def _lone_folder(folder: Path) -> Path:
    """Go down while a folder holds one folder and nothing else, but not into a split or an identity."""
    children = child_folders(folder)
    if len(children) == len(children_of(folder)) == 1 and split_of(children[0].name) is None:
        inner = children[0]
        if child_folders(inner) or tables_in(inner):
            return _lone_folder(inner)
    return folder


def _own_images(root: Path) -> list[Recognised]:
    """A table, or a folder per identity: what the generic readers take without further options."""
    root = _lone_folder(root)
    if _part_of(root) or _in_part(root):
        return []
    tables = tables_in(root)
    if len(tables) == 1 and _has_columns(tables[0]):
        return [Recognised("csv", root, {}, f"{tables[0].name}, a table with the columns {' and '.join(NEEDED)}")]
    splits = [child for child in child_folders(root) if split_of(child.name)]
    below = f" below {', '.join(split.name for split in splits)}" if splits else ""
    people = [
        person
        for folder in splits or [root]
        for person in child_folders(folder)
        if sample_names(person) or any(map(sample_names, child_folders(person)))
    ]
    divided = not splits and any(split_of(inner.name) for person in people for inner in child_folders(person))
    if len(people) > 1 and not divided:
        return [Recognised("folders", root, {}, f"a folder per identity{below}, such as {people[0].name}")]
    if any(map(sample_names, splits)):
        return [Recognised("folders", root, {}, f"images in {', '.join(split.name for split in splits)}")]
    return []


def _has_columns(table: Path) -> bool:
    columns: list[str] = []
    try:
        next(read_rows(table, columns.extend), None)
    except DataError:
        return False
    return set(NEEDED) <= set(columns)


def _unknown(root: Path) -> DataError:
    """Why nothing was recognised: the best guess."""
    guess = _part_of(root) or _in_part(root)
    if guess is not None:
        return guess
    archives = [archive for folder in folders_below(root, depth=1) for archive in archives_in(folder)]
    what = f"{root} looks like no data set that is known here."
    if archives:
        return DataError(what, f"Unpack {archives[0]}, or give it in place of the folder.")
    if not any(sample_names(folder) for folder in folders_below(root, depth=DEPTH)):
        return DataError(f"{root} holds no images.", "Check the path, and that the archive was unpacked.")
    known = ", ".join(layout.title for layout in _LAYOUTS.values())
    return DataError(f"{what} Known: {known}.", _OWN)


def _part_of(root: Path) -> DataError | None:
    """The error for a folder that lies within a data set."""
    for parent in root.resolve().parents[:NEARBY]:
        for layout in _LAYOUTS.values():
            if layout.signs(parent) is not None:
                return DataError(f"{root} is only a part of {layout.title}.", f"It is further up: give {parent}.")
    return None


def _in_part(root: Path) -> DataError | None:
    """The error for a data set of which something is missing, or whose images are named otherwise."""
    best: tuple[float, Path, list[str], list[str]] | None = None
    for folder in folders_below(root, depth=NEARBY):
        for layout in _LAYOUTS.values():
            absent = missing(folder, *layout.entries)
            share = 1 - len(absent) / len(layout.entries) if layout.entries else 0.0
            if share < 0.5 or (best is not None and share < best[0]):
                continue
            if best is not None and best[:2] == (share, folder):
                best[3].append(layout.title)
            elif best is None or share > best[0]:
                best = (share, folder, absent, [layout.title])
    if best is None:
        return None
    _, folder, absent, titles = best
    if absent:
        lacks = ", no ".join(entry.rstrip("/") for entry in absent)
        return DataError(
            f"{folder} looks like {' or '.join(titles)}, but has no {lacks}.",
            "It was unpacked in part: unpack the whole archive again.",
        )
    return DataError(
        f"{folder} has the folders of {' or '.join(titles)}, but its files are not named or placed like theirs.",
        f"If it is one of these, name its reader instead of auto. {_OWN}",
    )
