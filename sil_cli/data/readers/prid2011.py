"""PRID2011, single shot (Hirzer et al., SCIA 2011): two cameras that share 200 people."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sil_cli.data.manifest import ImageRecord, Split
from sil_cli.data.readers.common import check_partition, draw, left_out, named_files
from sil_cli.data.readers.layout import Layout, Sign, check_layout, has, image_named
from sil_cli.data.reading import Reading

if TYPE_CHECKING:
    from pathlib import Path

VERSION = 1

_SHARED, _TRAIN = 200, 100
_FOLDERS = {"single_shot/cam_a": "a", "single_shot/cam_b": "b"}
_ENTRIES = tuple(f"{folder}/" for folder in _FOLDERS)
_NAME = re.compile(r"person_(?P<identity>\d+)\..+")


def _signs(folder: Path) -> Sign | None:
    name = image_named(folder / "single_shot" / "cam_a", _NAME) if has(folder, *_ENTRIES) else None
    return Sign(f"single_shot/cam_a and single_shot/cam_b, with names such as {name}") if name else None


LAYOUT = Layout("PRID2011", "single_shot/cam_a and single_shot/cam_b", _signs, _ENTRIES)


def read_prid2011(root: Path, *, name: str | None = None, partition: int = 1, seed: int = 0) -> Reading:
    """Read the single-shot half of PRID2011.

    Persons 1 to 200 are the same in both cameras. 100 of them are drawn for training; the other 100 are the
    test: camera A's images are the queries, and camera B's images of the same people together with those of its
    549 others the gallery (649). Persons above 200 are different people in A and in B: B's are distractors, and
    A's 185 have no part in the protocol.

    Args:
        root: The folder that holds single_shot.
        name: The domain's name; `prid2011` when None.
        partition: Which random half, from 1; the field reports the mean of ten.
        seed: Draws the halves.

    Raises:
        DataError: A folder is missing.
        UsageError: The partition is below 1.
    """
    check_layout(root, LAYOUT)
    check_partition(partition)
    domain = name or "prid2011"
    shared = [f"{number:04d}" for number in range(1, _SHARED + 1)]
    trained = frozenset(draw(shared, _TRAIN, partition=partition, seed=seed))
    files, skipped = named_files(root, _FOLDERS, _NAME, "person_0001.png")
    records: list[ImageRecord] = []
    alone = 0
    for file in files:
        camera, number = _FOLDERS[file.folder], int(file.match["identity"])
        identity = f"{number:04d}"
        if number > _SHARED and camera == "a":
            alone += 1
            continue
        test: Split = "query" if camera == "a" else "gallery"
        records.append(
            ImageRecord(
                path=file.path,
                identity=identity,
                camera=camera,
                split="train" if identity in trained else test,
                domain=domain,
                distractor=number > _SHARED,
            )
        )
    skipped += left_out("single_shot/cam_a/*", alone, "people whom only camera A saw: not in the protocol")
    options = {"partition": partition, "seed": seed}
    return Reading(domain, "prid2011", VERSION, root, records, skipped, options)
