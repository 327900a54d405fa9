"""RandPerson (Wang et al., ACM MM 2020) and ClonedPerson (Wang et al., CVPR 2022): people who were never filmed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sil_cli.data.manifest import ImageRecord, Split
from sil_cli.data.readers.common import named_files
from sil_cli.data.readers.layout import Layout, Sign, check_layout, child_folders, has, image_named, locked_folder
from sil_cli.data.reading import Reading

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sil_cli.data.manifest import Skipped

VERSION = 1

_NAME = re.compile(r"(?P<identity>\d+)_s(?P<scene>\d+)_c(?P<camera>\d+)_f(?P<frame>\d+)\..+")
_CLONED: dict[str, Split] = {"train": "train", "test/query": "query", "test/gallery": "gallery"}
_CLONED_ENTRIES = tuple(f"{folder}/" for folder in _CLONED)
_SUBSETS = ("randperson_subset", "subset")
_SCENE = re.compile(r"scene\d+")


def _rand_folders(folder: Path) -> list[str]:
    """Where RandPerson's images lie: its published subset, or the folders of all scenes."""
    subset = next((inner for inner in _SUBSETS if image_named(folder / inner, _NAME)), None)
    if subset:
        return [subset]
    scenes = [child for child in child_folders(folder) if _SCENE.fullmatch(child.name)]
    if not any(_holds_images(scene) for scene in scenes):
        return []
    # A locked one is not left out in silence: whoever lists it says so.
    return [scene.name for scene in scenes if _holds_images(scene) or locked_folder(scene, depth=1)]


def _holds_images(scene: Path) -> bool:
    return any(image_named(inner, _NAME) for inner in (scene, *child_folders(scene)))


def _rand_signs(folder: Path) -> Sign | None:
    folders = _rand_folders(folder)
    return Sign(f"images named like 000000_s00_c00_f000264.jpg in {folders[0]}") if folders else None


def _cloned_signs(folder: Path) -> Sign | None:
    name = image_named(folder / "train", _NAME) if has(folder, *_CLONED_ENTRIES) else None
    return Sign(f"train, test/query and test/gallery, with names such as {name}") if name else None


RANDPERSON = Layout("RandPerson", "randperson_subset, or the unpacked scene00 to scene10", _rand_signs)
CLONEDPERSON = Layout("ClonedPerson", "train, test/query and test/gallery", _cloned_signs, _CLONED_ENTRIES)


def read_randperson(root: Path, *, name: str | None = None) -> Reading:
    """Read RandPerson: the published subset, or all scenes where their archives were unpacked; for training only.

    A name such as `000000_s00_c00_f000264.jpg` says: identity, scene, camera of that scene, frame.

    Args:
        root: The folder that holds randperson_subset, or scene00 and its like with their archives unpacked.
        name: The domain's name; `randperson` when None.

    Raises:
        DataError: There is nothing of that kind.
    """
    check_layout(root, RANDPERSON)
    domain = name or "randperson"
    folders = _rand_folders(root)
    splits: dict[str, Split] = dict.fromkeys(folders, "train")
    records, skipped = _rendered(root, splits, domain)
    options = {"subset": not any(_SCENE.fullmatch(folder) for folder in folders)}
    return Reading(domain, "randperson", VERSION, root, records, skipped, options, generated=True)


def read_clonedperson(root: Path, *, name: str | None = None) -> Reading:
    """Read ClonedPerson; names are RandPerson's.

    Args:
        root: The folder that holds train and test.
        name: The domain's name; `clonedperson` when None.

    Raises:
        DataError: A folder is missing.
    """
    check_layout(root, CLONEDPERSON)
    domain = name or "clonedperson"
    records, skipped = _rendered(root, _CLONED, domain)
    return Reading(domain, "clonedperson", VERSION, root, records, skipped, generated=True)


def _rendered(root: Path, folders: Mapping[str, Split], domain: str) -> tuple[list[ImageRecord], list[Skipped]]:
    files, skipped = named_files(root, folders, _NAME, "000000_s00_c00_f000264.jpg")
    records = [
        ImageRecord(
            path=file.path,
            identity=file.match["identity"],
            camera=f"s{file.match['scene']}-c{file.match['camera']}",
            split=folders[file.folder],
            domain=domain,
            frame=int(file.match["frame"]),
        )
        for file in files
    ]
    return records, skipped
