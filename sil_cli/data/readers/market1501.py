"""Market-1501 (Zheng et al., ICCV 2015) as it was released: three folders, and all facts in the names."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from sil_cli.data.manifest import ImageRecord, Skipped, Split
from sil_cli.data.readers.common import left_out, named_files
from sil_cli.data.readers.layout import Layout, Sign, check_layout, has, image_named
from sil_cli.data.reading import Reading

if TYPE_CHECKING:
    from pathlib import Path

VERSION = 1

FOLDERS: dict[str, Split] = {
    "bounding_box_train": "train",
    "query": "query",
    "bounding_box_test": "gallery",
}
"""The three folders that Market-1501 introduced and that others took over."""

ENTRIES = tuple(f"{folder}/" for folder in FOLDERS)

_NAME = re.compile(r"(?P<identity>-1|\d+)_c(?P<camera>\d+)s\d+_(?P<frame>\d+)_\d+\..+")
_JUNK, _DISTRACTOR = -1, 0


def _signs(folder: Path) -> Sign | None:
    name = image_named(folder / "bounding_box_train", _NAME) if has(folder, *ENTRIES) else None
    return Sign(f"bounding_box_train, query and bounding_box_test, with names such as {name}") if name else None


LAYOUT = Layout("Market-1501", "bounding_box_train, query and bounding_box_test", _signs, ENTRIES)


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
    check_layout(root, LAYOUT)
    domain = name or "market1501"
    files, skipped = named_files(root, FOLDERS, _NAME, "0002_c1s1_000451_03.jpg")
    records: list[ImageRecord] = []
    junk: Counter[str] = Counter()
    for file in files:
        identity, split = int(file.match["identity"]), FOLDERS[file.folder]
        if identity == _JUNK:
            junk[file.folder] += 1
        elif identity == _DISTRACTOR and split != "gallery":
            skipped.append(Skipped(path=file.path, reason="identity 0 (a distractor) outside the gallery"))
        else:
            records.append(
                ImageRecord(
                    path=file.path,
                    identity=file.match["identity"],
                    camera=file.match["camera"],
                    split=split,
                    domain=domain,
                    frame=int(file.match["frame"]),
                    distractor=identity == _DISTRACTOR,
                )
            )
    for folder, count in junk.items():
        skipped += left_out(f"{folder}/-1_*", count, "junk by its name")
    return Reading(domain, "market1501", VERSION, root, records, skipped)
