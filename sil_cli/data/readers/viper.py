"""VIPeR (Gray et al., PETS 2007): 632 people, each seen once by two cameras."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sil_cli.data.manifest import ImageRecord, Split
from sil_cli.data.readers.common import check_partition, draw, named_files
from sil_cli.data.readers.layout import Layout, Sign, check_layout, has, image_named
from sil_cli.data.reading import Reading

if TYPE_CHECKING:
    from pathlib import Path

VERSION = 1

_FOLDERS: dict[str, Split] = {"cam_a": "query", "cam_b": "gallery"}
_ENTRIES = ("cam_a/", "cam_b/")
_NAME = re.compile(r"(?P<identity>\d+)_\d+\..+")


def _signs(folder: Path) -> Sign | None:
    name = image_named(folder / "cam_a", _NAME) if has(folder, *_ENTRIES) else None
    return Sign(f"cam_a and cam_b, with names such as {name}") if name else None


LAYOUT = Layout("VIPeR", "cam_a and cam_b", _signs, _ENTRIES)


def read_viper(root: Path, *, name: str | None = None, partition: int = 1, seed: int = 0) -> Reading:
    """Read VIPeR.

    A name such as `000_45.bmp` begins with the identity; the angle of view follows. Half of the people (316) are
    drawn for training; of the others, camera A's images are the queries and camera B's the gallery.

    Args:
        root: The folder that holds cam_a and cam_b.
        name: The domain's name; `viper` when None.
        partition: Which random half, from 1; the field reports the mean of ten.
        seed: Draws the halves.

    Raises:
        DataError: A folder is missing.
        UsageError: The partition is below 1.
    """
    check_layout(root, LAYOUT)
    check_partition(partition)
    domain = name or "viper"
    files, skipped = named_files(root, _FOLDERS, _NAME, "000_45.bmp")
    people = {file.match["identity"] for file in files}
    trained = frozenset(draw(people, len(people) // 2, partition=partition, seed=seed))
    records = [
        ImageRecord(
            path=file.path,
            identity=file.match["identity"],
            camera=file.folder.removeprefix("cam_"),
            split="train" if file.match["identity"] in trained else _FOLDERS[file.folder],
            domain=domain,
        )
        for file in files
    ]
    options = {"partition": partition, "seed": seed}
    return Reading(domain, "viper", VERSION, root, records, skipped, options)
