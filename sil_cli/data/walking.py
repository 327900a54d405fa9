"""Finding the image files below a folder."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from sil_cli.data.image_formats import IMAGE_SUFFIXES, why_no_image
from sil_cli.data.manifest import INFO_FILE, MANIFEST_FILE, Skipped
from sil_cli.errors import DataError, one_line

CACHE_TAG = "CACHEDIR.TAG"
"""A folder that holds this file is a cache and not data (https://bford.info/cachedir)."""
UNSTORABLE = "a name that can't be stored: rename it in UTF-8 without backslashes"

_OWN = frozenset({MANIFEST_FILE, INFO_FILE})
_OWN_FOLDERS = (_OWN, frozenset({"gallery.sqlite"}), frozenset({"run.json", "settings.toml"}))
"""What only folders of this program hold: prepared data sets, galleries, runs."""
_LEFTOVERS = re.compile(
    r"""\..*  # hidden: .git, .Trash-1000, .AppleDouble, ._name, .thumbnails, .snapshots, .zfs, .stfolder, .@__thumb
    |@(eadir|tmp|recycle|recently-snapshot|__thumb|transcode|sharebin|sharesnap|synoresource|qsync)  # Synology, QNAP
    |\#(recycle|snapshot)|.*@syno(eastream|resource)
    |\$(recycle\.bin|extend)|recycle[dr]|system\ volume\ information|found\.\d{3}|~\$.*  # Windows and its Office
    |(eh)?thumbs(_vista)?\.db(:.*)?|desktop\.ini|.*:zone\.identifier
    |__macosx|icon\r|network\ trash\ folder|temporary\ items|thevolumesettingsfolder|desktop\ d[bf]  # macOS
    |lost\+found|~snapshot  # Linux; NetApp
    |((network|samba)\ )?recycle\ bin(\ \d+)?|trashbox  # QNAP, ReadyNAS, Buffalo
    |appdata_[0-9a-z]+|files_(trashbin|versions)  # Nextcloud, ownCloud
    |.*\.lrdata|picasa\.ini|pwg_representative  # Lightroom, Picasa, Piwigo
    |__pycache__""",
    re.IGNORECASE | re.VERBOSE,
)
_PREVIEWS = frozenset({"thumbs", "_thumbs", "thumbnails", "_thumbnails", "encoded-video"})
_PREVIEW_MARKS = {".immich": frozenset({"upload", "library"}), ".ppstorage": frozenset[str]()}
"""Files by which a photo server marks folders of its own, each with the names of those that hold originals."""


def is_leftover(name: str) -> bool:
    """Whether a file or folder of this name is what file systems, file servers, photo programs, synchronisers and
    recycle bins leave: thumbnails, deleted files, earlier states and notes of their own, but no data.

    Every walk of the program passes over these in silence, and so does the unpacking of archives. A folder that the
    user names is taken, whatever it is called.
    """
    return _LEFTOVERS.fullmatch(name) is not None


@dataclass
class FoundFiles:
    """What lies below a folder.

    Attributes:
        paths: The image files, relative to the folder, with forward slashes, sorted.
        skipped: What was passed over, and why, sorted by path.
        unlisted: The folders below that can't be listed, whatever they hold; they are among `skipped`.
    """

    paths: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    unlisted: list[str] = field(default_factory=list)


def find_image_files(folder: Path) -> FoundFiles:
    """List the image files below `folder`, recognised by their suffix; one without a suffix, by how it begins.

    What programs leave (`is_leftover`), caches and this program's own manifests, galleries and runs are passed over in
    silence.
    Everything else that isn't used is reported, folders of thumbnails among it. A link to a folder elsewhere is
    followed once; one that leads back into `folder`, or to a folder around it, is not, so that loops end and no image
    comes twice.

    Raises:
        DataError: `folder` itself can't be listed.
    """
    found = FoundFiles()
    start = Path(os.path.realpath(folder))
    seen = {start}
    pending = [(start, "")]
    while pending:
        real, prefix = pending.pop()
        try:
            with os.scandir(real) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            if not prefix:
                raise DataError(
                    f"{folder} can't be listed: {one_line(error)}.", "Check the path and its permissions."
                ) from error
            found.skipped.append(Skipped(path=_printable(prefix), reason=f"folder: {one_line(error)}"))
            found.unlisted.append(prefix)
            continue
        names = {entry.name for entry in entries}
        if CACHE_TAG in names:
            continue
        if prefix and any(own <= names for own in _OWN_FOLDERS):
            if names >= _OWN:
                found.skipped.append(Skipped(path=_printable(prefix), reason="a prepared data set: name it by itself"))
            continue
        if prefix and _holds_previews(prefix.rpartition("/")[2], names):
            found.skipped.append(Skipped(path=_printable(prefix), reason="a photo program's folder of smaller copies"))
            continue
        for entry in entries:
            path = f"{prefix}/{entry.name}" if prefix else entry.name
            below = _take(entry, path, start, seen, found)
            if below is not None:
                pending.append((below, path))
    found.paths.sort()
    found.skipped.sort(key=lambda skipped: skipped.path)
    return found


def _take(entry: os.DirEntry[str], path: str, start: Path, seen: set[Path], found: FoundFiles) -> Path | None:
    """Note one entry of a folder; the real folder to go on with where it is one."""
    if is_leftover(entry.name) or entry.name.lower() in _OWN:
        return None
    problem = None
    try:
        if entry.is_dir():
            real = Path(os.path.realpath(entry.path))
            if entry.is_symlink() and (real.is_relative_to(start) or start.is_relative_to(real)):
                problem = "a link back into the same folders"
            elif real in seen:
                problem = "a link to a folder that is read already"
            else:
                seen.add(real)
                return real
        elif _printable(path) != path or "\\" in path:
            problem = UNSTORABLE
        elif not entry.is_file():
            problem = "a broken link" if entry.is_symlink() else "not a file"
        else:
            named = os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES  # noqa: PTH122 -- there may be 100,000
            problem = None if named else why_no_image(entry.path)
            if problem is None:
                found.paths.append(path)
    except OSError as error:  # a link that leads to itself, or into a folder without permission
        problem = one_line(error)
    if problem:
        found.skipped.append(Skipped(path=_printable(path), reason=problem))
    return None


def _holds_previews(name: str, entries: set[str]) -> bool:
    if name.lower() in _PREVIEWS:
        return True
    return any(mark in entries and name.lower() not in originals for mark, originals in _PREVIEW_MARKS.items())


def _printable(path: str) -> str:
    """`path` with bytes that are no UTF-8 shown as escapes (Linux allows any bytes in a name)."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
