"""MSMT17 (Wei et al., CVPR 2018), version 1 and version 2, which blurs faces: folders of people and four lists."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from sil_cli.data.manifest import ImageRecord, Skipped, Split
from sil_cli.data.readers.layout import FolderLayout, Sign, check_layout, has
from sil_cli.data.readers.named_files import left_out
from sil_cli.data.reading import Reading
from sil_cli.data.walking import find_image_files
from sil_cli.errors import DataError, one_line
from sil_cli.files import read_text

if TYPE_CHECKING:
    from pathlib import Path

_LISTS: dict[str, Split] = {
    "list_train.txt": "train",
    "list_val.txt": "train",
    "list_query.txt": "query",
    "list_gallery.txt": "gallery",
}
_FOLDERS = {1: ("train", "test"), 2: ("mask_train_v2", "mask_test_v2")}
_NAME = re.compile(r"\d+_\d+_(?P<camera>\d+)_.+")


def _version(folder: Path) -> int | None:
    """1 or 2 by the folders of images; None when neither pair is there."""
    return next((number for number, pair in _FOLDERS.items() if has(folder, *(f"{one}/" for one in pair))), None)


def _signs(folder: Path) -> Sign | None:
    version = _version(folder)
    if version is None or not has(folder, *_LISTS):
        return None
    return Sign(f"list_train.txt and three more lists beside {' and '.join(_FOLDERS[version])}")


MSMT17 = FolderLayout(
    "MSMT17", "list_train.txt, list_val.txt, list_query.txt and list_gallery.txt", tuple(_LISTS), look=_signs
)


class _Line(NamedTuple):
    """One line of a list: `0000/0000_000_01_0303morning_0015_0.jpg 0`."""

    path: str
    identity: int
    camera: str


def read_msmt17(root: Path, *, name: str | None = None) -> Reading:
    """Read MSMT17 by its lists.

    The training split is list_train and list_val together (32,621 images), as the field uses it. In the lists
    the people of the training folder and those of the test folder are both numbered from 0; those of the test
    are moved up here, so that an identity means one person. The camera is the third part of a file's name.

    Args:
        root: The folder that holds the four lists and train and test (V1) or mask_train_v2 and mask_test_v2 (V2).
        name: The domain's name; `msmt17-v1` or `msmt17-v2` when None.

    Raises:
        DataError: A list or a folder is missing, a list is not text, or lists and images are of different versions.
    """
    check_layout(root, MSMT17)
    version = _version(root)
    if version is None:
        raise DataError(
            f"{root} has MSMT17's lists, but neither train and test (V1) nor mask_train_v2 and mask_test_v2 (V2).",
            "Unpack the images beside the lists.",
        )
    domain = name or f"msmt17-v{version}"
    skipped: list[Skipped] = []
    lines = {file: _read_list(root / file, skipped) for file in _LISTS}
    trained = [line.identity for file, split in _LISTS.items() if split == "train" for line in lines[file]]
    offset = 1 + max(trained, default=-1)
    records: list[ImageRecord] = []
    for folder in _FOLDERS[version]:
        is_train = folder == _FOLDERS[version][0]
        found = find_image_files(root / folder)
        there, unlisted = frozenset(found.paths), set(found.paths)
        skipped += [Skipped(path=f"{folder}/{skip.path}", reason=skip.reason) for skip in found.skipped]
        for file, split in _LISTS.items():
            if (split == "train") != is_train:
                continue
            for line in lines[file]:
                path = f"{folder}/{line.path}"
                if line.path not in unlisted:
                    reason = f"named twice, again in {file}" if line.path in there else f"not there, but in {file}"
                    skipped.append(Skipped(path=path, reason=reason))
                    continue
                unlisted.discard(line.path)
                identity = f"{line.identity + (0 if is_train else offset):04d}"
                records.append(
                    ImageRecord(path=path, identity=identity, camera=line.camera, split=split, domain=domain)
                )
        skipped += left_out(f"{folder}/*", len(unlisted), "in no list")
    if not records and any(lines.values()):
        raise DataError(
            f"No image that the lists in {root} name lies in {' or '.join(_FOLDERS[version])}.",
            "Lists and images are of different versions: take both from the same archive.",
        )
    return Reading(domain, "msmt17", root, records, skipped, {"version": version})


def _read_list(path: Path, skipped: list[Skipped]) -> list[_Line]:
    """Parse one list; lines that make no sense are added to `skipped`."""
    try:
        text = read_text(path, most=64_000_000)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} can't be read: {one_line(error)}.", "Unpack it again.") from error
    lines: list[_Line] = []
    for number, row in enumerate(text.splitlines(), start=1):
        inner, _, identity = row.strip().rpartition(" ")
        inner = inner.strip().replace("\\", "/").removeprefix("./")
        match = _NAME.fullmatch(inner.rpartition("/")[2])
        if match and identity.isascii() and identity.isdecimal():
            lines.append(_Line(inner, int(identity), str(int(match["camera"]))))
        elif row.strip():
            reason = f"line {number} is not like 0000/0000_000_01_0303morning_0015_0.jpg 0"
            skipped.append(Skipped(path=path.name, reason=reason))
    return lines
