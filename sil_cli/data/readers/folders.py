"""A folder per identity, which is how most people keep crops of their own."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from sil_cli.data.manifest import Skipped
from sil_cli.data.readers.common import Sighting, SplitMode, check_root, domain_name, split_of, to_records
from sil_cli.data.reading import Reading
from sil_cli.data.walking import find_image_files

if TYPE_CHECKING:
    from pathlib import Path

VERSION = 1


def read_folders(root: Path, *, name: str | None = None, split: SplitMode = "train", seed: int = 0) -> Reading:
    """Read `ROOT/IDENTITY/….jpg`, or `ROOT/train/IDENTITY/….jpg` with `query`, `gallery` or `test` beside `train`.

    The second layout is taken when any image lies two or more folders deep below one that is named after a
    split. Folders inside an identity's folder belong to that identity. Cameras stay unknown: where names or
    inner folders tell them, use the `regex` reader.

    Args:
        root: The folder of folders.
        name: The domain's name; from the folder's name when None.
        split: What to do with images of no known split (see `SplitMode`).
        seed: Draws the identities for `half`.

    Raises:
        DataError: `root` is missing or not a folder.
    """
    check_root(root)
    found = find_image_files(root)
    parts = {path: PurePosixPath(path).parts for path in found.paths}
    has_splits = any(len(inner) > 2 and split_of(inner[0]) for inner in parts.values())
    sightings: list[Sighting] = []
    skipped = list(found.skipped)
    for path, inner in parts.items():
        known = split_of(inner[0]) if has_splits else None
        folders = inner[:-1] if known is None else inner[1:-1]
        if has_splits and known is None:
            skipped.append(Skipped(path=path, reason="outside the folders train, query and gallery"))
        elif not folders:
            skipped.append(Skipped(path=path, reason="not in an identity's folder"))
        else:
            sightings.append(Sighting(path, identity=folders[0], split=known))
    domain = domain_name(root, name)
    records = to_records(sightings, domain=domain, split=split, seed=seed)
    return Reading(domain, "folders", VERSION, root, records, skipped, {"split": split, "seed": seed})
