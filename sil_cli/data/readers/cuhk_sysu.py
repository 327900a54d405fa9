"""CUHK-SYSU (Xiao et al., CVPR 2017): crops in three layouts, or the original frames with boxes; training only."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sil_cli.data.manifest import ImageRecord, Skipped
from sil_cli.data.readers.layout import FolderLayout, Sign, check_layout, has, image_named
from sil_cli.data.readers.matlab import load_v5
from sil_cli.data.readers.named_files import left_out, named_files
from sil_cli.data.reading import Reading
from sil_cli.data.walking import find_image_files
from sil_cli.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

_CROPS: tuple[tuple[str, re.Pattern[str], str], ...] = (
    ("cropped_images", re.compile(r"p(?P<identity>\d+)_s(?P<scene>\d+)_\d+\.\w+"), "p11422_s16929_1.jpg"),
    (
        "cropped_image",
        re.compile(r"p(?P<identity>\d+)_n\d+_s(?P<scene>\d+)_hard\d\.\w+"),
        "p00001_n01_s00001_hard0.png",
    ),
    ("bounding_box_train", re.compile(r"p?(?P<identity>\d+)_c\d+_\w+\.jpe?g", re.IGNORECASE), "0001_c1_00001.jpg"),
)
"""Folder, names, and an example of the layouts in circulation."""

_FRAMES = "Image/SSM"
_PERSONS = "annotation/Person.mat"


def _crops(folder: Path) -> tuple[str, re.Pattern[str], str] | None:
    for layout in _CROPS:
        if image_named(folder / layout[0], layout[1]) and not has(folder, "query/", "bounding_box_test/"):
            return layout
    return None


def _signs(folder: Path) -> Sign | None:
    crops = _crops(folder)
    if crops:
        return Sign(f"{crops[0]}, with names such as {crops[2]}")
    if has(folder, f"{_FRAMES}/", _PERSONS):
        return Sign(f"the frames {_FRAMES} and the annotation {_PERSONS}")
    return None


CUHK_SYSU = FolderLayout(
    "CUHK-SYSU", "cropped_images, cropped_image, bounding_box_train alone, or Image/SSM and annotation", look=_signs
)


def read_cuhk_sysu(root: Path, *, name: str | None = None) -> Reading:
    """Read CUHK-SYSU: all 34,574 images of 11,934 people as a training split, since they have no camera labels.

    Args:
        root: The folder that holds the crops' folder, or Image and annotation of the original release.
        name: The domain's name; `cuhk-sysu` when None.

    Raises:
        DataError: There is nothing of that kind, or the annotation is damaged.
    """
    check_layout(root, CUHK_SYSU)
    domain = name or "cuhk-sysu"
    crops = _crops(root)
    if crops is None:
        records, skipped = _from_frames(root, domain)
        layout = "frames"
    else:
        layout, pattern, example = crops
        files, skipped = named_files(root, [layout], pattern, example)
        records = [file.record(domain, "train", identity=_identity(file.match["identity"])) for file in files]
    return Reading(domain, "cuhk-sysu", root, records, skipped, {"layout": layout})


def _identity(digits: str) -> str:
    return f"{int(digits):05d}"


def _from_frames(root: Path, domain: str) -> tuple[list[ImageRecord], list[Skipped]]:
    """Cut people out of frames by `Person.mat`: the people who are seen in at least two frames.

    Its boxes are (left, top, width, height); the authors' read-me cuts frame(top : top + height, left : left +
    width) in MATLAB, which counts from 1 and takes the last pixel too.
    """
    found = find_image_files(root / _FRAMES)
    frames = {path.rpartition("/")[2]: path for path in found.paths}
    skipped = [Skipped(path=f"{_FRAMES}/{skip.path}", reason=skip.reason) for skip in found.skipped]
    records: list[ImageRecord] = []
    seen: set[tuple[str, tuple[int, int, int, int]]] = set()
    twice = 0
    for identity, frame, box in _appearances(root / _PERSONS):
        if frame not in frames:
            skipped.append(Skipped(path=f"{_FRAMES}/{frame}", reason=f"not there, but in {_PERSONS}"))
            continue
        path = f"{_FRAMES}/{frames[frame]}"
        if (path, box) in seen:
            twice += 1
            continue
        seen.add((path, box))
        records.append(ImageRecord(path=path, identity=identity, split="train", domain=domain, box=box))
    skipped += left_out(_PERSONS, twice, "a box that was given to somebody already")
    return records, skipped


def _appearances(path: Path) -> list[tuple[str, str, tuple[int, int, int, int]]]:
    """(identity, frame, box) of every appearance in `Person.mat`, in its order."""
    people = load_v5(path, "Person")["Person"].ravel()
    try:
        return [
            (_identity(_text(person["idname"]).lstrip("p")), _text(scene["imname"]), _box(scene["idlocate"]))
            for person in people
            for scene in person["scene"].ravel()
        ]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is not CUHK-SYSU's annotation of persons.", "Unpack the release again.") from error


def _text(value: Any) -> str:
    return str(value.item())


def _box(value: Any) -> tuple[int, int, int, int]:
    left, top, width, height = (int(number) for number in value.ravel())
    return left - 1, top - 1, width + 1, height + 1
