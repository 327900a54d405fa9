"""DukeMTMC-reID (Ristani et al., ECCVW 2016; Zheng et al., ICCV 2017), which its authors withdrew in 2019."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sil_cli.data.manifest import ImageRecord
from sil_cli.data.readers.common import named_files
from sil_cli.data.readers.layout import Layout, Sign, check_layout, has, image_named
from sil_cli.data.readers.market1501 import ENTRIES, FOLDERS
from sil_cli.data.reading import Reading

if TYPE_CHECKING:
    from pathlib import Path

VERSION = 1
NOTICE = (
    "DukeMTMC-reID was withdrawn by its authors in 2019, because the people in it had not agreed to be filmed. "
    "Don't build on it without asking whoever answers for ethics where you work; other sets serve the same purpose."
)

_NAME = re.compile(r"(?P<identity>\d+)_c(?P<camera>\d+)_f(?P<frame>\d+)\..+")


def _signs(folder: Path) -> Sign | None:
    name = image_named(folder / "bounding_box_train", _NAME) if has(folder, *ENTRIES) else None
    return Sign(f"bounding_box_train, query and bounding_box_test, with names such as {name}") if name else None


LAYOUT = Layout("DukeMTMC-reID", "bounding_box_train, query and bounding_box_test", _signs, ENTRIES)


def read_dukemtmc(root: Path, *, name: str | None = None) -> Reading:
    """Read DukeMTMC-reID.

    A name such as `0005_c2_f0046985.jpg` says: identity 5, camera 2, frame 46985. The 408 identities that are in
    the gallery but never a query are ordinary people with labels, whom the field trains on when it joins train
    and test (36,411 images of 1,812 identities); so they are not marked as distractors.

    Args:
        root: The folder that holds bounding_box_train, query and bounding_box_test.
        name: The domain's name; `dukemtmc` when None.

    Raises:
        DataError: A folder is missing, with a guess at what happened when it was unpacked.
    """
    check_layout(root, LAYOUT)
    domain = name or "dukemtmc"
    files, skipped = named_files(root, FOLDERS, _NAME, "0005_c2_f0046985.jpg")
    records = [
        ImageRecord(
            path=file.path,
            identity=file.match["identity"],
            camera=file.match["camera"],
            split=FOLDERS[file.folder],
            domain=domain,
            frame=int(file.match["frame"]),
        )
        for file in files
    ]
    return Reading(domain, "dukemtmc", VERSION, root, records, skipped)
