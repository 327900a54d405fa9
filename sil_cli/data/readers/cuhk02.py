"""CUHK02 (Li and Wang, CVPR 2013): five pairs of cameras."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sil_cli.data.manifest import ImageRecord, Split
from sil_cli.data.readers.common import named_files
from sil_cli.data.readers.layout import Layout, Sign, check_layout, has
from sil_cli.data.reading import Reading

if TYPE_CHECKING:
    from pathlib import Path

VERSION = 1

_PAIRS = ("P1", "P2", "P3", "P4", "P5")
_TEST_PAIR = "P5"
_VIEWS = ("cam1", "cam2")
_FOLDERS = tuple(f"{pair}/{view}/" for pair in _PAIRS for view in _VIEWS)
_NAME = re.compile(r"(?P<identity>\d+)_.+")


def _base(folder: Path) -> str | None:
    """Where the five pairs lie below `folder`: `Dataset/` as it was released, or right there."""
    return next((base for base in ("Dataset/", "") if has(folder, *(base + inner for inner in _FOLDERS))), None)


def _signs(folder: Path) -> Sign | None:
    base = _base(folder)
    return None if base is None else Sign(f"{base}P1 to {base}P5, each with cam1 and cam2")


LAYOUT = Layout("CUHK02", "Dataset/P1 to Dataset/P5, each with cam1 and cam2", _signs)


def read_cuhk02(root: Path, *, name: str | None = None) -> Reading:
    """Read CUHK02.

    Identities are numbered within a pair, so they are named with it (`P1-0001`). P1 to P4 are the training
    split; P5 is the test, one camera against the other, as its authors had it. To train on all 7,264 images,
    as protocol P1 does, use train, query and gallery together.

    Args:
        root: The folder that holds Dataset, or P1 to P5.
        name: The domain's name; `cuhk02` when None.

    Raises:
        DataError: A folder is missing.
    """
    check_layout(root, LAYOUT)
    domain, base = name or "cuhk02", _base(root) or ""
    folders = [base + inner.rstrip("/") for inner in _FOLDERS]
    files, skipped = named_files(root, folders, _NAME, "001_01.png")
    records: list[ImageRecord] = []
    for file in files:
        pair, view = file.folder.removeprefix(base).split("/")
        test: Split = "query" if view == _VIEWS[0] else "gallery"
        records.append(
            ImageRecord(
                path=file.path,
                identity=f"{pair}-{int(file.match['identity']):04d}",
                camera=f"{pair}-{view}",
                split=test if pair == _TEST_PAIR else "train",
                domain=domain,
            )
        )
    return Reading(domain, "cuhk02", VERSION, root, records, skipped)
