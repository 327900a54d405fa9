"""GRID, QMUL underground re-identification (Loy et al., CVPR 2009): eight cameras in a station."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sil_cli.data.manifest import ImageRecord, Split
from sil_cli.data.readers.common import check_partition, named_files
from sil_cli.data.readers.layout import Layout, Sign, check_layout, has, image_named
from sil_cli.data.readers.matlab import load_v5
from sil_cli.data.reading import Reading
from sil_cli.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

VERSION = 1
PARTITIONS = 10

_PARTITION_FILE = "features_and_partitions.mat"
_FOLDERS: dict[str, Split] = {"probe": "query", "gallery": "gallery"}
_ENTRIES = ("probe/", "gallery/", _PARTITION_FILE)
_NAME = re.compile(r"(?P<identity>\d{4})_(?P<camera>\d+)_.+")
_DISTRACTOR, _PEOPLE = 0, 250
_TRAINED_FIELD = 2  # of the struct that a partition is: the field that holds the people trained on


def _signs(folder: Path) -> Sign | None:
    name = image_named(folder / "probe", _NAME) if has(folder, *_ENTRIES) else None
    return Sign(f"probe, gallery and {_PARTITION_FILE}, with names such as {name}") if name else None


LAYOUT = Layout("GRID", f"probe, gallery and {_PARTITION_FILE}", _signs, _ENTRIES)


def read_grid(root: Path, *, name: str | None = None, partition: int = 1) -> Reading:
    """Read GRID by one of its own ten partitions.

    A name such as `0001_1_25004_107_32_106_221.jpeg` begins with the identity and the camera. A partition trains
    on 125 people; the others are the test: their 125 probes against their 125 gallery images and 775 of identity
    0, which are distractors.

    Args:
        root: The folder that holds probe, gallery and features_and_partitions.mat.
        name: The domain's name; `grid` when None.
        partition: Which of the authors' partitions, 1 to 10; the field reports the mean of all.

    Raises:
        DataError: A folder or the partitions are missing or damaged, or scipy is not installed.
        UsageError: There is no such partition.
    """
    check_layout(root, LAYOUT)
    check_partition(partition, PARTITIONS)
    domain = name or "grid"
    trained = _trained(root / _PARTITION_FILE, partition)
    files, skipped = named_files(root, _FOLDERS, _NAME, "0001_1_25004_107_32_106_221.jpeg")
    records = [
        ImageRecord(
            path=file.path,
            identity=file.match["identity"],
            camera=file.match["camera"],
            split="train" if int(file.match["identity"]) in trained else _FOLDERS[file.folder],
            domain=domain,
            distractor=int(file.match["identity"]) == _DISTRACTOR,
        )
        for file in files
    ]
    return Reading(domain, "grid", VERSION, root, records, skipped, {"partition": partition})


def _trained(path: Path, partition: int) -> frozenset[int]:
    """The people that a partition trains on: third field of the struct in this cell of `trainIdxAll`."""
    cells = load_v5(path, "trainIdxAll")["trainIdxAll"].ravel()
    try:
        struct = cells[partition - 1].ravel()[0]
        trained = frozenset(int(number) for number in struct[_TRAINED_FIELD].ravel())
    except (IndexError, AttributeError, TypeError, ValueError):
        trained = frozenset()
    if not trained or min(trained) < 1 or max(trained) > _PEOPLE:
        raise DataError(f"{path} does not hold GRID's partition {partition}.", "Unpack underground_reid.zip again.")
    return trained
