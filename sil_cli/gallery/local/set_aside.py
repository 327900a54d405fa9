"""Files of vectors that nothing explains: they are set aside, for they may be all that is left of a gallery.

A database may be another gallery's, or an older copy of its own. Then files that it doesn't know are no leftovers.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from sil_cli.errors import GalleryError
from sil_cli.files import TEMPORARY_MARK, sha256_of_file, sync_folder
from sil_cli.gallery.local.segments import count_of_whole, map_file
from sil_cli.gallery.local.tables import DATABASE_FILE
from sil_cli.gallery.paths import SET_ASIDE_FOLDER, VECTOR_FOLDER

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from sil_cli.gallery.local.records import SegmentRecord

_SUFFIX = ".faiss"


def mark_of(path: Path) -> Path:
    """The empty file that says of another that it is being written or given up; older versions delete it, too."""
    return path.with_name(f"{TEMPORARY_MARK}{path.name}")


def unexplained(vectors: Path, named: Collection[str]) -> list[Path]:
    """Files of vectors and indexes that are neither named by the database nor marked as a leftover."""
    if not vectors.is_dir():
        return []
    ours = [path for path in sorted(vectors.glob(f"*{_SUFFIX}")) if path.name.startswith(("segment-", "index-"))]
    return [path for path in ours if path.name not in named and not mark_of(path).exists()]


def knows_none(folder: Path, segments: Sequence[SegmentRecord]) -> bool:
    """Whether there are whole files of vectors that a database doesn't know, and none that it knows.

    A damaged file of its own doesn't count: a file that is another gallery's is whole, but not as it is recorded.
    """
    vectors = folder / VECTOR_FOLDER
    others = [one for one in unexplained(vectors, {each.name for each in segments}) if one.name.startswith("segment-")]
    if not others and not any(_is_another(vectors / one.name, one) for one in segments):
        return False
    return not any(_is_right(vectors / one.name, one) for one in segments)


def require_own(folder: Path, segments: Sequence[SegmentRecord]) -> None:
    """Refuse a database that most likely is another gallery's, before anything is changed.

    Raises:
        GalleryError: It knows none of the files of vectors.
    """
    if knows_none(folder, segments):
        vectors = folder / VECTOR_FOLDER
        raise GalleryError(
            f"{folder / DATABASE_FILE} most likely belongs to another gallery: it knows no file in {vectors}. "
            "Nothing was changed.",
            f"Put the right {DATABASE_FILE} back; or, to go on without these vectors, move {vectors} elsewhere first.",
        )


def put_aside(folder: Path, paths: Sequence[Path]) -> list[Path]:
    """Move files into the gallery's `set-aside`, where nothing is overwritten; returns where they are now."""
    if not paths:
        return []
    aside = folder / SET_ASIDE_FOLDER
    aside.mkdir(exist_ok=True)
    moved = []
    for path in paths:
        to, again = aside / path.name, 1
        while to.exists():
            again += 1
            to = aside / f"{path.stem}-{again}{path.suffix}"
        path.rename(to)
        moved.append(to)
    for changed in (aside, paths[0].parent, folder):
        sync_folder(changed)
    return moved


def files_aside(folder: Path) -> list[Path]:
    """What is set aside in a gallery."""
    return sorted(path for path in (folder / SET_ASIDE_FOLDER).rglob("*") if path.is_file())


def delete_aside(folder: Path) -> int:
    """Delete what is set aside; returns how many files that were.

    Raises:
        GalleryError: Some can't be deleted.
    """
    count = len(files_aside(folder))
    aside = folder / SET_ASIDE_FOLDER
    shutil.rmtree(aside, ignore_errors=True)
    if aside.exists():
        raise GalleryError(f"{aside} can't be deleted.", "It holds vectors: see who may write there, and delete it.")
    return count


def _is_right(path: Path, record: SegmentRecord) -> bool:
    try:
        return sha256_of_file(path) == record.sha256
    except OSError:
        return False


def _is_another(path: Path, record: SegmentRecord) -> bool:
    """Whether a file is a whole segment of another length than the recorded one."""
    try:
        content = map_file(path)
    except (OSError, GalleryError):
        return False
    return count_of_whole(path, content) not in (None, record.count)
