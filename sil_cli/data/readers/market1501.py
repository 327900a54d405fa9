"""Market-1501 (Zheng et al., ICCV 2015) as it was released: three folders, and all facts in the names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from sil_cli.data.manifest import ImageRecord, Skipped, Split
from sil_cli.data.readers.common import ARCHIVE_SUFFIXES, check_root
from sil_cli.data.reading import Reading
from sil_cli.data.walking import find_image_files
from sil_cli.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION = 1

_FOLDERS: dict[str, Split] = {
    "bounding_box_train": "train",
    "query": "query",
    "bounding_box_test": "gallery",
}
_NAME = re.compile(r"(?P<identity>-1|\d+)_c(?P<camera>\d+)s\d+_(?P<frame>\d+)_\d+\.")
_JUNK, _DISTRACTOR = -1, 0


def read_market1501(root: Path, *, name: str | None = None) -> Reading:
    """Read Market-1501.

    A name such as `0002_c1s1_000451_03.jpg` says: identity 2, camera 1, sequence 1, frame 451 of that sequence,
    third detection. Identity 0 is a distractor and stays in the gallery. Identity -1 is junk, which evaluation
    would ignore: it is left out, as one line that counts it.

    Args:
        root: The folder that holds bounding_box_train, query and bounding_box_test.
        name: The domain's name; `market1501` when None.

    Raises:
        DataError: A folder is missing, with a guess at what happened when it was unpacked.
    """
    check_root(root)
    _check_layout(root)
    domain = name or "market1501"
    records: list[ImageRecord] = []
    skipped: list[Skipped] = []
    for folder, split in _FOLDERS.items():
        found = find_image_files(root / folder)
        junk = 0
        skipped += [Skipped(path=f"{folder}/{skip.path}", reason=skip.reason) for skip in found.skipped]
        for inner in found.paths:
            path = f"{folder}/{inner}"
            match = _NAME.match(Path(inner).name)
            if match is None:
                skipped.append(Skipped(path=path, reason="not named like 0002_c1s1_000451_03.jpg"))
            elif int(match["identity"]) == _JUNK:
                junk += 1
            elif int(match["identity"]) == _DISTRACTOR and split != "gallery":
                skipped.append(Skipped(path=path, reason="identity 0 (a distractor) outside the gallery"))
            else:
                records.append(_record(path, match, split, domain))
        if junk:
            skipped.append(Skipped(path=f"{folder}/-1_*", reason=f"junk by its name ({junk:,} images)"))
    return Reading(domain, "market1501", VERSION, root, records, skipped)


def _record(path: str, match: re.Match[str], split: Split, domain: str) -> ImageRecord:
    return ImageRecord(
        path=path,
        identity=match["identity"],
        camera=match["camera"],
        split=split,
        domain=domain,
        frame=int(match["frame"]),
        distractor=int(match["identity"]) == _DISTRACTOR,
    )


def _check_layout(root: Path) -> None:
    missing = [folder for folder in _FOLDERS if not (root / folder).is_dir()]
    if not missing:
        return
    what = f"{root} is not Market-1501: it has no {', no '.join(missing)}."
    inside = next((child for child in sorted(root.iterdir()) if _is_layout(child)), None)
    around = next((parent for parent in root.resolve().parents[:2] if _is_layout(parent)), None)
    right = inside or around
    if right is not None:
        raise DataError(what, f"It lies one level {'deeper' if inside else 'higher'}: give {right}.")
    if len(missing) < len(_FOLDERS):
        raise DataError(what, "It was unpacked in part: unpack the whole archive again.")
    archives = _archives(root)
    if archives:
        raise DataError(what, f"Unpack {archives[0].name} first.")
    raise DataError(what, "Give the folder that holds bounding_box_train, query and bounding_box_test.")


def _is_layout(folder: Path) -> bool:
    return all((folder / inner).is_dir() for inner in _FOLDERS)


def _archives(folder: Path) -> Sequence[Path]:
    return sorted(child for child in folder.iterdir() if child.name.lower().endswith(ARCHIVE_SUFFIXES))
