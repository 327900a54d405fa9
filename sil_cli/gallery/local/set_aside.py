"""What of a gallery may be deleted, and what is set aside instead, for it may be all that is left of one.

A database may be another gallery's, or an older copy of its own. Then files of vectors that it doesn't know are no
leftovers.
"""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING, NamedTuple

from sil_cli.errors import GalleryError
from sil_cli.files import is_half_made, sha256_of_file, sync_folder
from sil_cli.gallery.accountability.log import OF_A_LOG
from sil_cli.gallery.interface import MODEL_FOLDER, PEOPLE_FILE, POLICY_FILE
from sil_cli.gallery.local.schema import DATABASE_FILE, FILE_NAME, SET_ASIDE_FOLDER, VECTOR_FOLDER
from sil_cli.gallery.local.segments import count_of_whole, map_file
from sil_cli.locks import LOCK_FILE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sil_cli.gallery.local.schema import SegmentRecord


_DATABASES = (DATABASE_FILE, PEOPLE_FILE)
_LOGS = tuple(f"{database}-{kind}" for database in _DATABASES for kind in ("wal", "shm", "journal"))
MADE_AGAIN = (*_DATABASES, *_LOGS, VECTOR_FOLDER, LOCK_FILE)
"""What a gallery has of its own, and another for whatever takes its place."""

_OWN = (*MADE_AGAIN, MODEL_FOLDER, SET_ASIDE_FOLDER, *OF_A_LOG, POLICY_FILE)


class NumberedFile(NamedTuple):
    """A file named like those of a gallery; its `kind` is `segment` or `index`."""

    path: Path
    kind: str
    number: int


def numbered_files(vectors: Path) -> list[NumberedFile]:
    """All files in a folder that are named like segments or indexes, by name."""
    names = {path: FILE_NAME.fullmatch(path.name) for path in sorted(vectors.iterdir())} if vectors.is_dir() else {}
    return [NumberedFile(path, match[1], int(match[2])) for path, match in names.items() if match]


def knows_none(folder: Path, segments: Sequence[SegmentRecord], last: int) -> bool:
    """Whether there are whole files of vectors that a database doesn't know, and none that it knows.

    A damaged file of its own doesn't count: a file that is another gallery's is whole, but not as it is recorded.

    Args:
        folder: The gallery.
        segments: What the database names.
        last: The highest number that it ever gave to a segment. Where it names none, files up to this one are
            leftovers of its first batches.
    """
    vectors = folder / VECTOR_FOLDER
    names = {each.name for each in segments}
    found = [one for one in numbered_files(vectors) if one.kind == "segment" and one.path.name not in names]
    others = [one for one in found if segments or one.number > last]
    if not others and not any(_is_another(vectors / one.name, one) for one in segments):
        return False
    return not any(_is_right(vectors / one.name, one) for one in segments)


def require_own(folder: Path, segments: Sequence[SegmentRecord], last: int) -> None:
    """Refuse a database that most likely is another gallery's, before anything is changed; see `knows_none`.

    Raises:
        GalleryError: It knows none of the files of vectors.
    """
    if knows_none(folder, segments, last):
        vectors = folder / VECTOR_FOLDER
        raise GalleryError(
            f"{folder / DATABASE_FILE} most likely belongs to another gallery: it knows no files in {vectors}. "
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
        to, copies = aside / path.name, 1
        while to.exists():
            copies += 1
            to = aside / f"{path.stem}-{copies}{path.suffix}"
        path.rename(to)
        moved.append(to)
    for changed in (aside, paths[0].parent, folder):
        sync_folder(changed)
    return moved


def files_aside(folder: Path) -> list[Path]:
    """What is set aside in a gallery."""
    return sorted(path for path in (folder / SET_ASIDE_FOLDER).rglob("*") if path.is_file())


def delete_aside(folder: Path) -> None:
    """Delete what is set aside.

    Raises:
        GalleryError: Some can't be deleted.
    """
    aside = folder / SET_ASIDE_FOLDER
    shutil.rmtree(aside, ignore_errors=True)
    if aside.exists():
        raise GalleryError(f"{aside} can't be deleted.", "It holds vectors: check its permissions, and delete it.")


def delete_gallery(folder: Path) -> None:
    """Delete a gallery's own files, as far as that can be done, and its folder where nothing else lies in it.

    The database goes last: by it what a kill leaves is known for a gallery.
    """
    paths = list(folder.iterdir()) if folder.is_dir() else []
    for path in sorted(paths, key=lambda path: path.name == DATABASE_FILE):
        if path.name not in _OWN and not is_half_made(path.name):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()


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
