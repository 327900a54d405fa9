"""Data sets whose folders and file names say it all: Market-1501, DukeMTMC-reID, CUHK02, RandPerson, ClonedPerson."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from sil_cli.data.manifest import Skipped, Split
from sil_cli.data.readers.layout import (
    FolderLayout,
    Sign,
    check_layout,
    child_folders,
    has,
    image_named,
    locked_folder,
)
from sil_cli.data.readers.named_files import left_out, named_files
from sil_cli.data.reading import Reading

if TYPE_CHECKING:
    from pathlib import Path

    from sil_cli.data.manifest import ImageRecord

MARKET_FOLDERS: dict[str, Split] = {"bounding_box_train": "train", "query": "query", "bounding_box_test": "gallery"}
"""The three folders that Market-1501 introduced and that others took over."""

MARKET_ENTRIES = tuple(f"{folder}/" for folder in MARKET_FOLDERS)

_MARKET_NEEDS = "bounding_box_train, query and bounding_box_test"
_MARKET_NAME = re.compile(r"(?P<identity>-1|\d+)_c(?P<camera>\d+)s\d+_(?P<frame>\d+)_\d+\..+")
_JUNK, _DISTRACTOR = -1, 0
MARKET1501 = FolderLayout("Market-1501", _MARKET_NEEDS, MARKET_ENTRIES, _MARKET_NAME)

_DUKE_NAME = re.compile(r"(?P<identity>\d+)_c(?P<camera>\d+)_f(?P<frame>\d+)\..+")
DUKEMTMC = FolderLayout("DukeMTMC-reID", _MARKET_NEEDS, MARKET_ENTRIES, _DUKE_NAME)
DUKEMTMC_NOTICE = (
    "DukeMTMC-reID was withdrawn by its authors in 2019, because the people in it had not agreed to be filmed. "
    "Don't build on it without asking whoever answers for ethics where you work; other sets serve the same purpose."
)

_CUHK02_FOLDERS = tuple(f"P{pair}/cam{view}/" for pair in range(1, 6) for view in (1, 2))
_CUHK02_TEST = "P5"
_CUHK02_NAME = re.compile(r"(?P<identity>\d+)_.+")

_RENDERED_NAME = re.compile(r"(?P<identity>\d+)_s(?P<scene>\d+)_c(?P<camera>\d+)_f(?P<frame>\d+)\..+")
_RENDERED_EXAMPLE = "000000_s00_c00_f000264.jpg"
_RAND_SUBSETS = ("randperson_subset", "subset")
_RAND_SCENE = re.compile(r"scene\d+")
_CLONED_FOLDERS: dict[str, Split] = {"train": "train", "test/query": "query", "test/gallery": "gallery"}
CLONEDPERSON = FolderLayout(
    "ClonedPerson",
    "train, test/query and test/gallery",
    tuple(f"{folder}/" for folder in _CLONED_FOLDERS),
    _RENDERED_NAME,
)


def read_market1501(root: Path, *, name: str | None = None) -> Reading:
    """Read Market-1501 (Zheng et al., ICCV 2015) as it was released.

    A name such as `0002_c1s1_000451_03.jpg` says: identity 2, camera 1, sequence 1, frame 451 of that sequence,
    third detection. Identity 0 is a distractor and stays in the gallery. Identity -1 is junk, which evaluation
    would ignore: it is left out, as one line that counts it.

    Args:
        root: The folder that holds bounding_box_train, query and bounding_box_test.
        name: The domain's name; `market1501` when None.

    Raises:
        DataError: A folder is missing, with a guess at what happened when it was unpacked.
    """
    check_layout(root, MARKET1501)
    domain = name or "market1501"
    files, skipped = named_files(root, MARKET_FOLDERS, _MARKET_NAME, "0002_c1s1_000451_03.jpg")
    records: list[ImageRecord] = []
    junk: Counter[str] = Counter()
    for file in files:
        identity, split = int(file.match["identity"]), MARKET_FOLDERS[file.folder]
        if identity == _JUNK:
            junk[file.folder] += 1
        elif identity == _DISTRACTOR and split != "gallery":
            skipped.append(Skipped(path=file.path, reason="identity 0 (a distractor) outside the gallery"))
        else:
            records.append(file.record(domain, split, distractor=identity == _DISTRACTOR))
    for folder, count in junk.items():
        skipped += left_out(f"{folder}/-1_*", count, "junk by its name")
    return Reading(domain, "market1501", root, records, skipped)


def read_dukemtmc(root: Path, *, name: str | None = None) -> Reading:
    """Read DukeMTMC-reID (Ristani et al., ECCVW 2016; Zheng et al., ICCV 2017).

    A name such as `0005_c2_f0046985.jpg` says: identity 5, camera 2, frame 46985. The 408 identities that are in
    the gallery but never a query are ordinary people with labels, whom the field trains on when it joins train
    and test (36,411 images of 1,812 identities); so they are not marked as distractors.

    Args:
        root: The folder that holds bounding_box_train, query and bounding_box_test.
        name: The domain's name; `dukemtmc` when None.

    Raises:
        DataError: A folder is missing, with a guess at what happened when it was unpacked.
    """
    check_layout(root, DUKEMTMC)
    domain = name or "dukemtmc"
    files, skipped = named_files(root, MARKET_FOLDERS, _DUKE_NAME, "0005_c2_f0046985.jpg")
    records = [file.record(domain, MARKET_FOLDERS[file.folder]) for file in files]
    return Reading(domain, "dukemtmc", root, records, skipped)


def _cuhk02_base(folder: Path) -> str | None:
    """Where the five pairs lie below `folder`: `Dataset/` as it was released, or right there."""
    return next((base for base in ("Dataset/", "") if has(folder, *(base + inner for inner in _CUHK02_FOLDERS))), None)


def _cuhk02_signs(folder: Path) -> Sign | None:
    base = _cuhk02_base(folder)
    return None if base is None else Sign(f"{base}P1 to {base}P5, each with cam1 and cam2")


CUHK02 = FolderLayout("CUHK02", "Dataset/P1 to Dataset/P5, each with cam1 and cam2", look=_cuhk02_signs)


def read_cuhk02(root: Path, *, name: str | None = None) -> Reading:
    """Read CUHK02 (Li and Wang, CVPR 2013): five pairs of cameras.

    Identities are numbered within a pair, so they are named with it (`P1-0001`). P1 to P4 are the training
    split; P5 is the test, one camera against the other, as its authors had it. To train on all 7,264 images,
    as protocol P1 does, use train, query and gallery together.

    Args:
        root: The folder that holds Dataset, or P1 to P5.
        name: The domain's name; `cuhk02` when None.

    Raises:
        DataError: A folder is missing.
    """
    check_layout(root, CUHK02)
    domain, base = name or "cuhk02", _cuhk02_base(root) or ""
    folders = [base + inner.rstrip("/") for inner in _CUHK02_FOLDERS]
    files, skipped = named_files(root, folders, _CUHK02_NAME, "001_01.png")
    records: list[ImageRecord] = []
    for file in files:
        pair, view = file.folder.removeprefix(base).split("/")
        test: Split = "query" if view == "cam1" else "gallery"
        identity = f"{pair}-{int(file.match['identity']):04d}"
        split = test if pair == _CUHK02_TEST else "train"
        records.append(file.record(domain, split, identity=identity, camera=f"{pair}-{view}"))
    return Reading(domain, "cuhk02", root, records, skipped)


def _rand_folders(folder: Path) -> list[str]:
    """Where RandPerson's images lie: its published subset, or the folders of all scenes."""
    subset = next((inner for inner in _RAND_SUBSETS if image_named(folder / inner, _RENDERED_NAME)), None)
    if subset:
        return [subset]
    scenes = [child for child in child_folders(folder) if _RAND_SCENE.fullmatch(child.name)]
    full = [scene for scene in scenes if _holds_images(scene)]
    # A locked one is not left out in silence: whoever lists it says so.
    return [scene.name for scene in scenes if scene in full or locked_folder(scene, depth=1)] if full else []


def _holds_images(scene: Path) -> bool:
    return any(image_named(inner, _RENDERED_NAME) for inner in (scene, *child_folders(scene)))


def _rand_signs(folder: Path) -> Sign | None:
    folders = _rand_folders(folder)
    return Sign(f"images named like {_RENDERED_EXAMPLE} in {folders[0]}") if folders else None


RANDPERSON = FolderLayout("RandPerson", "randperson_subset, or the unpacked scene00 to scene10", look=_rand_signs)


def read_randperson(root: Path, *, name: str | None = None) -> Reading:
    """Read RandPerson (Wang et al., ACM MM 2020), rendered people, for training only.

    The published subset is read, or all scenes where their archives were unpacked. A name such as
    `000000_s00_c00_f000264.jpg` says: identity, scene, camera of that scene, frame.

    Args:
        root: The folder that holds randperson_subset, or scene00 and its like with their archives unpacked.
        name: The domain's name; `randperson` when None.

    Raises:
        DataError: There is nothing of that kind.
    """
    check_layout(root, RANDPERSON)
    folders = _rand_folders(root)
    options = {"subset": not any(_RAND_SCENE.fullmatch(folder) for folder in folders)}
    return _rendered("randperson", root, dict.fromkeys(folders, "train"), name, options)


def read_clonedperson(root: Path, *, name: str | None = None) -> Reading:
    """Read ClonedPerson (Wang et al., CVPR 2022), rendered people; names are RandPerson's.

    Args:
        root: The folder that holds train and test.
        name: The domain's name; `clonedperson` when None.

    Raises:
        DataError: A folder is missing.
    """
    check_layout(root, CLONEDPERSON)
    return _rendered("clonedperson", root, _CLONED_FOLDERS, name, {})


def _rendered(
    reader: str, root: Path, folders: dict[str, Split], name: str | None, options: dict[str, bool]
) -> Reading:
    domain = name or reader
    files, skipped = named_files(root, folders, _RENDERED_NAME, _RENDERED_EXAMPLE)
    records = [
        file.record(domain, folders[file.folder], camera=f"s{file.match['scene']}-c{file.match['camera']}")
        for file in files
    ]
    return Reading(domain, reader, root, records, skipped, options, generated=True)
